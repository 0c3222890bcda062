"""Locks rows before they are written: those that nothing else records, and those that others may refer to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.walk.child_rows import condition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.database.key import Key, KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.child_rows import Reference
    from iam_watcher.walk.row_change import RowChange

LOCK = "SELECT {selected} FROM {table} FORCE INDEX ({index}) WHERE {keys} AND ({predicate}) FOR UPDATE"

# What other columns of rows have that are not NULL, under the locks that the transaction has on them.
REFERRED = "SELECT DISTINCT {selected} FROM {table} FORCE INDEX ({index}) WHERE {rows} AND {present}"
LOCK_REFERRED = "SELECT 1 FROM {table} FORCE INDEX ({index}) WHERE {rows} AND {any_row} FOR UPDATE"


class RowLocks:
    """A recorder that records nothing: it locks the rows that still match.

    Args:
        db: the transactions that write.
        change: the rows and their condition.
    """

    def __init__(self, db: Transactions, change: RowChange) -> None:
        self.refused: Mapping[str, int] = {}
        self._db = db
        self._change = change

    def lock(self, keys: Sequence[KeyValue]) -> list[KeyValue]:
        """Lock the rows of these keys that still match, and return their keys, in the same order."""
        change, key = self._change, self._change.key
        query = LOCK.format(
            selected=key.selected,
            table=change.table,
            index=key.index,
            keys=key.among(keys),
            predicate=change.predicate,
        )
        locked = {key.take(row) for row in self._db.read(query, change.values)}
        return [one for one in keys if one in locked]

    def record(self, keys: Sequence[KeyValue]) -> None:
        """Record nothing."""


def referred(db: Transactions, table: str, key: Key, keys: Sequence[KeyValue], to: Key) -> Sequence[KeyValue]:
    """Return what rows of these keys have in the columns `to`, without NULL."""
    if to.names == key.names:
        return keys
    present = " AND ".join(f"{part.column.quoted} IS NOT NULL" for part in to.columns)
    found: dict[KeyValue, None] = {}
    for some in key.in_lists(keys):
        query = REFERRED.format(
            selected=to.selected, table=table, index=key.index, rows=condition(key, some), present=present
        )
        found |= dict.fromkeys(to.take(row) for row in db.read(query))
    return list(found)


def lock_referred(
    db: Transactions, table: str, key: Key, keys: Sequence[KeyValue], reference: Reference
) -> Sequence[KeyValue]:
    """Return what rows have that a reference refers to, and let no row begin to refer to it until the commit.

    Before the server inserts a row with a foreign key, it looks for the other row in one index, and waits
    only for locks in this index. The rows are locked by their key, which may be another index.

    Args:
        db: the transactions that have locked the rows.
        table: quoted name of their table.
        key: of the rows.
        keys: theirs.
        reference: how others refer to them.
    """
    values = referred(db, table, key, keys, reference.to)
    for index, any_row in reference.checked_by:
        for some in reference.to.in_lists(values):
            rows = reference.to.among(some)
            db.read(LOCK_REFERRED.format(table=table, index=index, rows=rows, any_row=any_row))
    return values
