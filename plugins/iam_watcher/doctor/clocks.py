"""Clocks that differ."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from iam_watcher.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

# NTP keeps clocks within milliseconds. A job refuses to run at session.LARGEST_CLOCK_DIFFERENCE.
LARGEST_DIFFERENCE = timedelta(seconds=5)


def check_clock(server: str, ahead: timedelta) -> Iterator[Finding]:
    """Compare a server's clock with this machine's.

    Args:
        server: what the message calls it.
        ahead: by how much its clock is ahead of this machine's.
    """
    if abs(ahead) > LARGEST_DIFFERENCE:
        seconds = ahead.total_seconds()
        side = "ahead of" if seconds > 0 else "behind"
        limit = LARGEST_DIFFERENCE.total_seconds()
        yield Finding(
            f"The clock of {server} is {abs(seconds):.0f} s {side} the clock of this machine; expected at "
            f"most {limit:.0f} s. Let NTP set both clocks"
        )
