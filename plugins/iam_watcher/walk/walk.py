"""Walks over a table in chunks, and deletes or updates the rows that match, in short transactions.

Behaviour:
1. It reads the smallest and the largest key once. Rows beyond them wait for the next walk.
2. A chunk begins with a probe: a read without locks that finds about `rows` rows to write within the
   next `span` keys. Then one statement writes them and repeats the condition, so a row that changed
   between the two is left alone. Then it commits.
3. `rows` and `span` follow the time that chunks take, so a transaction stays near `Pace.target` seconds.
4. It can be stopped between two transactions, and nowhere else: see `Transactions`.
5. A chunk that meets a lock wait time-out, a deadlock, a statement time-out or a lost connection is
   tried again with half the rows. Trying again is safe: rows that are done don't match any more.
6. A row that a foreign key protects is counted and left. At the end such rows are tried again until that
   helps no more, because rows that went later may have referred to them.
7. With a recorder it reads the rows under lock, writes just these, and hands them over before it commits.
8. With descendants it deletes these before their rows, in the same transaction. A row with too many of them
   for one transaction is deleted after the chunk, alone: see `large_family`. A limit may end the walk before
   it: then the position stays before the chunk.

It goes along the primary key to the end, because the order of the keys is not the order of the ages; or
by an index on the age, where there is one and few rows match. It knows nothing of Airflow.
The loop and its answers to errors are one class, so that one reader can follow a chunk: hence the length.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from iam_watcher.database.server_errors import may_be_committed
from iam_watcher.errors import WalkError
from iam_watcher.walk.index_order import IndexOrder
from iam_watcher.walk.key_order import KeyOrder
from iam_watcher.walk.pace import NO_LIMITS, PACES, ChunkSize, Limits, Pace
from iam_watcher.walk.progress import ProgressReporter
from iam_watcher.walk.row_change import RowChange, WalkResult
from iam_watcher.walk.writer import Writer, Written, halved, in_parts, split

if TYPE_CHECKING:
    from collections.abc import Callable

    from iam_watcher.database.key import KeyValue
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.chunk import Chunk, Order
    from iam_watcher.walk.descendants import Descendants
    from iam_watcher.walk.index_order import AgeIndex
    from iam_watcher.walk.large_family import LargeFamilies
    from iam_watcher.walk.row_change import RowRecorder
    from iam_watcher.walk.writer import Parts

# Rows that a foreign key protects are tried again at the end: what referred to them may be gone by then.
MOST_PROTECTED = 100_000  # keys that are kept for this, a few megabytes
MOST_PASSES = 20
GIVE_UP_AFTER = 10_000  # keys in a row that are still protected
PART = 100  # keys of the first statement


class Walk:
    """One walk over one table.

    Args:
        db: transactions on the database.
        rows: the change to make.
        pace: how hard to work.
        limits: when to stop before the end of the table.
        after: the key to begin behind; None to begin at the first row.
        index: used instead of the primary key if few rows are old, and if `after` is None.
        reserve: called before each transaction that writes with the number of rows that this walk will have
            changed after it, at most; what it raises ends the walk.
        before_write: called before each transaction that writes; what it raises ends the walk.
        after_write: called after each commit of them, except for rows that are deleted alone.
        recorder: records the rows that are changed, before the commit.
        descendants: are deleted with the rows; needs a recorder. None if there are none.
        large: deletes rows with too many descendants for one transaction; None only without descendants.
        on_chunk: called after each chunk with the position (the key up to which all rows are done; None if
            the walk goes by an index) and with `changed`.
        expected: estimated rows of the table, for the reporter; None if there is no estimate.
        throttler: waits before each chunk while the server is busy.
        reporter: gets the progress.

    Attributes:
        done: the result so far, also after an error.
        order: of the rows, with the position.
    """

    def __init__(
        self,
        db: Transactions,
        rows: RowChange,
        *,
        pace: Pace = PACES["fast"],
        limits: Limits = NO_LIMITS,
        after: KeyValue | None = None,
        index: AgeIndex | None = None,
        reserve: Callable[[int], None] = lambda _: None,
        before_write: Callable[[], None] = lambda: None,
        after_write: Callable[[], None] = lambda: None,
        recorder: RowRecorder | None = None,
        descendants: Descendants | None = None,
        large: LargeFamilies | None = None,
        on_chunk: Callable[[KeyValue | None, int], None] = lambda *_: None,
        expected: int | None = None,
        throttler: Throttler | None = None,
        reporter: ProgressReporter | None = None,
    ) -> None:
        self.done = WalkResult()
        self._db = db
        self._rows = rows
        self._pace = pace
        self._limits = limits
        self._reserve = reserve
        self._before_write = before_write
        self._after_write = after_write
        # A range with gaps may change rows that no probe has found: too many if there is a row limit, and
        # unseen rows if they are recorded.
        self._exact = limits.max_rows is not None or recorder is not None
        self._writer = Writer(db, rows, recorder, descendants)
        self._descendants = descendants
        self._large = large
        self._alone: list[KeyValue] = []
        self._on_chunk = on_chunk
        self._throttler = throttler
        self._reporter = reporter or ProgressReporter(rows.table)
        self._size = ChunkSize(pace.target)
        self._index = index if after is None else None
        self.order: Order = KeyOrder(db, rows, self._size, after=after, expected=expected)
        self._chunk: Chunk | None = None  # the chunk that `_rest` is of
        self._rest: Parts = []
        self._protected: list[KeyValue] = []
        self._passes = self._changed_before = 0
        self._protected_in_a_row = 0
        self._contended = False

    def write(self) -> WalkResult:
        """Write all rows that match, or as many as the limits allow, and return the result.

        Raises:
            WalkError: a chunk failed too often, or in a way that trying again can't mend; or the walk was
                throttled for too long.
        """
        self._began = time.monotonic()
        self._run(self._begin)
        self._reporter.begin(self.order.share)
        self._go()
        while self._try_again():
            self._go()
        return self.done

    def _go(self) -> None:
        """Write chunk by chunk, up to the end or a limit."""
        while self._alone or self._rest or not self.order.finished:
            if self._throttler is not None:
                left = self._limits.seconds_left(time.monotonic() - self._began)
                self._throttler.wait(at_most=left, meanwhile=self._report_progress)
            self.done.stopped = self._limits.reached(self.changed, time.monotonic() - self._began)
            if self.done.stopped:
                break
            chunk_began = time.monotonic()
            if self._alone:
                self._write_alone(self._alone.pop(0))
            else:
                self._run(self._next_transaction)
            self._on_chunk(self.order.position, self.changed)
            self._report_progress()
            self._db.sleep(self._pace.rest(time.monotonic() - chunk_began))

    def _try_again(self) -> bool:
        """Return whether to try protected rows again: rows were deleted since they were tried."""
        # An order by age meets a row again if its age was changed.
        keys = sorted(set(self._protected))
        self.done.skipped -= Counter(foreign_key=len(self._protected) - len(keys))
        self._protected = []
        helped = self.done.changed > self._changed_before
        if self.done.stopped or not keys or not helped or self._passes == MOST_PASSES:
            return False
        self._passes += 1
        self._protected_in_a_row = 0
        self._changed_before = self.done.changed
        parts = in_parts(keys, PART)
        self._rest = parts if self._children_first else parts[::-1]
        return True

    @property
    def _children_first(self) -> bool:
        """Whether to begin with the larger keys: every other pass goes the other way."""
        return self._passes == 0 or self._passes % 2 == 1

    @property
    def changed(self) -> int:
        """The rows that count towards the row limit: those whose commit got no answer too."""
        return self.done.changed + self.done.unconfirmed

    def _begin(self) -> None:
        if self._index is not None:
            by_index = IndexOrder(self._db, self._rows, self._index, self._size)
            by_index.begin()
            if by_index.few:
                self.order = by_index
                self._db.commit()
                return
        self.order.begin()
        self._db.commit()

    def _next_transaction(self) -> None:
        limit = self._limits.left(self._size.rows, self.changed)
        if limit <= 0:
            return  # A commit without an answer used up the row limit, and this is its second try.
        if self._rest:
            later, parts = split(self._rest, limit)
            # A recorder locks all of them by one list. The last ones are written first.
            fit = self._rows.key.fit_a_list([key for part in parts for key in part][::-1])
            earlier, parts = split(parts, fit)
            later += earlier
            asked = sum(map(len, parts))
            written = self._write(partial(self._write_keys, parts), asked)
        else:
            later = []
            self._chunk = chunk = self.order.next_chunk(limit, exact=self._precise)
            # It read without locks, and may have waited for the disk: the transaction that locks begins now.
            self._db.commit()
            asked = chunk.matched
            written = self._write(partial(self._write_chunk, chunk), asked) if asked else Written()
            self.done.examined += chunk.examined
            # A row may begin to match between probe and write.
            self.done.matched += max(asked, written.changed)
            self.done.skipped.update(chunk.left_out)
        self._count(written, asked)
        gave_up = self._passes and self._protected_in_a_row > GIVE_UP_AFTER
        self._rest = [] if gave_up else later + written.rest
        self._advance()

    def _advance(self) -> None:
        """Advance the position past the chunk if nothing of it is left."""
        if self._chunk is not None and not self._rest and not self._alone:
            self.order.advance(self._chunk)
            self._chunk = None

    def _write_alone(self, key: KeyValue) -> None:
        """Delete a row that has too many descendants for a transaction with other rows.

        When its descendants have begun to go, it is finished, whatever the time limit says.
        """
        large = self._large
        if large is None:
            raise WalkError(f"a row of {self._rows.table} has too many descendants")
        self._reserve(self.changed + 1)
        try:
            written = large.delete(key, before_write=self._before_write, pause=self._pause)
        finally:
            self.done.chunks += large.chunks
            self.done.longest_chunk = max(self.done.longest_chunk, large.longest)
            self.done.descendants += large.deleted
            large.chunks = 0
            large.deleted.clear()
        self.done.unconfirmed += written.unconfirmed
        self._count(written, 1)
        self._advance()

    def _pause(self, meanwhile: Callable[[], None]) -> None:
        """Wait between two transactions of one row, as the throttle and the pace say."""
        if self._throttler is not None:
            self._throttler.wait(meanwhile=meanwhile)
        self._db.sleep(self._pace.rest(self._pace.target))
        self._report_progress()

    def _write(self, change: Callable[[float], Written], asked: int) -> Written:
        """Write in one transaction and commit; `change` gets the time after which it begins no statement."""
        self._reserve(self.changed + asked)
        self._before_write()
        began = time.monotonic()
        written = change(began + self._pace.target)
        try:
            self._db.commit()
        except self._db.error as error:
            if may_be_committed(error):
                self.done.unconfirmed += written.changed
            raise
        self._after_write()
        if self._descendants is not None:
            self._descendants.committed()
            self.done.descendants += self._descendants.deleted
            self._descendants.deleted.clear()
        seconds = time.monotonic() - began
        self._size.wrote(asked - written.left, seconds)
        self.done.chunks += 1
        self.done.longest_chunk = max(self.done.longest_chunk, seconds)
        return written

    def _write_chunk(self, chunk: Chunk, until: float) -> Written:
        if chunk.keys is not None:
            return self._write_keys([chunk.keys], until)
        changed = self._writer.write_range(chunk)
        if changed is not None:
            return Written(changed)
        parts = halved(self.order.keys_of(chunk))
        return self._write_keys(parts, until) if time.monotonic() < until else Written(rest=parts)

    def _write_keys(self, parts: Parts, until: float) -> Written:
        return self._writer.write_keys(
            parts, until=until, exact=self._precise, children_first=self._children_first
        )

    @property
    def _precise(self) -> bool:
        """Whether to write only keys that were found.

        Someone may have locked a row that does not match, in the midst of a range. So after a first lock wait
        time-out the walk names its keys, which costs it up to a fifth of its speed.
        """
        return self._exact or self._contended

    def _count(self, written: Written, asked: int) -> None:
        """Count what a transaction did with the rows that it was asked to write."""
        done, protected = self.done, len(written.protected)
        tried = asked - written.left - len(written.alone)  # those are tried, and counted, later
        done.changed += written.changed
        # In the later passes they were counted as protected before.
        done.skipped["foreign_key"] += protected - (tried if self._passes else 0)
        done.skipped.update(written.refused)
        self._alone += written.alone
        others = written.changed + written.unconfirmed + protected + sum(written.refused.values())
        done.skipped["changed_meanwhile"] += max(0, tried - others)
        done.skipped = +done.skipped
        self._protected += written.protected[: MOST_PROTECTED - len(self._protected)]
        self._protected_in_a_row = 0 if written.changed else self._protected_in_a_row + protected

    def _run(self, transaction: Callable[[], None]) -> None:
        what = f"{self._rows.verb} on {self._rows.table}, {self.order.window_name}"
        self._db.run(transaction, what=what, before_retry=self._before_retry)

    def _before_retry(self) -> None:
        self._contended = True
        self._size.halve()

    def _report_progress(self) -> None:
        done = self.done
        self._reporter.report(examined=done.examined, changed=done.changed, share=self.order.share)
