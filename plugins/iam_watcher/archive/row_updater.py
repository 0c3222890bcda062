"""Restores the old values of rows that a job changed, if the rows are as the job left them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from iam_watcher.archive.column_formats import has_value
from iam_watcher.archive.row_inserter import DOES_NOT_FIT, STRICT, Put, RowInserter
from iam_watcher.archive.row_keys import row_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.archive.row_comparison import Batch
    from iam_watcher.archive.row_keys import RowKey
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions

# The hash of NULL is NULL.
IS_HASH = "({column} IS NULL OR {column} REGEXP '^[0-9a-f]{{{digits}}}$')"

GONE, CHANGED_SINCE = "gone", "changed_since"


class RowUpdater(RowInserter):
    """Writes old values into rows of one table.

    Args:
        db: where.
        table: of the rows.
        set_to: column → what the job has set it to. A row that has another value now was changed since, or
            was never changed by this try.
        hashed: column → digits of the hash that the job has set it to. A row that has neither so many digits
            nor NULL was changed since.
        dry_run: look which rows are as the job left them, change none.
    """

    def __init__(
        self,
        db: Transactions,
        table: Table,
        set_to: Mapping[str, str | int | bytes | None],
        hashed: Mapping[str, int],
        *,
        dry_run: bool,
    ) -> None:
        super().__init__(db, table, dry_run=dry_run)
        self._values = {
            f"left{n}": _to_compare(value, table.column(name))
            for n, (name, value) in enumerate(set_to.items())
        }
        conditions = [has_value(table.column(name), f"left{n}") for n, name in enumerate(set_to)]
        for name, digits in hashed.items():
            column = table.column(name).quoted
            conditions.append(IS_HASH.format(column=column, digits=digits))
        self._unchanged = f"({' AND '.join(conditions)})"

    def _put(self, batch: Batch) -> Put:
        db, table, put = self._db, self.table, Put()
        found = self._select(
            batch,
            batch.rows,
            [part.column for part in table.key.columns],
            also=self._unchanged,
            values=self._values,
            lock="" if self._dry_run else " FOR UPDATE",
        )
        states = {row_key(row, table.key): unchanged for row, unchanged in found}
        if not self._dry_run:
            db.change(STRICT)
        for key in batch.rows:
            if states.get(key):
                why = None if self._dry_run else self._try(batch, [key])
                if why == DOES_NOT_FIT and self._fits_after_all(batch, key):
                    why = None
            elif key in self.unanswered and key in states:
                put.unconfirmed.add(key)
                continue
            else:
                why = CHANGED_SINCE if key in states else GONE
            if why is None:
                put.inserted.add(key)
            else:
                put.refused.append((key, why))
        put.altered.update(self._altered(batch, put.inserted))
        self._commit(put)
        return put

    def _try(self, batch: Batch, keys: list[RowKey]) -> str | None:
        """Write the old values of one row; return why the server refuses them, or None."""
        (key,) = keys
        return self._update(batch, key, self._unchanged, self._values)


def _to_compare(value: str | int | bytes | None, column: Column) -> object:
    """Return a value as the server compares it rightly: a decimal that is a text would be rounded."""
    return Decimal(value) if isinstance(value, str) and column.data_type == "decimal" else value
