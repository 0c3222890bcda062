"""Deletes a row whose descendants are too many for one transaction.

The children go in several transactions, and the row itself in the last one. So that it doesn't change
meanwhile, a second connection locks it from before the first of them to the end: the row still matches when
it is deleted, and no row can begin to refer to it by a foreign key. If the run is interrupted, the row is
there without some of its children, and the next run deletes the rest.

What could make the server refuse the row at the end is looked for before the first delete. The look and the
deletes go the same way through the tables, so they are one class: hence the length.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from iam_watcher.database.server_errors import may_be_committed
from iam_watcher.database.transactions import PING, PING_EVERY
from iam_watcher.errors import HalfDone
from iam_watcher.log_lines import get_logger
from iam_watcher.walk.descendants import Descendants
from iam_watcher.walk.pace import MOST_BYTES, ChunkSize
from iam_watcher.walk.replies import Circles, ReferredError, TooManyReferrersError, in_order, references
from iam_watcher.walk.row_locks import RowLocks, lock_referred, referred
from iam_watcher.walk.writer import Writer, Written, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from iam_watcher.database.key import Key, KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.child_rows import ChildTable, Family, Records, Reference
    from iam_watcher.walk.row_change import RowChange
    from iam_watcher.walk.writer import Parts

    Above = Sequence[tuple[RowChange, KeyValue]]

logger = get_logger(__name__)

Result = TypeVar("Result")

PAGE = 10_000  # keys that are read at once where nothing is written
MOST_UNORDERED = 1_000_000  # the same, where the index has other columns before the key

ROWS = "SELECT {selected}, {size} FROM {table} FORCE INDEX ({index}) WHERE {rows}{order} LIMIT {limit}"
OF_THESE = "SELECT {selected} FROM {table} FORCE INDEX ({index}) WHERE {rows} AND {among}"
REFERS = "SELECT 1 FROM {table} AS referring WHERE {rows}{also} LIMIT 1"


class LargeFamilies:
    """Deletes rows of one table, each of them alone and after its descendants.

    Args:
        db: the transactions that delete the descendants.
        rows: the change of the walk.
        family: the tables below.
        records: records the rows.
        second: connects a second time.
        target: seconds that one transaction should take.

    Attributes:
        deleted: table → descendants that were deleted and committed.
        chunks: transactions that wrote.
        longest: seconds of the longest of them.
    """

    def __init__(  # noqa: PLR0917  made in one place
        self,
        db: Transactions,
        rows: RowChange,
        family: Family,
        records: Records,
        second: Callable[[], AbstractContextManager[Transactions]],
        target: float,
    ) -> None:
        self.deleted = Counter[str]()
        self.chunks = 0
        self.longest = 0.0
        self._db = db
        self._rows = rows
        self._family = family
        self._records = records
        self._second = second
        self._target = target
        self._before_write: Callable[[], None]
        self._pause: Callable[[], None]
        self._unanswered: bool

    def delete(
        self, key: KeyValue, *, before_write: Callable[[], None], pause: Callable[[Callable[[], None]], None]
    ) -> Written:
        """Delete a row and its descendants; return what became of the row.

        Args:
            key: of the row.
            before_write: called before each transaction that writes.
            pause: called between two transactions, with what is to be called while it waits.

        Raises:
            HalfDone: a transaction failed too often; or a row can't be deleted after others were.
        """
        logger.info(
            "The row %s of %s has too many descendants for one transaction. They are deleted in several, and "
            "the row is locked until it is deleted in the last one.",
            self._rows.key.shown(key),
            self._rows.table,
        )
        self._before_write, self._unanswered = before_write, False
        with self._second() as second:
            spoke_at = time.monotonic()

            def keep_lock() -> None:
                """Keep the second session alive; if it is lost, `second.run` begins again."""
                nonlocal spoke_at
                if time.monotonic() - spoke_at > PING_EVERY:
                    second.read(PING)
                    spoke_at = time.monotonic()

            def between() -> None:
                keep_lock()
                pause(keep_lock)

            self._pause = between
            return second.run(
                lambda: self._delete(second, key),
                what=f"DELETE on {self._rows.table} with its children",
            )

    def _delete(self, second: Transactions, key: KeyValue) -> Written:
        rows, children = self._rows, self._family.children
        # Before the lock: what records rows looks at their tables first, in transactions of its own.
        parents = self._records.parents(second)
        descendants = self._descendants(second, rows, children)
        writer = Writer(second, rows, parents, descendants)
        if not parents.lock([key]):
            second.commit()
            return self._stays(
                key, Written(refused=Counter(parents.refused), unconfirmed=int(self._unanswered))
            )
        for reference in (*(child.parent for child in children), *self._family.protected_by):
            lock_referred(second, rows.table, rows.key, [key], reference)
        if self._is_protected(rows.table, rows.key, [key], children, self._family.protected_by):
            second.commit()
            return self._stays(key, Written(protected=[key]))
        while True:
            self._empty(rows.table, rows.key, key, children)
            # The session that has the database lock must be alive when the other one writes.
            self._db.run(self._ping, what="a look at the connection")
            self._before_write()
            began = time.monotonic()
            written = writer.write_keys([[key]], until=math.inf, exact=True)
            if not written.alone:
                break  # else someone has added many children meanwhile
        if not written.changed:
            second.commit()
            return self._stays(key, written)
        try:
            second.commit()
        except BaseException as error:
            self._unanswered |= may_be_committed(error)
            raise
        self._wrote(descendants, began)
        return written

    def _empty(
        self, table: str, key: Key, value: KeyValue, children: Sequence[ChildTable], above: Above = ()
    ) -> None:
        """Delete the descendants of one row, in as many transactions as that takes.

        Args:
            table: quoted name of the table of the row.
            key: of the row.
            value: its value.
            children: the tables of the children.
            above: the rows down to this one that the second session does not lock.
        """
        for child in children:
            for one in self._referred(table, key, [value], child.parent.to):
                self._empty_table(child, one, above)

    def _empty_table(self, child: ChildTable, value: KeyValue, above: Above) -> None:
        """Delete the rows of a table that refer to a value, and all below them."""
        by = child.parent.by
        predicate = f"{by.among([value])} AND {child.change.predicate}"
        rows = replace(child.change, predicate=predicate, last_first=bool(child.to_itself))
        child = replace(child, change=rows)
        descendants = self._descendants(self._db, rows, child.children)
        recorder = self._records.recorder(self._db, child, rows) or RowLocks(self._db, rows)
        writer = Writer(self._db, rows, recorder, descendants)
        size = ChunkSize(self._target)
        after: KeyValue | None = None
        while keys := self._page(child, rows, after, size):
            rest: Parts = [keys[::-1] if rows.last_first else keys]  # the writer begins at the end
            emptied: list[KeyValue] = []
            while rest:
                self._pause()
                rest, alone = self._write(child, writer, descendants, rest, size, above)
                for one in alone:
                    self._empty(rows.table, rows.key, one, child.children, (*above, (rows, one)))
                    rest.append([one])
                emptied += alone
            self._check_gone(rows, emptied)
            # Behind the rows that are gone already, which the server may not have removed yet.
            after = keys[-1] if child.in_key_order else None
        if child.waiting and child.children:
            for one in self._waiting(child, rows):
                self._empty(rows.table, rows.key, one, child.children, (*above, (rows, one)))

    def _waiting(self, child: ChildTable, rows: RowChange) -> list[KeyValue]:
        """Return the keys of the rows that go in the same transaction as their parent."""

        def read() -> list[KeyValue]:
            query = self._page_query(child, f"{rows.predicate} AND {child.waiting} > 0", None, PAGE)
            return [rows.key.take(row) for row in self._db.read(query)]

        return self._look(read, rows.table)

    def _check_gone(self, rows: RowChange, keys: Sequence[KeyValue]) -> None:
        """Raise HalfDone if one of these rows is still there: its descendants were deleted."""
        key = rows.key
        for few in key.in_lists(keys):
            query = OF_THESE.format(
                selected=key.selected, table=rows.table, index=key.index, rows=key.among(few), among="TRUE"
            )
            for row in self._read(query, rows.table):
                raise self._half_done(rows.table, key.shown(key.take(row)), Written())

    def _page(
        self, child: ChildTable, rows: RowChange, after: KeyValue | None, size: ChunkSize
    ) -> list[KeyValue]:
        def read() -> list[KeyValue]:
            condition = rows.predicate
            if child.waiting:  # One that is too long for that goes now.
                condition += f" AND ({child.waiting} = 0 OR {rows.size} > {MOST_BYTES})"
            found = self._db.read(self._page_query(child, condition, after, size.limit(size.rows)))
            keys = [rows.key.take(row) for row in found]
            few = min(size.within_bytes([int(row[-1]) for row in found]), rows.key.fit_a_list(keys))
            return keys[:few]

        return self._look(read, rows.table, before_retry=size.halve)

    def _write(  # noqa: PLR0917  called in one place
        self,
        child: ChildTable,
        writer: Writer,
        descendants: Descendants,
        parts: Parts,
        size: ChunkSize,
        above: Above,
    ) -> tuple[Parts, list[KeyValue]]:
        """Delete rows in one transaction; return the parts that are left, and the rows to delete alone."""

        def write() -> Written:
            self._before_write()
            began = time.monotonic()
            for rows, one in above:
                # Else the row may belong to another parent by now, and stay without its children.
                if not RowLocks(self._db, rows).lock([one]):
                    raise self._half_done(rows.table, rows.key.shown(one), Written())
            # If the transaction is tried again, the size is smaller.
            later, some = self._in_order(child, parts, size) if child.to_itself else split(parts, size.rows)
            if not some:
                self._db.commit()
                return Written(rest=later)
            written = writer.write_keys(some, until=began + self._target, exact=True)
            if written.protected or written.refused:
                refused = [*written.protected, None][0]
                raise self._half_done(child.change.table, refused, written)
            self._db.commit()
            size.wrote(sum(map(len, some)) - written.left, time.monotonic() - began)
            self.deleted[child.table.name] += written.changed
            self._wrote(descendants, began)
            return replace(written, rest=later + written.rest)

        written = self._db.run(write, what=f"DELETE on {child.change.table}", before_retry=size.halve)
        return written.rest, written.alone

    def _in_order(self, child: ChildTable, parts: Parts, size: ChunkSize) -> tuple[Parts, Parts]:
        """Return the parts without the last rows; and these, with all of the family that refer to them.

        If too many refer to them, the second parts are empty, and some that refer to them are the last part
        of the first ones.
        """
        locks, key = RowLocks(self._db, child.change), child.change.key
        last = [one for part in parts for one in part][: -size.rows - 1 : -1]
        later, some = split(parts, key.fit_a_list(last))

        def lock(keys: Sequence[KeyValue]) -> list[KeyValue]:
            return [one for few in key.in_lists(keys) for one in locks.lock(few)]

        keys = lock(list(dict.fromkeys(one for part in some for one in part)))
        try:
            found, circle = in_order(self._db, child, keys, lock, most=2 * size.rows)
        except TooManyReferrersError as error:
            return [*parts, list(error.rows)], []
        except ReferredError:
            raise self._half_done(child.change.table, None, Written(protected=[None])) from None
        if circle:  # that began after the look at the family: only single statements have an order
            found = [[one] for keys in found for one in keys]
        return later, [part[::-1] for part in reversed(found)]  # the writer begins at the end

    def _is_protected(
        self,
        table: str,
        key: Key,
        keys: Sequence[KeyValue],
        children: Sequence[ChildTable],
        protected_by: Sequence[Reference],
    ) -> bool:
        """Return whether other rows refer to one of these rows or of their descendants."""
        for reference in protected_by:
            for some in reference.by.in_lists(self._referred(table, key, keys, reference.to)):
                query = REFERS.format(
                    table=reference.table, rows=reference.by.among(some), also=reference.also
                )
                if self._read(query, reference.table):
                    return True
        return any(
            self._is_protected_below(child, value)
            for child in children
            if any(one.protected_by or one.to_itself for one in child.all())
            for value in self._referred(table, key, keys, child.parent.to)
        )

    def _is_protected_below(self, child: ChildTable, value: KeyValue) -> bool:
        """Return whether a row of a table that refers to a value, or one of its descendants, is protected."""
        rows, circles = child.change, Circles(child.change.key)
        among = child.parent.by.among([value])
        for page in self._pages(child, value):
            if self._is_protected(rows.table, rows.key, page, child.children, child.protected_by):
                return True
            found = self._references(child, page)
            family = set(page)
            for few in rows.key.in_lists(list({one for one, _, _ in found} - family)):
                query = OF_THESE.format(
                    selected=rows.key.selected,
                    table=rows.table,
                    index=rows.key.index,
                    rows=rows.key.among(few),
                    among=among,
                )
                family |= {rows.key.take(row) for row in self._read(query, rows.table)}
            if any(strict and one not in family for one, _, strict in found):
                return True
            circles.add((one, to) for one, to, _ in found if one in family)
        return circles.found()

    def _pages(self, child: ChildTable, value: KeyValue) -> Iterator[list[KeyValue]]:
        """Yield the keys of the rows that refer to a value."""
        rows = replace(child.change, size="0")  # The server would read long values to know their sizes.
        child, among = replace(child, change=rows), child.parent.by.among([value])
        after: KeyValue | None = None
        limit = PAGE if child.in_key_order else MOST_UNORDERED

        def read() -> list[KeyValue]:
            found = self._db.read(self._page_query(child, among, after, limit))
            return [rows.key.take(row) for row in found]

        def halve() -> None:
            nonlocal limit
            if child.in_key_order:
                limit = max(1, limit // 2)

        while True:
            keys = self._look(read, rows.table, before_retry=halve)
            if keys:
                yield keys
            if len(keys) < limit or not child.in_key_order:
                return
            after = keys[-1]
            self._pause()

    def _page_query(self, child: ChildTable, condition: str, after: KeyValue | None, limit: int) -> str:
        rows = child.change
        # Rows that refer to rows of their own table, such as replies, go before those.
        last_first = bool(child.to_itself)
        beyond = "" if after is None else (rows.key.before if last_first else rows.key.behind)(after)
        order = rows.key.reversed if last_first else rows.key.ordered
        return ROWS.format(
            selected=rows.key.selected,
            size=rows.size,
            table=rows.table,
            index=child.parent.by.index,
            rows=f"{condition} AND {beyond}" if beyond else condition,
            order=f" ORDER BY {order}" if child.in_key_order or last_first else "",
            limit=limit,
        )

    def _referred(self, table: str, key: Key, keys: Sequence[KeyValue], to: Key) -> Sequence[KeyValue]:
        return self._look(lambda: referred(self._db, table, key, keys, to), table)

    def _references(
        self, child: ChildTable, keys: Sequence[KeyValue]
    ) -> Sequence[tuple[KeyValue, KeyValue, bool]]:
        return self._look(lambda: list(references(self._db, child, keys, lock="")), child.change.table)

    def _read(self, query: str, table: str) -> Any:
        return self._look(lambda: self._db.read(query), table)

    def _look(
        self, look: Callable[[], Result], table: str, before_retry: Callable[[], None] = lambda: None
    ) -> Result:
        """Return what a look at a table finds, in a transaction of its own: a lost session is replaced."""

        def transaction() -> Result:
            found = look()
            self._db.commit()
            return found

        return self._db.run(transaction, what=f"SELECT on {table}", before_retry=before_retry)

    def _descendants(self, db: Transactions, rows: RowChange, children: Sequence[ChildTable]) -> Descendants:
        return Descendants(db, rows.table, rows.key, children, self._records, self._target)

    def _wrote(self, descendants: Descendants, began: float) -> None:
        """Count a transaction that was committed."""
        descendants.committed()
        self.deleted += descendants.deleted
        descendants.deleted.clear()
        self.chunks += 1
        self.longest = max(self.longest, time.monotonic() - began)

    def _ping(self) -> None:
        self._db.read(PING)
        self._db.commit()

    def _stays(self, key: KeyValue, written: Written) -> Written:
        """Return what became of the row, which stays or is gone without us.

        Raises:
            HalfDone: descendants of the row were deleted already, also before the lock on the row was lost.
        """
        if self.deleted.total() and not written.unconfirmed:
            raise self._half_done(self._rows.table, self._rows.key.shown(key), written)
        return written

    def _half_done(self, table: str, key: object, written: Written) -> HalfDone:
        """Return the error for a row that must stay after others of its family were deleted."""
        why = next(iter(written.refused), "foreign_key" if written.protected else "changed_meanwhile")
        return HalfDone(
            f"a row of {table} can't be deleted ({why}, key {key}), after other descendants of the same row "
            f"of {self._rows.table} were deleted. They are in the archive, if the run writes one. Find out "
            "what refers to the row; then let the next run delete the rest, or restore the archive"
        )
