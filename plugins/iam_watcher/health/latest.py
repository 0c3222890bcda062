"""Keeps what the last look found, so that many requests cost the servers no more than one."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from iam_watcher.health.check import Health, all_unhealthy
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

logger = get_logger(__name__)

KEPT = 5.0  # seconds that an answer is given again
# Seconds that a request waits. Each server has less time, see check.ANSWER_WITHIN; what has no limit of its
# own is the look-up of a host's name.
LONGEST_LOOK = 4.0


class Latest:
    """The health that the last look found. There is one look at a time, in a thread of its own.

    Args:
        look: asks the servers; raises no error.
        kept: seconds that an answer is given again.
        longest: seconds that a request waits for a look.
    """

    def __init__(
        self, look: Callable[[], Health], *, kept: float = KEPT, longest: float = LONGEST_LOOK
    ) -> None:
        self._look = look
        self._kept = kept
        self._longest = longest
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="iam-watcher-health")
        self._guard = threading.Lock()
        self._current: Future[Health] | None = None
        self._began = self._ended = 0.0
        self._logged: Health | None = None

    async def get(self) -> Health:
        """Return the health, at most some seconds old. Waiting requests hold no thread."""
        future, began = self._future()
        if not future.done():
            left = max(0.0, began + self._longest - time.monotonic())
            # Not wait_for, which would cancel a look that others wait for, too.
            await asyncio.wait({asyncio.wrap_future(future)}, timeout=left)
        if future.done():
            found = future.result()
        else:
            found = all_unhealthy(f"there was no answer within {self._longest:g} s")
        self._log(found)
        return found

    def _future(self) -> tuple[Future[Health], float]:
        """Return the look to wait for, and when it began."""
        with self._guard:
            if self._current is None or (
                self._current.done() and time.monotonic() > self._ended + self._kept
            ):
                self._began = time.monotonic()
                self._current = self._thread.submit(self._timed)
            return self._current, self._began

    def _timed(self) -> Health:
        try:
            return self._look()
        finally:
            self._ended = time.monotonic()

    def _log(self, found: Health) -> None:
        """Log what is wrong, once for each change: the answer itself does not say it."""
        with self._guard:
            before, self._logged = self._logged, found
        if before is found:
            return
        for part, fault in found.faults.items():
            was = before.faults.get(part) if before else None
            if fault and fault != was:
                logger.warning("The health address answers that %s is unhealthy: %s", part, fault)
            elif was and fault == "":
                logger.warning("The health address answers that %s is healthy again", part)
