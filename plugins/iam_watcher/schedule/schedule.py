"""The class `Schedule`, which all schedules implement, and conversions of moments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Literal

from iam_watcher.schedule.zone import DAY, EPOCH_ORDINAL

Kind = Literal["cron", "every", "after", "at"]


def utc(moment: datetime) -> datetime:
    """Return `moment` in UTC as a plain datetime, because pendulum's datetimes take only its own durations.

    Raises:
        ValueError: `moment` has no time zone.
    """
    if type(moment) is datetime and moment.tzinfo is UTC:
        return moment
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone; give an aware datetime")
    return datetime.combine(moment.date(), moment.timetz()).astimezone(UTC)


def seconds(moment: datetime) -> int:
    """Return the whole seconds from 1970-01-01T00:00Z to `moment`, rounded down.

    Raises:
        ValueError: `moment` has no time zone.
    """
    plain = utc(moment)
    clock = plain.hour * 3_600 + plain.minute * 60 + plain.second
    return (plain.toordinal() - EPOCH_ORDINAL) * DAY + clock


class Schedule(ABC):
    """A schedule with ticks (scheduled times). Immutable and hashable; `str()` is the canonical spec."""

    kind: ClassVar[Kind]

    @property
    @abstractmethod
    def interval(self) -> timedelta | None:
        """The time between two ticks, or None if it varies."""

    @property
    def shown(self) -> str:
        """The spec as people see it: the canonical spec, in which a `~` of the file stays a `~`."""
        return str(self)

    @abstractmethod
    def next(self, after: datetime) -> datetime | None:
        """Return the first tick strictly after `after`, in the time zone of `after`.

        Args:
            after: an aware datetime. Use UTC for ticks in the repeated hour of a clock change, because
                Python compares two datetimes of one zone by their clock time.

        Returns:
            The tick, or None if there is none (for cron: none in this and the next five years; with rules for
            days, forty).

        Raises:
            ValueError: `after` has no time zone.
        """

    def latest(self, *, after: datetime, until: datetime) -> datetime | None:
        """Return the last tick later than `after` and not later than `until`, or None.

        The number of calls of `next` grows with the logarithm of the time span, so a span of years is
        fast even for a tick each second.
        """
        high = utc(until)
        low = self.next(utc(after))
        if low is None or low > high:
            return None
        # `low` is a tick; no tick is later than `high` and not later than `until`.
        while (following := self.next(low)) is not None and following <= high:
            middle = low + (high - low) / 2
            later = self.next(middle)
            if later is not None and later <= high:
                low = later
            else:
                low, high = following, middle
        return low
