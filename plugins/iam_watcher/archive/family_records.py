"""Locks the rows of a family of tables, and puts them into an archive if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iam_watcher.archive.format import ArchiveKind
from iam_watcher.archive.row_archive import row_archive
from iam_watcher.archive.writer import PartBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.child_rows import ChildTable
    from iam_watcher.walk.row_change import RowChange, RowRecorder


class FamilyRecords:
    """Records the rows of a job's table and of the tables below it.

    Args:
        parents: returns what locks and records the rows of the job's table.
        archive: of the job's table; None for no archive.
        tables: the tables below, in an order in which their rows can be restored.
        columns: name of a table → its columns that the archive has.
    """

    def __init__(
        self,
        parents: Callable[[Transactions], RowRecorder],
        archive: Archive | None,
        tables: Sequence[Table],
        columns: Mapping[str, Sequence[Column]],
    ) -> None:
        self.parents = parents
        self._columns = columns
        self._buffers: dict[str, PartBuffer] = {}
        if archive is not None:
            for table in tables:
                self._buffers[table.name] = PartBuffer(archive.child(table.name, _facts(table, columns)))

    def recorder(self, db: Transactions, child: ChildTable, rows: RowChange) -> RowRecorder | None:
        """Return what archives rows of a child table; None if there is no archive."""
        buffer = self._buffers.get(child.table.name)
        if buffer is None:
            return None
        return row_archive(db, rows, child.table, self._columns[child.table.name], buffer)

    def mark(self) -> Sequence[int]:
        """Return how much was recorded in this transaction."""
        return [len(buffer) for buffer in self._buffers.values()]

    def drop(self, mark: Sequence[int]) -> None:
        """Forget what was recorded since the mark; everything if it is empty."""
        for number, buffer in enumerate(self._buffers.values()):
            buffer.drop(mark[number] if mark else 0)

    def store(self) -> None:
        """Make what was recorded durable."""
        for buffer in self._buffers.values():
            buffer.store()


def _facts(table: Table, columns: Mapping[str, Sequence[Column]]) -> dict[str, Any]:
    """Return the facts of a child table's manifest that differ from those of the job's table."""
    kept = {column.name: column.data_type for column in columns[table.name]}
    redacted = [c.name for c in table.columns.values() if c.name not in kept and not c.generated]
    return {
        "kind": ArchiveKind.DELETED_ROWS,
        "key": table.key.named,
        "columns": kept,
        "redacted": redacted,
        "children": [],
        "belongs_to": [],
    }
