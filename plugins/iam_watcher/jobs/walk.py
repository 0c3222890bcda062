"""Walks over a table and deletes or updates the rows it is told to, in short transactions.

Behaviour:
1. It reads the smallest and the largest key once. Rows beyond them wait for the next walk.
2. A chunk begins with a probe: a read without locks that finds at most `rows` keys to write within the
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

import logging
import time
from typing import TYPE_CHECKING

from iam_watcher.errors import WalkError
from iam_watcher.jobs.index_order import IndexOrder
from iam_watcher.jobs.order import KeyOrder
from iam_watcher.jobs.pace import NO_CAPS, PACES, Caps, ChunkSize, Pace
from iam_watcher.jobs.rows import Rows, Walked

if TYPE_CHECKING:
    from collections.abc import Callable

    from iam_watcher.jobs.index_order import AgeIndex
    from iam_watcher.jobs.order import Order
    from iam_watcher.jobs.rows import Recorder
    from iam_watcher.jobs.transaction import Transactions

logger = logging.getLogger(__name__)

# Writes keys that lie close together, by their range: the shortest statement.
WRITE_RANGE = "{write} WHERE {key} BETWEEN %(first)s AND %(last)s AND ({predicate})"

# Writes keys that lie far apart.
WRITE_LIST = "{write} WHERE {key} IN ({keys}) AND ({predicate})"

ROW_IS_REFERENCED = 1451
DENSE = 10  # a range is written as such if at least one key in so many is to be written
PROGRESS_EVERY = 10.0  # seconds
THROTTLE_EVERY = 1.0  # seconds between two questions to the throttle


class Walk:
    """One walk over one table.

    Args:
        db: transactions on the database.
        rows: what to write.
        pace: how hard to work.
        caps: when it is enough.
        after: begin behind this key.
        index: to go by where few rows match; not if the walk begins behind a key.
        before_write: called before each transaction that writes; what it raises ends the walk.
        recorder: writes down what is changed, before it is committed.
        passed: called with the key up to which everything is done, after each chunk.
        throttle: says why the walk has to wait, or None if it may go on. It is asked once a second.
        throttle_patience: seconds to wait for it.

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
        before_write: Callable[[], None] = lambda: None,
        recorder: Recorder | None = None,
        passed: Callable[[int], None] = lambda _: None,
        throttle: Callable[[], str | None] = lambda: None,
        throttle_patience: float = 600.0,
    ) -> None:
        self.done = Walked()
        self._db = db
        self._rows = rows
        self._pace = pace
        self._caps = caps
        self._before_write = before_write
        self._recorder = recorder
        self._passed = passed
        self._throttle = throttle
        self._throttle_patience = throttle_patience
        self._size = ChunkSize(pace.target)
        self._index = index if after is None else None
        self.order: Order = KeyOrder(db, rows, self._size, after=after)
        self._began = self._progress_at = self._throttle_at = time.monotonic()

    def write(self) -> Walked:
        """Write every row that matches, or as many as the caps allow, and return what was done.

        Raises:
            WalkError: a chunk failed too often, or in a way that trying again can't mend; or the throttle
                held the walk for too long.
        """
        self._began = time.monotonic()
        self._progress_at = self._began + PROGRESS_EVERY
        self._run(self._begin)
        while not self.order.finished:
            self.done.stopped = self._caps.reached(self.done.changed, time.monotonic() - self._began)
            if self.done.stopped:
                break
            self._wait_for_throttle()
            began = time.monotonic()
            self._run(self._chunk)
            if self.order.position is not None:
                self._passed(self.order.position)
            self._log_progress()
            self._db.nap(self._pace.rest(time.monotonic() - began))
        return self.done

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
        began = time.monotonic()
        found = self.order.find(self._caps.left(self._size.rows, done.changed))
        changed = protected = 0
        if found.keys:
            changed, protected = self._write_keys(found.keys)
        else:
            self._db.commit()
        self.order.passed(found)
        done.examined += found.examined
        # A row may begin to match between probe and write, so a range can change more than was found.
        done.matched += max(len(found.keys), changed)
        done.changed += changed
        done.skipped.update(found.left_out)
        if protected:
            done.skipped["foreign_key"] += protected
        if (meanwhile := len(found.keys) - changed - protected) > 0:
            done.skipped["changed_meanwhile"] += meanwhile
        if found.keys:
            done.chunks += 1
            done.longest_chunk = max(done.longest_chunk, time.monotonic() - began)

    def _write_keys(self, keys: list[int]) -> tuple[int, int]:
        """Write the rows of these keys and commit; return how many changed, and how many are protected."""
        self._before_write()
        began = time.monotonic()
        if self._recorder is None:
            changed, protected = self._change(keys)
        else:
            changed, protected = self._change_and_record(keys, self._recorder)
        try:
            self._db.commit()
        except self._db.error:
            self.done.unconfirmed += changed
            raise
        self._size.wrote(len(keys), time.monotonic() - began)
        return changed, len(protected)

    def _change_and_record(self, keys: list[int], recorder: Recorder) -> tuple[int, list[int]]:
        """Lock and write these keys, and have the rows that were written recorded."""
        locked = recorder.lock(keys)
        changed, protected = self._change(locked) if locked else (0, [])
        if kept := [key for key in locked if key not in set(protected)]:
            recorder.keep(kept)
        return changed, protected

    def _change(self, keys: list[int]) -> tuple[int, list[int]]:
        """Write these keys; if a foreign key protects a row among them, find it by halving.

        Returns:
            How many rows changed, and the keys of those that are protected.
        """
        rows, first, last = self._rows, keys[0], keys[-1]
        parts = {"write": rows.write, "key": rows.key, "predicate": rows.predicate}
        # A range with gaps may write rows that no probe has found: too many, if rows are counted to a
        # cap, and unseen, if they are recorded.
        exact = self._caps.max_rows is not None or self._recorder is not None
        span = last - first + 1
        if len(keys) == span or (len(keys) * DENSE >= span and not exact):
            query = WRITE_RANGE.format(**parts)
        else:
            query = WRITE_LIST.format(**parts, keys=",".join(map(str, keys)))
        try:
            return self._db.change(query, {**rows.values, "first": first, "last": last}), []
        except self._db.error as error:
            # The server has taken back this statement only, not the transaction.
            if not error.args or error.args[0] != ROW_IS_REFERENCED:
                raise
            if len(keys) == 1:
                return 0, keys
            half = len(keys) // 2
            left, right = self._change(keys[:half]), self._change(keys[half:])
            return left[0] + right[0], left[1] + right[1]

    def _run(self, transaction: Callable[[], None]) -> None:
        verb = self._rows.write.split()[0]
        what = f"{verb} on {self._rows.table} after {self._rows.key} {self.order.position}"
        self._db.run(transaction, what=what, before_retry=self._size.halve)

    def _wait_for_throttle(self) -> None:
        began = tell_at = time.monotonic()
        if began < self._throttle_at:
            return
        while why := self._throttle():
            now = time.monotonic()
            if now - began > self._throttle_patience:
                raise WalkError(f"{self._rows.table} was held back for {now - began:.0f} s: {why}")
            if now >= tell_at:
                tell_at = now + PROGRESS_EVERY
                logger.info("event=throttled table=%s waited=%.0f why=%r", self._rows.table, now - began, why)
            self._db.nap(THROTTLE_EVERY)
        self._throttle_at = time.monotonic() + THROTTLE_EVERY

    def _log_progress(self) -> None:
        now = time.monotonic()
        if now < self._progress_at:
            return
        self._progress_at = now + PROGRESS_EVERY
        done, share, elapsed = self.done, self.order.share, now - self._began
        logger.info(
            "event=progress table=%s examined=%d changed=%d rows_per_second=%.0f walked=%.1f%% eta=%ss",
            self._rows.table,
            done.examined,
            done.changed,
            done.changed / max(elapsed, 1e-9),
            100 * share,
            round(elapsed * (1 - share) / share) if share else "unknown",
        )
