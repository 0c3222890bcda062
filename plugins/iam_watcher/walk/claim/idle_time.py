"""Waits for rows when none is due, as the long polling of other queues does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from iam_watcher.log_lines import get_logger
from iam_watcher.walk.claim.due_query import is_due

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.claim.outcome import Processed
    from iam_watcher.walk.claim.row_states import RowStates

logger = get_logger(__name__)

LOOK_EVERY = 0.5  # seconds between two looks; a run that has to stop ends within this time


class IdleTime:
    """The time in which a run has no row to process.

    It asks one question in a transaction of its own, and sleeps between two questions. So no transaction is
    open while it waits, and the server does not end the session as idle.

    Args:
        db: transactions on the database.
        states: the rows and their states.
        done: counts the seconds.
        longest: seconds without a row after which the run ends; 0 to end at once.
        safe_point: raises if the run has to stop.
        interruptible: a context in which an alarm may raise: around the sleep.
    """

    def __init__(
        self,
        db: Transactions,
        states: RowStates,
        done: Processed,
        longest: float,
        *,
        safe_point: Callable[[], None],
        interruptible: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._db = db
        self._states = states
        self._done = done
        self._longest = longest
        self._safe_point = safe_point
        self._interruptible = interruptible
        self._since: float
        self._is_logged = False

    def begin(self) -> None:
        """Begin to measure the time: the run begins, or it has processed rows."""
        self._since = time.monotonic()

    def wait(self, seconds_left: float | None) -> bool:
        """Wait until a row is due or the time limit is reached; return False if the idle time is over.

        Args:
            seconds_left: of the time limit; None for no limit.
        """
        began = time.monotonic()
        ends = self._since + self._longest
        limit = float("inf") if seconds_left is None else began + seconds_left
        self._log()
        try:
            while (now := time.monotonic()) < min(ends, limit):
                with self._interruptible():
                    time.sleep(min(LOOK_EVERY, ends - now, limit - now))
                self._safe_point()
                if self._is_due():
                    return True
            return now < ends
        finally:
            if self._longest:
                self._done.idle_seconds += time.monotonic() - began

    def _is_due(self) -> bool:
        name = self._states.name
        return self._db.run(lambda: is_due(self._db, self._states), what=f"look for rows in {name}")

    def _log(self) -> None:
        if self._longest and not self._is_logged:
            self._is_logged = True
            logger.info(
                "No row of %s is due. The run waits for rows, and ends after %g s without one",
                self._states.name,
                self._longest,
            )
