"""Walks over a table and deletes or updates the rows it is told to, in short transactions.

Behaviour:
1. It reads the smallest and the largest key once. Rows beyond them wait for the next walk.
2. A chunk begins with a probe: a read without locks that finds about `rows` rows to write within the
   next `span` keys. Then one statement writes them and repeats the condition, so a row that changed
   between the two is left alone. Then it commits.
3. `rows` and `span` follow the time that chunks take, so a transaction stays near `Pace.target` seconds.
4. It can be stopped between two transactions, and nowhere else: see `Transactions`.
5. A chunk that meets a lock wait time-out, a deadlock, a statement time-out or a lost connection is
   tried again with half the rows. Trying again is safe: rows that are done don't match any more.
6. A row that a foreign key protects is counted and left.
7. With a recorder it reads the rows under lock, writes just these, and hands them over before it commits.

It goes along the primary key to the end, because the order of the keys is not the order of the ages; or
by an index on the age, where there is one and few rows match. It knows nothing of Airflow.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iam_watcher.jobs.index_order import IndexOrder
from iam_watcher.jobs.order import DENSE, KeyOrder
from iam_watcher.jobs.pace import NO_CAPS, PACES, Caps, ChunkSize, Pace
from iam_watcher.jobs.progress import Teller
from iam_watcher.jobs.rows import Rows, Taker, Walked
from iam_watcher.jobs.server_errors import ROW_IS_REFERENCED, code_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from iam_watcher.jobs.index_order import AgeIndex
    from iam_watcher.jobs.order import Found, Order
    from iam_watcher.jobs.rows import Recorder
    from iam_watcher.jobs.throttle import Hold
    from iam_watcher.jobs.transaction import Transactions

# Writes keys that lie close together, by their range: the shortest statement.
WRITE_RANGE = "{write} WHERE {key} BETWEEN %(first)s AND %(last)s AND ({predicate})"

# Writes keys that lie far apart.
WRITE_LIST = "{write} WHERE {key} IN ({keys}) AND ({predicate})"

# The same, if what is written is to be recorded and the server can tell it.
RETURNING = "{query} RETURNING {columns}"


class Walk:
    """One walk over one table.

    Args:
        db: transactions on the database.
        rows: what to write.
        pace: how hard to work.
        caps: when it is enough.
        after: begin behind this key.
        index: to go by where few rows match; not if the walk begins behind a key.
        reserve: called before each transaction that writes with the number of rows that this walk will have
            changed after it, at most; what it raises ends the walk.
        before_write: called before each transaction that writes; what it raises ends the walk.
        recorder: writes down what is changed, before it is committed.
        passed: called after each chunk with the key up to which everything is done, None if the walk does
            not go by the key, and with `changed`.
        expected: rows of the table, as far as that is known, for the teller.
        hold: waits before each chunk for as long as it has to.
        teller: told how far the walk has come.

    Attributes:
        done: what it has done so far, also after an error stopped it.
        order: the order it goes by, with its position.
    """

    def __init__(
        self,
        db: Transactions,
        rows: Rows,
        *,
        pace: Pace = PACES["fast"],
        caps: Caps = NO_CAPS,
        after: int | None = None,
        index: AgeIndex | None = None,
        reserve: Callable[[int], None] = lambda _: None,
        before_write: Callable[[], None] = lambda: None,
        recorder: Recorder | None = None,
        passed: Callable[[int | None, int], None] = lambda *_: None,
        expected: int | None = None,
        hold: Hold | None = None,
        teller: Teller | None = None,
    ) -> None:
        self.done = Walked()
        self._db = db
        self._rows = rows
        self._pace = pace
        self._caps = caps
        self._reserve = reserve
        self._before_write = before_write
        self._recorder = recorder
        # A range with gaps may change rows that no probe has found: too many, if rows are counted to a
        # cap, and unseen, if they are recorded.
        self._exact = caps.max_rows is not None or recorder is not None
        self._passed = passed
        self._hold = hold
        self._teller = teller or Teller(rows.table)
        self._size = ChunkSize(pace.target)
        self._index = index if after is None else None
        self.order: Order = KeyOrder(db, rows, self._size, after=after, expected=expected)

    def write(self) -> Walked:
        """Write every row that matches, or as many as the caps allow, and return what was done.

        Raises:
            WalkError: a chunk failed too often, or in a way that trying again can't mend; or the walk was
                held back for too long.
        """
        began = time.monotonic()
        self._run(self._begin)
        self._teller.begin(self.order.share)
        while not self.order.finished:
            if self._hold is not None:
                left = self._caps.seconds_left(time.monotonic() - began)
                self._hold.wait(at_most=left, meanwhile=self._tell)
            self.done.stopped = self._caps.reached(self.changed, time.monotonic() - began)
            if self.done.stopped:
                break
            chunk_began = time.monotonic()
            self._run(self._chunk)
            self._passed(self.order.position, self.changed)
            self._tell()
            self._db.nap(self._pace.rest(time.monotonic() - chunk_began))
        return self.done

    @property
    def changed(self) -> int:
        """The rows that count to a row limit: also those whose commit got no answer."""
        return self.done.changed + self.done.unconfirmed

    def _begin(self) -> None:
        if self._index is not None:
            by_index = IndexOrder(self._db, self._rows, self._index)
            by_index.begin()
            if by_index.few:
                self.order = by_index
                self._db.commit()
                return
        self.order.begin()
        self._db.commit()

    def _chunk(self) -> None:
        done = self.done
        limit = self._caps.left(self._size.rows, self.changed)
        if limit <= 0:
            return  # A commit without an answer used up the row limit, and this is its second try.
        found = self.order.find(limit, exact=self._exact)
        # It read without locks, and may have waited for the disk: the transaction that locks begins now.
        self._db.commit()
        changed, protected = self._write(found) if found.matched else (0, 0)
        self.order.passed(found)
        done.examined += found.examined
        # A row may begin to match between probe and write.
        done.matched += max(found.matched, changed)
        done.changed += changed
        done.skipped.update(found.left_out)
        if protected:
            done.skipped["foreign_key"] += protected
        if (meanwhile := found.matched - changed - protected) > 0:
            done.skipped["changed_meanwhile"] += meanwhile

    def _write(self, found: Found) -> tuple[int, int]:
        """Write these rows and commit; return how many changed, and how many are protected."""
        self._reserve(self.changed + found.matched)
        self._before_write()
        began = time.monotonic()
        if self._recorder is not None:
            changed, protected = self._change_and_record(found.keys or [], self._recorder)
        elif found.keys is None:
            changed, protected = self._change_range(found)
        else:
            changed, protected = self._change_keys(found.keys)
        try:
            self._db.commit()
        except self._db.error:
            self.done.unconfirmed += changed
            raise
        seconds = time.monotonic() - began
        self._size.wrote(found.matched, seconds)
        self.done.chunks += 1
        self.done.longest_chunk = max(self.done.longest_chunk, seconds)
        return changed, len(protected)

    def _change_and_record(self, keys: list[int], recorder: Recorder) -> tuple[int, list[int]]:
        """Lock and write these keys, and have the rows that were written recorded."""
        locked = recorder.lock(keys)
        changed, protected = self._change_keys(locked) if locked else (0, [])
        if kept := [key for key in locked if key not in set(protected)]:
            recorder.keep(kept)
        return changed, protected

    def _change_range(self, found: Found) -> tuple[int, list[int]]:
        """Write the rows that were counted; return how many changed, and the keys of those protected."""
        changed = self._change(WRITE_RANGE, first=found.after + 1, last=found.upto)
        if changed is None:
            return self._change_keys(self.order.keys_of(found))
        return changed, []

    def _change_keys(self, keys: list[int]) -> tuple[int, list[int]]:
        """Write these keys; if a foreign key protects a row among them, find it by halving.

        Returns:
            How many rows changed, and the keys of those that are protected.
        """
        if not keys:
            return 0, []
        span = keys[-1] - keys[0] + 1
        if len(keys) == span or (len(keys) * DENSE >= span and not self._exact):
            changed = self._change(WRITE_RANGE, first=keys[0], last=keys[-1])
        else:
            changed = self._change(WRITE_LIST.replace("{keys}", ",".join(map(str, keys))))
        if changed is not None:
            return changed, []
        if len(keys) == 1:
            return 0, keys
        half = len(keys) // 2
        left, right = (self._change_keys(part) for part in (keys[:half], keys[half:]))
        return left[0] + right[0], left[1] + right[1]

    def _change(self, query: str, **values: object) -> int | None:
        """Return how many rows a statement changed, or None if a foreign key protects one of them.

        The server has then taken back this statement only, not the transaction.
        """
        rows = self._rows
        query = query.format(write=rows.write, key=rows.key, predicate=rows.predicate)
        values = {**rows.values, **values}
        recorder = self._recorder
        try:
            if isinstance(recorder, Taker):
                return self._db.change_returning(
                    RETURNING.format(query=query, columns=recorder.returning), values, recorder.take
                )
            return self._db.change(query, values)
        except self._db.error as error:
            if code_of(error) == ROW_IS_REFERENCED:
                return None
            raise

    def _run(self, transaction: Callable[[], None]) -> None:
        verb = self._rows.write.split()[0]
        what = f"{verb} on {self._rows.table}, {self.order.window_name}"
        self._db.run(transaction, what=what, before_retry=self._size.halve)

    def _tell(self) -> None:
        done = self.done
        self._teller.tell(examined=done.examined, changed=done.changed, share=self.order.share)
