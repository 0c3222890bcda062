"""Locks rows and checks them before they are written, where nothing else records them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.database.key import KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.row_change import RowChange

LOCK = "SELECT {selected} FROM {table} FORCE INDEX ({index}) WHERE {keys} AND ({predicate}) FOR UPDATE"


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
