"""Schedules without a time zone: fixed rate, interval after completion, once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from iam_watcher.errors import InvalidSpec
from iam_watcher.schedule.duration import format_duration
from iam_watcher.schedule.schedule import Kind, Schedule, seconds, utc
from iam_watcher.schedule.zone import FIRST, LAST

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True)
class Every(Schedule):
    """Fixed rate: a tick at each multiple of `duration` since 1970-01-01T00:00Z."""

    duration: timedelta

    kind: ClassVar[Kind] = "every"

    @property
    def interval(self) -> timedelta:
        """The time between two ticks."""
        return self.duration

    def __str__(self) -> str:
        return f"@every {format_duration(self.duration)}"

    def next(self, after: datetime) -> datetime | None:  # noqa: D102  see Schedule
        size = int(self.duration.total_seconds())
        tick = (seconds(after) // size + 1) * size
        return datetime.fromtimestamp(tick, after.tzinfo) if tick < LAST else None


@dataclass(frozen=True)
class After(Schedule):
    """Interval after completion: `next` takes the end of the last run."""

    duration: timedelta

    kind: ClassVar[Kind] = "after"

    @property
    def interval(self) -> timedelta:
        """The time from the end of one run to the start of the next."""
        return self.duration

    def __str__(self) -> str:
        return f"@after {format_duration(self.duration)}"

    def next(self, after: datetime) -> datetime | None:  # noqa: D102  see Schedule
        if seconds(after) + self.duration.total_seconds() >= LAST:
            return None
        return (utc(after) + self.duration).astimezone(after.tzinfo)


@dataclass(frozen=True)
class At(Schedule):
    """One tick."""

    moment: datetime

    kind: ClassVar[Kind] = "at"

    @classmethod
    def parse(cls, spec: str, text: str) -> At:
        """Return the schedule of an RFC 3339 time.

        Args:
            spec: the whole spec, for the error.
            text: the time.

        Raises:
            InvalidSpec: `text` isn't such a time, or isn't between the years 1 and 9999.
        """
        expected = "an RFC 3339 time with its offset, such as 2027-01-31T08:00:00+01:00"
        if _RFC3339.fullmatch(text):
            try:
                moment = datetime.fromisoformat(text.upper())
                if FIRST < seconds(moment) < LAST:
                    return cls(moment)
                expected = "a time between the years 1 and 9999 in every time zone"
            except OverflowError:
                expected = "a time between the years 1 and 9999 in every time zone"
            except ValueError as error:
                expected = f"{expected} ({error})"
        raise InvalidSpec(spec, field="@at time", part=text, expected=expected)

    @property
    def interval(self) -> timedelta | None:
        """None: there is only one tick."""
        return None

    def __str__(self) -> str:
        return f"@at {self.moment.isoformat().replace('+00:00', 'Z')}"

    def next(self, after: datetime) -> datetime | None:  # noqa: D102  see Schedule
        return self.moment.astimezone(after.tzinfo) if self.moment > utc(after) else None
