"""Time zones as ranges of constant offset, in whole seconds since 1970-01-01T00:00Z.

`zoneinfo` returns the offset of one instant. The search for the next tick needs to know until when an
offset is valid, so that it can skip days and hours with integer arithmetic. A range ends where the offset
changes, or earlier, at the end of a block of the cache. So two ranges can have the same offset.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAY = 86_400
_BLOCK = 200 * DAY
# Files beside the tz database: their content differs between machines, or they are missing.
_OF_THE_MACHINE = frozenset({"localtime", "posixrules"})
_LINKED_FOLDERS = ("posix/", "right/")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_ORDINAL = _EPOCH.toordinal()  # days, as `date.toordinal` counts them
_MARGIN = 2 * DAY  # for the offset
# The ends of Python's calendar.
FIRST = int((datetime.min.replace(tzinfo=UTC) - _EPOCH).total_seconds()) + _MARGIN
LAST = int((datetime.max.replace(tzinfo=UTC) - _EPOCH).total_seconds()) - _MARGIN


class Span(NamedTuple):
    """From `start` and before `end`, the zone is `offset` seconds ahead of UTC."""

    start: int
    end: int
    offset: int


class Zone:
    """One zone of the tz database. Its spans are found on first use and cached."""

    def __init__(self, name: str) -> None:
        self._info = ZoneInfo(name)
        self._spans: dict[int, list[Span]] = {}
        self._always = Span(FIRST, LAST, 0) if name == "UTC" else None

    def span(self, instant: int) -> Span:
        """Return the span that `instant` is in."""
        if self._always:
            return self._always
        block = instant // _BLOCK
        spans = self._spans.get(block)
        if spans is None:
            spans = self._spans[block] = self._find(block * _BLOCK, (block + 1) * _BLOCK)
        return next(span for span in spans if instant < span.end)

    def instant(self, wall: int) -> int:
        """Return the instant of a time of the wall clock, as Go's `time.Date` chooses it.

        For a time that the clock shows twice or never, the choice depends on whether the zone is east or
        west of Greenwich.

        Args:
            wall: seconds since 1970, as if the zone were UTC.
        """
        span = self.span(wall)
        instant = wall - span.offset
        if span.start <= instant < span.end:
            return instant
        return wall - self.span(instant).offset

    def first_instant(self, wall: int) -> int:
        """Return the first instant of a time of the wall clock, or the end of the gap that skips it."""
        early = self.span(wall - DAY)
        while wall - early.offset >= early.end:
            following = self.span(early.end)
            if wall - following.offset < following.start:
                return following.start
            early = following
        return wall - early.offset

    def _offset(self, instant: int) -> int:
        moment = datetime.fromtimestamp(min(max(instant, FIRST), LAST), self._info)
        return int((moment.utcoffset() or timedelta()).total_seconds())

    def _find(self, start: int, end: int) -> list[Span]:
        """Return the spans of a block: compare offsets once a day, then search the days of a change."""
        spans = []
        offset = self._offset(start)
        for day in range(start + DAY, end + 1, DAY):
            later = self._offset(day - 1)
            if later == offset:
                continue
            low, high = day - DAY - 1, day - 1
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
            spans.append(Span(start, high, offset))
            start, offset = high, later
        spans.append(Span(start, end, offset))
        return spans


@cache
def zone(name: str) -> Zone:
    """Return the zone of this name.

    Raises:
        LookupError: the tz database has no such zone, or the zone differs between machines.
    """
    if name in _OF_THE_MACHINE or name.startswith(_LINKED_FOLDERS):
        raise LookupError(name)
    try:
        return Zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        # A folder of the database (`America`) is an OSError, `../UTC` a ValueError.
        raise LookupError(name) from error
