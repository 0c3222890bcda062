"""Cron schedules: six fields, and the time zone whose clock they match."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import ClassVar, Literal

from iam_watcher.schedule.fields import KINDS, CronFields
from iam_watcher.schedule.schedule import Kind, Schedule, seconds
from iam_watcher.schedule.search import Search
from iam_watcher.schedule.zone import FIRST, LAST, Zone, zone

Dst = Literal["robfig", "vixie"]


@dataclass(frozen=True)
class Cron(Schedule):
    """Ticks when six fields match the clock of one time zone."""

    fields: CronFields
    timezone: str = "UTC"
    dst: Dst = "robfig"
    splay: str = field(default="", compare=False)
    """The fields, or the name, of a spec with `~`, of which `fields` has the values; else empty."""

    kind: ClassVar[Kind] = "cron"

    @property
    def interval(self) -> timedelta | None:
        """None: because of months and clock changes, the time between two ticks varies."""
        return None

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        vixie = self.dst == "vixie"
        text = " ".join(
            kind.format(field, vixie=vixie) for kind, field in zip(KINDS, self.fields.in_order(), strict=True)
        )
        return self._with_zone(text)

    @property
    def shown(self) -> str:
        """The spec as people see it, see Schedule."""
        return self._with_zone(self.splay) if self.splay else str(self)

    def _with_zone(self, text: str) -> str:
        return text if self.timezone == "UTC" else f"CRON_TZ={self.timezone} {text}"

    def next(self, after: datetime) -> datetime | None:  # noqa: D102  see Schedule
        start = max(seconds(after), FIRST)
        if start >= LAST:
            return None
        local = zone(self.timezone)
        if self.runs_once_when_repeated:
            tick = self._next_vixie(local, start)
        else:
            tick = Search(self.fields, local).run(start)
        return None if tick is None else datetime.fromtimestamp(tick, after.tzinfo)

    @property
    def runs_once_when_repeated(self) -> bool:
        """Whether a time that the clock repeats is one tick, and a skipped time has its tick right after.

        Vixie cron follows elapsed time if the minute or the hour begins with a star.
        """
        return self.dst == "vixie" and not (self.fields.minute.star or self.fields.hour.star)

    def _next_vixie(self, local: Zone, start: int) -> int | None:
        """Return the instant at which Vixie cron runs the next matching time of the wall clock.

        It runs a time that a gap skips right after the gap, and a repeated time the first time only.
        """
        wall = start + local.span(start).offset
        while True:
            reading = Search(self.fields, zone("UTC")).run(wall)
            if reading is None:
                return None
            tick = local.first_instant(reading)
            if tick > start:
                return tick
            # `start` is in the second pass of repeated times, whose ticks are over: continue after them.
            span = local.span(tick)
            wall = max(reading, span.end + span.offset - 1)
