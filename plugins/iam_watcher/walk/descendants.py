"""Deletes the rows that belong to some rows, within the transaction that deletes those.

All of it is done between a savepoint and the delete of the rows themselves. If the server refuses one of the
deletes, or there are too many rows for one transaction, everything since the savepoint is taken back: a row
that stays keeps all of its children. The steps share what the transaction may still delete, so they are one
class: hence the length.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from iam_watcher.database.server_errors import ENDED, PROTECTED, code_of
from iam_watcher.walk.child_rows import condition
from iam_watcher.walk.pace import MOST_BYTES, MOST_ROWS, ChunkSize
from iam_watcher.walk.replies import ReferredError, in_order
from iam_watcher.walk.row_locks import lock_referred

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from iam_watcher.database.key import Key, KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.child_rows import ChildTable, Records
    from iam_watcher.walk.row_change import RowRecorder

FIRST_TOGETHER = 1_000  # rows of the first statements, with their descendants
MOST_BYTES_TOGETHER = 4 * MOST_BYTES  # of long values that are archived in one transaction

SAVEPOINT = "before_children"

# Through the index on the columns that refer to the parent.
COUNT = (
    "SELECT COUNT(*) FROM (SELECT 1 FROM {table} FORCE INDEX ({index}) WHERE {rows} LIMIT {limit}) AS found"
)
READ = "SELECT {selected}, {size} FROM {table} FORCE INDEX ({index}) WHERE {rows} LIMIT {limit} FOR UPDATE"
# The form for several tables is the only one that takes an index on every server. It takes no order.
DELETE = "DELETE {table} FROM {table} FORCE INDEX ({index}) WHERE {rows} AND {any_row}"

# A row that the delete left where it is.
STAYS = "SELECT 1 FROM {table} FORCE INDEX ({index}) WHERE {rows} LIMIT 1"


class TooManyRowsError(Exception):
    """The rows and their descendants are too many for one transaction, or for the time of one statement."""


class RowsRefusedError(Exception):
    """A row can't be deleted, or a descendant can't be recorded: all of them stay. Its text is the reason."""


class Descendants:
    """The rows that are deleted with rows of one table.

    Args:
        db: the transactions that delete.
        table: quoted name of the parents' table.
        key: of the parents.
        children: the tables of their children.
        records: records the rows.
        target: seconds that one transaction should take.

    Attributes:
        deleted: table → rows that were deleted and committed.
    """

    def __init__(  # noqa: PLR0917  the walk and the large families make them
        self,
        db: Transactions,
        table: str,
        key: Key,
        children: Sequence[ChildTable],
        records: Records,
        target: float,
    ) -> None:
        self.deleted = Counter[str]()
        self._db = db
        self._table = table
        self._key = key
        self._children = children
        self._records = records
        self._recorders: dict[int, RowRecorder | None] = {
            id(child): records.recorder(db, child, child.change) for top in children for child in top.all()
        }
        self._size = ChunkSize(target, rows=FIRST_TOGETHER)
        self._each = 1.0  # rows that are deleted for one of the parents, itself among them
        self._in_transaction = Counter[str]()
        self._left: int
        self._bytes_left: int

    @property
    def most_parents(self) -> int:
        """How many parents to delete at once."""
        return max(1, int(self._size.rows / self._each))

    def begin(self) -> None:
        """Begin a transaction: what an earlier one left behind was rolled back."""
        self._in_transaction.clear()
        self._records.drop(())

    def committed(self) -> None:
        """Count what the transaction has deleted."""
        self.deleted += self._in_transaction
        self._in_transaction.clear()

    def delete_with(self, keys: Sequence[KeyValue], write: Callable[[], int | None]) -> int | None:
        """Delete the descendants of rows that are locked, then the rows by `write`; return what that returns.

        Returns None, and deletes nothing, if a foreign key protects one of the rows or of their descendants.

        Raises:
            TooManyRowsError, RowsRefusedError: nothing was deleted.
        """
        mark, before = self._records.mark(), Counter(self._in_transaction)
        # One row and its descendants are deleted together wherever that can be done.
        limit = MOST_ROWS if len(keys) == 1 else self._size.rows
        self._left, self._bytes_left = limit, MOST_BYTES_TOGETHER
        began, only_the_row = time.monotonic(), False
        self._db.change(f"SAVEPOINT {SAVEPOINT}")
        try:
            for child in self._children:
                self._delete(child, lock_referred(self._db, self._table, self._key, keys, child.parent))
            only_the_row = len(keys) == 1
            changed = self._write_all(keys, write)
        except TooManyRowsError:
            self._each = max(self._each, limit / len(keys))
            self._take_back(mark, before)
            raise
        except RowsRefusedError:
            self._take_back(mark, before)
            raise
        except ReferredError:
            changed = None
        except self._db.error as error:
            code = code_of(error)
            if code in ENDED and not only_the_row:
                # It would be ended again if it were tried again with as many rows.
                self._size.halve()
                self._take_back(mark, before)
                raise TooManyRowsError from error
            if code not in PROTECTED:
                raise
            changed = None
        if changed is None:
            self._take_back(mark, before)
            return None
        rows = limit - self._left + len(keys)
        self._each = (self._each + rows / len(keys)) / 2
        self._size.wrote(rows, time.monotonic() - began)
        return changed

    def store(self) -> None:
        """Make the record of the descendants durable."""
        self._records.store()

    def _write_all(self, keys: Sequence[KeyValue], write: Callable[[], int | None]) -> int | None:
        changed = write()
        if changed is not None and changed < len(keys) and self._stays(keys):
            raise RowsRefusedError("changed_meanwhile")
        return changed

    def _stays(self, keys: Sequence[KeyValue]) -> bool:
        """Return whether one of the rows is still there: it matched when it was locked, and no more.

        A trigger on a table of children changed it, or its condition reads a table whose rows are not locked.
        The number of deleted rows alone does not tell: others may be gone by ON DELETE CASCADE.
        """
        return any(
            self._db.read(
                STAYS.format(table=self._table, index=self._key.index, rows=condition(self._key, some))
            )
            for some in self._key.in_lists(keys)
        )

    def _take_back(self, mark: Sequence[int], before: Counter[str]) -> None:
        self._db.change(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
        self._records.drop(mark)
        self._in_transaction = before

    def _delete(self, child: ChildTable, values: Sequence[KeyValue]) -> None:
        """Delete the rows of a table that refer to some values, and all below them."""
        recorder = self._recorders[id(child)]
        conditions = [condition(child.parent.by, some) for some in child.parent.by.in_lists(values)]
        if child.to_itself or child.at_once:
            self._delete_by_keys(child, conditions, recorder)
            return
        for rows in conditions:
            if child.children or recorder is not None:
                self._delete_by_keys(child, [rows], recorder)
            else:
                self._delete_unseen(child, rows)

    def _delete_unseen(self, child: ChildTable, rows: str) -> None:
        names = {"table": child.change.table, "index": child.parent.by.index, "rows": rows}
        ((found,),) = self._db.read(COUNT.format(limit=self._left + 1, **names))
        self._count_down(found)
        if found:
            self._in_transaction[child.table.name] += self._db.change(
                DELETE.format(any_row=child.change.predicate, **names)
            )

    def _delete_by_keys(
        self, child: ChildTable, conditions: Sequence[str], recorder: RowRecorder | None
    ) -> None:
        db, key = self._db, child.change.key
        sizes: dict[KeyValue, int] = {}
        for rows in conditions:
            found = db.read(
                READ.format(
                    selected=key.selected,
                    size=child.change.size if recorder is not None else 0,
                    table=child.change.table,
                    index=child.parent.by.index,
                    rows=rows,
                    limit=self._left + 1,
                )
            )
            self._count_down(len(found), sum(row[-1] for row in found))
            sizes |= {key.take(row): row[-1] for row in found}
        lists, circle = [sorted(sizes)], False
        if child.to_itself:
            lists, circle = in_order(db, child, list(sizes), lock=lambda _: ())  # the family is among them
        parts = [part for keys in lists for part in self._in_bytes(key, keys, sizes)]
        if circle and len(parts) > 1:
            raise ReferredError
        if child.at_once and recorder is not None:
            for some in parts:
                self._lock(recorder, some)
                recorder.record(some)
            recorder = None
        for below in child.children:
            self._delete(below, lock_referred(db, child.change.table, key, list(sizes), below.parent))
        for some in parts:
            self._lock(recorder, some)
            # In a circle, only single statements have an order.
            statements = [[one] for one in some] if circle else [some]
            changed = sum(db.change(_delete_statement(child, few)) for few in statements)
            # In a circle, the server deletes rows by ON DELETE CASCADE, and does not count them.
            self._in_transaction[child.table.name] += len(some) if child.to_itself else changed
            if recorder is not None:
                recorder.record(some)

    @staticmethod
    def _lock(recorder: RowRecorder | None, keys: Sequence[KeyValue]) -> None:
        if recorder is not None and len(recorder.lock(keys)) < len(keys):
            raise RowsRefusedError(next(iter(recorder.refused), "changed_meanwhile"))

    def _in_bytes(self, key: Key, keys: Sequence[KeyValue], sizes: dict[KeyValue, int]) -> Any:
        """Yield keys in lists that fit into a statement, and whose rows have MOST_BYTES of long values."""
        for some in key.in_lists(keys):
            part, total = list[Any](), 0
            for one in some:
                if part and total + sizes[one] > MOST_BYTES:
                    yield part
                    part, total = [], 0
                part.append(one)
                total += sizes[one]
            if part:
                yield part

    def _count_down(self, rows: int, size: int = 0) -> None:
        if rows > self._left or size > self._bytes_left:
            raise TooManyRowsError
        self._left -= rows
        self._bytes_left -= size


def _delete_statement(child: ChildTable, keys: Sequence[KeyValue]) -> str:
    change, key = child.change, child.change.key
    return DELETE.format(
        table=change.table, index=key.index, rows=condition(key, keys), any_row=change.predicate
    )
