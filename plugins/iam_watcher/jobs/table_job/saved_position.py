"""The saved position of a walk: for a retry of the same run, and for the next run after a limit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable
from airflow.sdk.exceptions import AirflowRuntimeError

from iam_watcher.errors import WalkError
from iam_watcher.log_lines import get_logger
from iam_watcher.task_variable import task_variable

if TYPE_CHECKING:
    from airflow.sdk import Context
    from pydantic import JsonValue

    from iam_watcher.database.key import Key, KeyValue

logger = get_logger(__name__)

KEY = "position"
VARIABLE = "iam_watcher:position:{dag_id}:{task_id}"
SAVE_EVERY = 5.0  # seconds; a save costs about 20 ms, and walking a few seconds again changes nothing


class SavedPosition:
    """The position of one task: for its next try in the task state store, for its next run in a Variable.

    The store survives a retry, a killed worker and a cleared task, so the position is dropped at the end of
    the table. XCom can't serve the next run: which of the earlier runs' values it returns depends on the
    metadata database if some of them have no logical date.

    Args:
        context: of the running task.
        database: server and name of the database; a position in another database is ignored.
        table: a position in another table is ignored.
        key: of the table; a position of a key with other columns, types or collations is ignored.
        counted: the run has a row limit. So the rows that each try changes are saved before the transaction
            that changes them, and stay saved until the run is over, whatever fails after the last of them.
        resumes: a limit may end this run before the end of the table. The next one resumes there.

    Attributes:
        after: the key to begin behind; None to begin at the first row.
        changed: rows that earlier tries of this run have changed or may have changed, as far as it was saved.
    """

    def __init__(
        self, context: Context, database: str, table: str, key: Key, *, counted: bool, resumes: bool
    ) -> None:
        self._store = context.get("task_state_store")
        self._database = database
        self._table = table
        self._key = key
        self._variable = task_variable(VARIABLE, context)
        self._counted = counted
        self.after: KeyValue | None = None
        self.changed = 0
        kept = self._kept(self._store.get(KEY) if self._store is not None else None)
        if kept is not None:
            self.changed = int(kept.get("changed", 0))
        elif resumes:
            kept = self._kept(Variable.get(self._variable, default=None, deserialize_json=True))
        if kept is not None:
            self.after = self._decoded(kept)
        self._position = self.after
        self._save_at = time.monotonic() + SAVE_EVERY

    def reserve(self, changed: int) -> None:
        """Save how many rows this try will have changed after the transaction that begins now.

        Raises:
            WalkError: it can't be saved. Without it, a retry would not know what is left of the row limit.
        """
        if not self._counted or self._store is None:
            return
        try:
            self._set(changed)
        except AirflowRuntimeError as error:
            raise WalkError(
                f"the number of rows that this run changes in {self._table} can't be saved, and max_rows "
                f"needs it: {error}. The next transaction was not begun; the retry resumes here"
            ) from error

    def move(self, position: KeyValue | None, changed: int) -> None:
        """Keep how far the walk has come, and save it every few seconds.

        Args:
            position: the key up to which everything is done; None if the walk does not go by the key.
            changed: rows that this try has changed or may have changed.
        """
        self._position = position
        if time.monotonic() >= self._save_at:
            self.save(changed)

    def save(self, changed: int) -> None:
        """Save the position for the next try. A store that can't be reached does not stop the job."""
        if self._store is None or (self._position is None and not self.changed + changed):
            return
        try:
            self._set(changed)
        except AirflowRuntimeError as error:
            logger.warning(
                "The position of the walk could not be saved. A retry begins at an earlier row. error=%r",
                error,
            )

    def end(self, position: KeyValue | None, changed: int) -> None:
        """Save for the next run how far this run came.

        Args:
            position: the key up to which everything is done; None if this run came to the end of the table.
            changed: rows that this try has changed or may have changed.
        """
        if position is not None:
            Variable.set(self._variable, self._value(position, 0), serialize_json=True)
        elif Variable.get(self._variable, default=None) is not None:
            Variable.delete(self._variable)
        if self._store is None:
            return
        if self._counted:
            self._position = position
            self._set(changed)
        elif self._store.get(KEY) is not None:
            self._store.delete(KEY)

    def _set(self, changed: int) -> None:
        self._save_at = time.monotonic() + SAVE_EVERY
        if self._store is not None:
            self._store.set(KEY, self._value(self._position, self.changed + changed))

    def _value(self, position: KeyValue | None, changed: int) -> dict[str, JsonValue]:
        # As texts: a key can be larger than the integers of some JSON readers.
        after: Any = None if position is None else self._key.encode(position)
        return {
            "database": self._database,
            "table": self._table,
            "key": self._key.signature,
            "after": after,
            "changed": changed,
        }

    def _decoded(self, kept: dict[str, Any]) -> KeyValue | None:
        """Return the saved key, or None if it is of other rows, or their order may be another one since."""
        after = kept.get("after")
        if after is None:
            return None
        # Older versions saved no database.
        for what, now in (("database", self._database), ("key", self._key.signature)):
            if (saved := kept.get(what)) != now:
                logger.warning(
                    "The saved position is ignored, because the %s of %s has changed since: saved for %r, "
                    "now %r. The walk begins at the first row.",
                    what,
                    self._table,
                    saved,
                    now,
                )
                return None
        return self._key.decode(after)

    def _kept(self, value: Any) -> dict[str, Any] | None:
        return value if isinstance(value, dict) and value.get("table") == self._table else None
