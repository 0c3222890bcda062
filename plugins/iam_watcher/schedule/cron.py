"""Cron schedules: six fields, by the clock of a time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Literal

from iam_watcher.schedule.base import Kind, Schedule, seconds
from iam_watcher.schedule.fields import DAY_OF_MONTH, DAY_OF_WEEK, KINDS, Field
from iam_watcher.schedule.search import Search
from iam_watcher.schedule.zone import FIRST, LAST, Zone, zone

Dst = Literal["robfig", "vixie"]


@dataclass(frozen=True)
class Cron(Schedule):
    """Ticks at the times of day that six fields name, by the clock of one time zone."""

    second: Field
    minute: Field
    hour: Field
    day_of_month: Field
    month: Field
    day_of_week: Field
    timezone: str = "UTC"
    dst: Dst = "robfig"

    kind: ClassVar[Kind] = "cron"

    @property
    def interval(self) -> timedelta | None:
        """None: months and clock changes make the distances differ."""
        return None

    @property
    def fields(self) -> tuple[Field, ...]:
        """The six fields, seconds first."""
        return (self.second, self.minute, self.hour, self.day_of_month, self.month, self.day_of_week)

    def __str__(self) -> str:
        vixie = self.dst == "vixie"
        text = " ".join(
            kind.format(field, vixie=vixie) for kind, field in zip(KINDS, self.fields, strict=True)
        )
        return text if self.timezone == "UTC" else f"CRON_TZ={self.timezone} {text}"

    def next(self, after: datetime) -> datetime | None:  # noqa: D102  see Schedule
        start = max(seconds(after), FIRST)
        if start >= LAST:
            return None
        local = zone(self.timezone)
        if self.runs_once_when_repeated:
            tick = self._next_vixie(local, start)
        else:
            tick = Search(self, local).run(start)
        return None if tick is None else datetime.fromtimestamp(tick, after.tzinfo)

    @property
    def runs_once_when_repeated(self) -> bool:
        """Whether a reading that the clock repeats is one tick, and one that it skips comes right after.

        Vixie cron, too, goes by elapsed time where the minute or the hour begins with a star.
        """
        return self.dst == "vixie" and not (self.minute.star or self.hour.star)

    @property
    def is_every_day(self) -> bool:
        """Whether both day fields name every day."""
        return self.day_of_month.mask == DAY_OF_MONTH.full and self.day_of_week.mask == DAY_OF_WEEK.full

    def matches_day(self, day: int, weekday: int) -> bool:
        """Tell whether a day of the month that is that day of the week (Sunday is 0) is one of these.

        Both must match if one of the two fields is a star, else one is enough.
        """
        in_month = self.day_of_month.mask >> day & 1
        in_week = self.day_of_week.mask >> weekday & 1
        if self.day_of_month.star or self.day_of_week.star:
            return bool(in_month and in_week)
        return bool(in_month or in_week)

    def _next_vixie(self, local: Zone, start: int) -> int | None:
        """Find the next reading of the wall clock, then the instant at which Vixie cron acts on it.

        A reading that a gap skips is acted on right after the gap, a repeated one the first time only.
        """
        wall = start + local.span(start).offset
        while True:
            reading = Search(self, zone("UTC")).run(wall)
            if reading is None:
                return None
            tick = local.first_instant(reading)
            if tick > start:
                return tick
            # `start` is in the second pass of a repeated stretch: it has had its turn, go on behind it.
            span = local.span(tick)
            wall = max(reading, span.end + span.offset - 1)
