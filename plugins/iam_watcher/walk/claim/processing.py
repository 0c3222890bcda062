"""Processes rows batch by batch: claim, call the function, write the outcomes, until none is left.

One class, so that one reader can follow a batch from its claim to its outcome: hence the length.
"""

from __future__ import annotations

import random
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import RowFailed, RowNotReady, RowsFailing, ValueTooLarge
from iam_watcher.log_lines import get_logger
from iam_watcher.walk.claim.claims import Claims
from iam_watcher.walk.claim.finish import Finish
from iam_watcher.walk.claim.idle_time import IdleTime
from iam_watcher.walk.claim.outcome import Kind, Outcome, Processed
from iam_watcher.walk.claim.results import checked, outcome_of
from iam_watcher.walk.pace import NO_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.claim.function import Watch
    from iam_watcher.walk.claim.outcome import ClaimedRow, KeyValues
    from iam_watcher.walk.claim.renewal import Renewal
    from iam_watcher.walk.claim.row_states import RowStates

logger = get_logger(__name__)

FIRST_BATCH = 10  # rows
BATCH_SECONDS = 2.0  # that a batch is to take: what is claimed and not begun is what a kill delays
FINISH_EVERY = 1.0  # seconds between two writes of outcomes within a batch
LOOK_EVERY = 10.0  # seconds between two looks for expired claims, at least


class Processing:
    """One run over the rows of a table.

    Args:
        db: transactions on the database; those that write outcomes don't stop at its safe point.
        states: the rows and their states.
        call: calls the function, see `function.caller`.
        renewal: renews the claims; None if the rows stay locked.
        batch: rows of a claim, at most.
        whole_batches: claim so many rows at once, however long they take.
        limits: when it is enough; rows that were claimed count.
        max_idle_time: seconds without a row after which the run ends.
        stop_after: rows in a row that fail with one exception class, after which the run ends.
        safe_point: raises if the run has to stop; called between two rows.
        interruptible: a context in which an alarm may raise: around the function.
        before_claim: called before each claim; waits for the server.
        masked: returns a text without the secrets in it. Messages of exceptions can have some, such as the
            token in an address, and people without a right to the secret read the table and the run report.

    Attributes:
        after_batch: called after each batch.
        database_seconds: how long the database worked for the last batch.
        done: what it has done so far, also after an error stopped it.
    """

    def __init__(
        self,
        db: Transactions,
        states: RowStates,
        call: Callable[[Sequence[ClaimedRow], Watch], None],
        *,
        renewal: Renewal | None = None,
        batch: int,
        whole_batches: bool = False,
        limits: Limits = NO_LIMITS,
        max_idle_time: float = 0.0,
        stop_after: int | None,
        safe_point: Callable[[], None] = lambda: None,
        interruptible: Callable[[], AbstractContextManager[Any]] = nullcontext,
        before_claim: Callable[[], None] = lambda: None,
        masked: Callable[[str], str] = str,
    ) -> None:
        self.done = Processed()
        self._db = db
        self.claims = Claims(db, states, self.done)
        self._finish = Finish(db, states, self.done, self._refused)
        self._states = states
        self._call = call
        self._renewal = renewal
        self._batch = batch = min(batch, states.key.most_listed_of_any_length)
        self._whole_batches = whole_batches
        self._size = batch if whole_batches else min(FIRST_BATCH, batch)
        self._limits = limits
        self._began: float
        self._stop_after = stop_after
        self._safe_point = safe_point
        self.interruptible = interruptible
        self._before_claim = before_claim
        self._masked = masked
        self._idle_time = IdleTime(
            db, states, self.done, max_idle_time, safe_point=safe_point, interruptible=interruptible
        )
        self.after_batch: Callable[[], None] = lambda: None
        self.database_seconds: float
        self._expired: list[KeyValues] = []
        self._looked_at = float("-inf")
        self._was_pending = True
        self._take_over_until: float
        self._rows: dict[KeyValues, ClaimedRow] = {}  # claimed, and their outcome is not written
        self._waiting: dict[KeyValues, ClaimedRow] = {}  # of these, the ones that were not begun
        self._outcomes: dict[KeyValues, Outcome] = {}
        self._finished_at: float
        self._streak: tuple[str, int] = ("", 0)
        self._last_error: BaseException | None = None
        self._logged_renewal = False

    def run(self) -> Processed:
        """Process every row that is due, or as many as the limits allow, and return what was done.

        With an idle time it then waits for more rows.

        Raises:
            RowsFailing: `stop_after` rows in a row failed with one exception class.
            WalkError, TableError: the database failed too often, or in a way that trying again can't mend.
        """
        self._began = time.monotonic()
        self._idle_time.begin()
        try:
            while True:
                self._go_on()
                self._before_claim()
                self.done.stopped = self._limits.reached(self.done.claimed, self._seconds)
                if self.done.stopped:
                    break
                limit = self._limits.left(self._size, self.done.claimed)
                claimed_at = time.monotonic()
                rows = self._next(limit)
                self.database_seconds = time.monotonic() - claimed_at
                if not rows:
                    if not self._idle_time.wait(self._limits.seconds_left(self._seconds)):
                        break
                    self.claims.start_over()
                    self._looked_at = float("-inf")
                    continue
                self._process(rows, claimed_at)
                self._idle_time.begin()
                self._resize(len(rows), time.monotonic() - claimed_at)
                self.after_batch()
        finally:
            if self._renewal is not None:
                self.done.late_renewals = self._renewal.late
                self._log_failed_renewal(self._renewal)
        return self.done

    def _next(self, limit: int) -> list[ClaimedRow]:
        """Claim the next rows: expired claims for as long as a batch takes, then a batch of pending rows."""
        now = time.monotonic()
        if self._was_pending:
            self._take_over_until = now + BATCH_SECONDS
        rows = self._taken_over() if now < self._take_over_until else []
        self._was_pending = not rows
        return rows or self.claims.claim(limit) or self._taken_over()

    def _taken_over(self) -> list[ClaimedRow]:
        now = time.monotonic()
        if not self._expired and now - self._looked_at > min(LOOK_EVERY, self._states.claim_timeout / 3):
            self._looked_at = now
            self._expired = self.claims.expired()
            random.shuffle(self._expired)  # Other workers have the same list.
        while self._expired:
            if rows := self.claims.take_over(self._expired.pop()):
                return rows
        return []

    def _process(self, rows: Sequence[ClaimedRow], claimed_at: float) -> None:
        self._rows = {row.key: row for row in rows}
        self._outcomes = {}
        self._fail_unread(rows)
        self._waiting = {key: row for key, row in self._rows.items() if key not in self._outcomes}
        self._finished_at = time.monotonic()
        if self._renewal is not None:
            self._renewal.add(self._rows, claimed_at)
        try:
            if self._waiting:
                self._call(list(self._waiting.values()), self)
        finally:
            for key in self._rows:
                self._outcomes.setdefault(key, Outcome(Kind.GIVEN_BACK))
            self._write()

    def _fail_unread(self, rows: Sequence[ClaimedRow]) -> None:
        """Let rows fail of which the server did not send a value: the function must not get another one."""
        for row in rows:
            if column := self._states.unread(row.values):
                error = ValueTooLarge(
                    f"the JSON in column {column!r} is larger than max_allowed_packet. Increase "
                    "max_allowed_packet, or name other columns in the argument columns"
                )
                self._outcomes[row.key] = self._outcome(error, row)
                self._count(row.key, error, shared=True)  # It is no outage of what the function calls.

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def begin(self, rows: Sequence[ClaimedRow]) -> list[ClaimedRow]:
        """Return those of the rows that are still ours, which begin now; none after the time limit."""
        self.tick()
        if self._limits.seconds_left(self._seconds) == 0:
            return []
        if self._renewal is not None and self._renewal.overdue:
            self._log_failed_renewal(self._renewal)
            self._renew()
        return [row for row in rows if self._waiting.pop(row.key, None) is not None]

    def note(self, row: ClaimedRow, result: object, *, shared: bool = False) -> None:
        """Keep what the function returned for the row, or the exception that it raised."""
        result = checked(result, self._states)
        outcome = self._outcomes[row.key] = self._outcome(result, row)
        if isinstance(result, BaseException) and not isinstance(result, (RowFailed, RowNotReady)):
            self._count(row.key, result, shared=shared)
        elif outcome.kind is Kind.DONE:
            self._streak = ("", 0)

    def tick(self) -> None:
        """Raise if the run has to stop."""
        self._go_on()
        self._write_from_time_to_time()

    def _go_on(self) -> None:
        self._safe_point()
        name, rows = self._streak
        if self._stop_after is not None and rows >= self._stop_after:
            raise RowsFailing(
                f"{rows} rows of {self._states.name} in a row ended with {name}: {self._last_error}. Rows "
                "that were claimed and not begun are pending again. Check the function and what it calls"
            ) from self._last_error

    def _count(self, key: KeyValues, error: BaseException, *, shared: bool = False) -> None:
        name = type(error).__name__
        self.done.exceptions[name] += 1
        # A text from JSON can have half of a surrogate pair, which an XCom can't store.
        message = str(error).encode("utf-8", "backslashreplace").decode()
        self.done.examples.setdefault(name, (self._states.shown(key), self._masked(message)))
        if not shared:
            last, rows = self._streak
            self._streak = (name, rows + 1 if name == last else 1)
        self._last_error = error

    def _refused(self, key: KeyValues, error: Exception) -> Outcome:
        self._count(key, error)
        return self._outcome(error, self._rows[key])

    def _outcome(self, result: Mapping[str, object] | BaseException | None, row: ClaimedRow) -> Outcome:
        outcome = outcome_of(result, row, self._states)
        return outcome if outcome.reason is None else replace(outcome, reason=self._masked(outcome.reason))

    def _renew(self) -> None:
        """Renew the claims of rows that were not begun, and begin none that may be another worker's.

        A row that another session has locked is not renewed, and its claim can still be valid.
        """
        since = time.monotonic()
        if others := self._waiting.keys() - self.claims.renew(list(self._waiting)):
            valid = self.claims.valid(list(others))
            for key in others - valid:
                del self._waiting[key]  # It is given back with the batch, or lost if it is not ours.
            if valid:
                return
        if self._renewal is not None:
            self._renewal.confirm(since)

    def _log_failed_renewal(self, renewal: Renewal) -> None:
        """Log why claims were not renewed, once: the thread that renews them tries again every second."""
        if renewal.error is None or self._logged_renewal:
            return
        self._logged_renewal = True
        logger.warning(
            "Claims of rows of %s could not be renewed. After the claim time-out, another run may process "
            "these rows too. Check the server and its limit of connections: %s",
            self._states.name,
            self._masked(f"{type(renewal.error).__name__}: {renewal.error}"),
        )

    def _write_from_time_to_time(self) -> None:
        now = time.monotonic()
        if now - self._finished_at <= FINISH_EVERY:
            return
        if not self._states.holds:
            self._write()
        elif not self._db.ping():
            # The row locks ended with the session.
            self.done.lost += len(self._waiting)
            for key in self._waiting:
                del self._rows[key]
            self._waiting.clear()
        self._finished_at = now

    def _write(self) -> None:
        before, began = list(self._outcomes), time.monotonic()
        try:
            self._finish.write(self._outcomes)
        finally:
            self.database_seconds += time.monotonic() - began
            written = [key for key in before if key not in self._outcomes]
            if self._renewal is not None:
                self._renewal.remove(written)
            for key in written:
                self._rows.pop(key, None)

    def _resize(self, rows: int, seconds: float) -> None:
        """Claim as many rows as take BATCH_SECONDS, at most twice as many as before."""
        if self._whole_batches or (rows < self._size and seconds < BATCH_SECONDS):
            return
        ideal = int(rows * BATCH_SECONDS / max(seconds, 1e-9))
        self._size = max(1, min(ideal, self._size * 2, self._batch))
