"""A change of rows: which rows of a table a walk writes, how, and with which result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.database.key import Key, KeyValue
    from iam_watcher.walk.pace import Limit


@dataclass(frozen=True)
class RowChange:
    """A change of rows: the condition that they meet, and the statement that writes them.

    All text is SQL that the caller vouches for; its placeholders for values are `%(name)s`. The names
    limit and age belong to the walk.

    Attributes:
        table: quoted name.
        key: that the walk goes along.
        predicate: the condition for a row to be written.
        write_predicate: the condition in the statement that writes, if that can't have all of `predicate`: a
            part that reads the table again. Then a recorder must check `predicate` under lock.
        assignments: what an UPDATE sets, such as `status` = 0; a written row must not match `predicate` any
            more. Empty to delete the rows.
        values: of the placeholders.
        left_out: reason → condition of the rows that are counted under that reason and not written.
            No row may match two of them, or one of them and `predicate`.
        size: SQL for the bytes of a row's long values; "0" if it has none. A chunk has at most
            `pace.MOST_BYTES` of them.
        last_first: rows may refer to others of the same table: the last keys are written first.
    """

    table: str
    key: Key
    predicate: str
    assignments: str = ""
    values: Mapping[str, object] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    size: str = "0"
    write_predicate: str | None = None
    last_first: bool = False

    @property
    def verb(self) -> str:
        """The first word of `write`."""
        return "UPDATE" if self.assignments else "DELETE"

    @property
    def write(self) -> str:
        """The statement that writes, without WHERE. It goes by the key."""
        by_key = f"{self.table} FORCE INDEX ({self.key.index})"
        if self.assignments:
            return f"UPDATE {by_key} SET {self.assignments}"  # noqa: S608  text that the caller vouches for
        # The form for several tables is the only one that takes an index on every server.
        return f"DELETE {self.table} FROM {by_key}"


class RowRecorder(Protocol):
    """Records the rows that a walk changes; called within the transaction that changes them."""

    @property
    def refused(self) -> Mapping[str, int]:
        """Reason → rows of the last `lock` that match but can't be recorded: they are not written."""

    def lock(self, keys: Sequence[KeyValue]) -> list[KeyValue]:
        """Lock the rows of these keys that still match, and return their keys, in the same order."""

    def record(self, keys: Sequence[KeyValue]) -> None:
        """Make the record of these rows durable: they were locked, then written, and are committed next.

        May be called again for the same rows, if the transaction was tried again.
        """


@dataclass
class WalkResult:
    """The result of a walk, or of a count of what a walk would do.

    Attributes:
        examined: rows that the server read.
        matched: rows that were to be written.
        changed: rows that were written and committed.
        unconfirmed: rows that were written by a commit whose answer was lost with the connection. It
            may have taken place or not; in the second case they were tried again, and are in `changed`.
        skipped: reason → rows that were counted and not written. `changed_meanwhile`: they did not match
            any more when they were to be written; `foreign_key`: other rows refer to them.
        chunks: transactions that wrote.
        longest_chunk: seconds of the longest of them, its commit included.
        stopped: the limit that ended the walk; None if it went to the end.
        also: name → rows that a count was to count besides.
        descendants: table → rows that were deleted with the rows that they belong to.
    """

    examined: int = 0
    matched: int = 0
    changed: int = 0
    unconfirmed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    longest_chunk: float = 0.0
    stopped: Limit | None = None
    also: Counter[str] = field(default_factory=Counter)
    descendants: Counter[str] = field(default_factory=Counter)
