"""Where a walk has come to: kept for a retry of the same run, and for the next run after a cap."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from airflow.sdk import Variable
from airflow.sdk.exceptions import AirflowRuntimeError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from pydantic import JsonValue

logger = logging.getLogger(__name__)

KEY = "position"
VARIABLE = "iam_watcher:position:{dag_id}:{task_id}"
SAVE_EVERY = 5.0  # seconds; a save costs about 20 ms, and walking a few seconds again changes nothing


class Bookmark:
    """The position of one task: for its next try in the task state store, for its next run in a Variable.

    The store survives a retry, a killed worker and a cleared task, so the position is dropped at the end.
    XCom can't serve the next run: which of the earlier runs' values it returns depends on the metadata
    database if some of them have no logical date.

    Args:
        context: of the running task.
        table: a position in another table is ignored.
        for_next_run: a cap may end this run, so the next one goes on there.
    """

    def __init__(self, context: Context, table: str, *, for_next_run: bool) -> None:
        self._store = context.get("task_state_store")
        self._table = table
        self._variable = None
        if for_next_run:
            ti = context["ti"]
            self._variable = VARIABLE.format(dag_id=ti.dag_id, task_id=ti.task_id)
        self._position: int | None = None
        self._save_at = time.monotonic() + SAVE_EVERY

    def read(self) -> int | None:
        """Return the key to begin behind, or None to begin at the first row."""
        kept = self._store.get(KEY) if self._store is not None else None
        if kept is None and self._variable is not None:
            kept = Variable.get(self._variable, default=None, deserialize_json=True)
        if isinstance(kept, dict) and kept.get("table") == self._table:
            return int(str(kept["after"]))
        return None

    def move(self, position: int) -> None:
        """Note how far the walk has come, and save it from time to time."""
        self._position = position
        if time.monotonic() >= self._save_at:
            self.save()

    def save(self) -> None:
        """Save the position for the next try. A store that can't be reached does not stop the job."""
        self._save_at = time.monotonic() + SAVE_EVERY
        if self._store is None or self._position is None:
            return
        try:
            self._store.set(KEY, self._value(self._position))
        except AirflowRuntimeError as error:
            logger.warning("event=position_not_saved error=%r", error)

    def end(self, position: int | None) -> None:
        """Note for the next run how far this one came; None if it came to the end of the table."""
        if self._variable is not None:
            if position is not None:
                Variable.set(self._variable, self._value(position), serialize_json=True)
            elif Variable.get(self._variable, default=None) is not None:
                Variable.delete(self._variable)
        if self._store is not None and self._store.get(KEY) is not None:
            self._store.delete(KEY)

    def _value(self, position: int) -> dict[str, JsonValue]:
        # As text: a key can be larger than the integers of some JSON readers.
        return {"table": self._table, "after": str(position)}
