"""Locks rows and checks them before they are written, where nothing else records them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.row_change import RowChange

LOCK = "SELECT {key} FROM {table} FORCE INDEX (PRIMARY) WHERE {key} IN ({keys}) AND ({predicate}) FOR UPDATE"


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

    def lock(self, keys: Sequence[int]) -> list[int]:
        """Lock the rows of these keys that still match, and return their keys, sorted."""
        change = self._change
        query = LOCK.format(
            key=change.key,
            table=change.table,
            keys=",".join(map(str, keys)),
            predicate=change.predicate,
        )
        return sorted(key for (key,) in self._db.read(query, change.values))

    def record(self, keys: Sequence[int]) -> None:
        """Record nothing."""
