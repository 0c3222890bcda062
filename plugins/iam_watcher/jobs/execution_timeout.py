"""Airflow's `execution_timeout`, deferred while rows are committed that the run report does not have yet."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class ExecutionTimeout:
    """Lets the time-out end a task, but not between a commit and the count of its rows.

    Airflow sets an alarm whose handler raises wherever the main thread is. Elsewhere that does no harm: the
    server rolls back what is not committed. So it also ends a call that hangs, of a mail server or of an
    archive's store.
    """

    def __init__(self) -> None:
        self._uncounted = False
        self._overdue: Callable[[], None] | None = None

    def committing(self) -> None:
        """Defer the time-out from now on: a commit is sent, whose rows are to be counted."""
        self._uncounted = True

    def counted(self) -> None:
        """Let the time-out raise again, also one that was deferred meanwhile."""
        self._uncounted = False
        if self._overdue is not None:
            self._overdue()

    @contextmanager
    def deferrable(self) -> Iterator[None]:
        """Replace the handler of the alarm within the block."""
        airflows = signal.getsignal(signal.SIGALRM)
        if threading.current_thread() is not threading.main_thread() or not callable(airflows):
            yield
            return

        def on_alarm(number: int, frame: Any) -> None:
            if self._uncounted:
                self._overdue = partial(airflows, number, frame)
            else:
                airflows(number, frame)

        signal.signal(signal.SIGALRM, on_alarm)
        try:
            yield
        finally:
            signal.signal(signal.SIGALRM, airflows)
