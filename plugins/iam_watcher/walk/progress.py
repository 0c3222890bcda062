"""The progress of a walk, reported from time to time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger(__name__)

EVERY = 10.0  # seconds
FIRST = 1.0  # seconds from the beginning: a person looks whether it works


@dataclass(frozen=True)
class Progress:
    """The progress of a walk.

    Attributes:
        examined: rows that the server read.
        changed: rows that were written.
        rows_per_second: rows examined in a second, in the mean; a dry run and a count change none.
        share: of the rows that are done, 0 to 1: of all rows of the table or, by an index, of the rows that
            matched at the beginning. If a walk resumes behind a key, the rows up to there count as done.
        eta_seconds: until the end, at the speed so far; None if it can't be estimated yet.
    """

    examined: int
    changed: int
    rows_per_second: float
    share: float
    eta_seconds: float | None

    @classmethod
    def after(cls, seconds: float, *, examined: int, changed: int, began_at: float, share: float) -> Progress:
        """Return the progress of a walk that has worked for so many seconds.

        Args:
            seconds: since it began.
            examined: rows that the server read.
            changed: rows that were written.
            began_at: the share that was done when it began.
            share: the share that is done now.
        """
        eta = seconds * (1 - share) / (share - began_at) if share > began_at else None
        return cls(examined, changed, examined / max(seconds, 1e-9), share, eta)

    def __str__(self) -> str:
        eta = "unknown" if self.eta_seconds is None else f"{self.eta_seconds:.0f}s"
        return (
            f"examined={self.examined} changed={self.changed} rows_per_second={self.rows_per_second:.0f} "
            f"walked={self.share:.1%} eta={eta}"
        )


class ProgressReporter:
    """Reports the progress of a walk after 1 s and then every 10 s: in the log, and to a callback.

    Args:
        table: its name.
        publish: called with the progress.
    """

    def __init__(self, table: str, publish: Callable[[Progress], None] = lambda _: None) -> None:
        self._table = table
        self._publish = publish
        self.begin(0.0)

    def begin(self, share: float) -> None:
        """Begin to measure the time.

        Args:
            share: of the rows that is done already.
        """
        self._began = time.monotonic()
        self._next = self._began + FIRST
        self._began_at = share

    def report(self, *, examined: int, changed: int, share: float) -> None:
        """Report the progress, if it is time to; for the arguments see `Progress`."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        progress = Progress.after(
            now - self._began, examined=examined, changed=changed, began_at=self._began_at, share=share
        )
        logger.info("event=progress table=%s %s", self._table, progress)
        self._publish(progress)
