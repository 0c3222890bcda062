"""Reads the rows of a table as an archive has them, and compares the two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.archive.column_formats import format_of, same
from iam_watcher.archive.row_keys import literals_of, row_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from iam_watcher.archive.column_formats import Bound
    from iam_watcher.archive.reader import Row
    from iam_watcher.archive.row_keys import RowKey
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions

THERE = "SELECT {columns}, {also} FROM {table} FORCE INDEX ({index}) WHERE {keys}{lock}"


@dataclass
class Batch:
    """Rows of one statement.

    Attributes:
        columns: to be written.
        rows: key → the row, and its values as they are written, column by column.
        is_long: whether it is one row that is too long for a statement.
    """

    columns: Sequence[Column]
    rows: dict[RowKey, tuple[Row, list[Bound]]] = field(default_factory=dict)
    is_long: bool = False

    def without(self, keys: Collection[RowKey]) -> Batch:
        """Return the rows apart from some."""
        rows = {key: row for key, row in self.rows.items() if key not in keys}
        return Batch(self.columns, rows, self.is_long)


class RowComparison:
    """Compares archived rows with those of a table.

    Args:
        db: where.
        table: of the rows.

    Attributes:
        table: of the rows.
    """

    def __init__(self, db: Transactions, table: Table) -> None:
        self.table = table
        self._db = db

    def unlike(self, batch: Batch) -> set[RowKey]:
        """Return the keys of the rows that the table does not have as the archive has them."""

        def compare() -> set[RowKey]:
            differing = self._differing(batch, batch.rows)
            self._db.commit()
            return set(differing)

        return self._db.run(compare, what=f"rows of {self.table.name} that exist")

    def _differing(self, batch: Batch, keys: Iterable[RowKey]) -> dict[RowKey, list[str]]:
        """Return key → columns in which the table has another value than the archive."""
        wanted = {key: batch.rows[key][0] for key in keys}
        if not wanted:
            return {}
        found = self._read(batch, wanted, batch.columns)
        differing = {
            key: [name for name, value in row.items() if not same(value, found.get(key, {}).get(name))]
            for key, row in wanted.items()
        }
        return {key: names for key, names in differing.items() if names}

    def _read(self, batch: Batch, keys: Iterable[RowKey], columns: Sequence[Column]) -> dict[RowKey, Row]:
        """Return the rows of these keys that the table has: these columns, as an archive has them."""
        return {row_key(row, self.table.key): row for row, _ in self._select(batch, keys, columns)}

    def _select(
        self,
        batch: Batch,
        keys: Iterable[RowKey],
        columns: Sequence[Column],
        *,
        also: str = "NULL",
        values: Mapping[str, object] | None = None,
        lock: str = "",
    ) -> Iterator[tuple[Row, Any]]:
        """Yield the rows of these keys that the table has, each with the value of `also`."""
        table, key = self.table, self.table.key
        formats = [(column, format_of(column, table.name)) for column in columns]
        query = THERE.format(
            columns=", ".join(form.selected(column) for column, form in formats),
            also=also,
            table=table.quoted,
            index=key.index,
            keys=key.among_literals([literals_of(batch.rows[one][0], key) for one in keys]),
            lock=lock,
        )
        readings = [(column.name, form.reading(column)) for column, form in formats]
        for *found, more in self._db.read(query, values):
            row = {
                name: value if read is None or value is None else read(value)
                for (name, read), value in zip(readings, found, strict=True)
            }
            yield row, more
