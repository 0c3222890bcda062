"""Finds the next tick of a cron schedule, with the same results as robfig/cron v3.

The model is `SpecSchedule.Next` of github.com/robfig/cron v3.0.1. It moves a clock forward month by month,
then day by day, hour by hour, and so on. At a clock change, the result depends on each of these steps. So
this search takes the same steps, and takes many of them at once while the zone's offset is constant. The
original has two faults that this search does not have: it never gets past a calendar day that a zone left
out (Pacific/Apia, 2011-12-30), and it returns a time that isn't later if repeated times don't begin on the
hour (Pacific/Chatham, each April).
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from iam_watcher.schedule.fields import MONTH
from iam_watcher.schedule.zone import DAY, EPOCH_ORDINAL

if TYPE_CHECKING:
    from iam_watcher.schedule.fields import CronFields
    from iam_watcher.schedule.zone import Zone

_HOUR = 3_600
_MINUTE = 60
_NOON = 12
_YEARS = 5
# February has a fifth day of one name in leap years only: mostly each 28 years, around 2100 after 40.
_YEARS_OF_RULES = 40
LAST_YEAR = 9_998


class Search:
    """The search from an instant to the next tick.

    The method of each field moves `_instant` forward until the field matches. It returns True if this
    reached the next larger unit: then the larger fields must be checked again.
    """

    __slots__ = ("_added", "_fields", "_instant", "_span", "_steady", "_zone")

    def __init__(self, fields: CronFields, zone: Zone) -> None:
        self._fields = fields
        self._zone = zone

    def run(self, start: int) -> int | None:
        """Return the first tick after `start`, or None if none comes in this and the next five years.

        With rules for days, which robfig/cron does not have, the search looks forty years ahead.
        """
        tick = self._walk(start, steady=False)
        if tick is not None and tick <= start:
            # `Zone.instant` chose the first pass of repeated times, and `start` is in the second.
            tick = self._walk(start, steady=True)
        return tick

    def _walk(self, start: int, *, steady: bool) -> int | None:
        self._instant = start + 1
        self._span = self._zone.span(self._instant)
        # Once a field has moved, all smaller fields have their lowest value.
        self._added = False
        self._steady = steady
        year = self._date().year
        limit = min(year + (_YEARS_OF_RULES if self._fields.has_rules else _YEARS), LAST_YEAR)
        while year <= limit:
            if not (self._month() or self._day() or self._hour() or self._minute() or self._second()):
                return self._instant
            year = self._date().year
        return None

    def _wall(self) -> int:
        """Return the clock's time, in seconds as if the zone were UTC."""
        if not self._span.start <= self._instant < self._span.end:
            self._span = self._zone.span(self._instant)
        return self._instant + self._span.offset

    def _date(self) -> date:
        return date.fromordinal(self._wall() // DAY + EPOCH_ORDINAL)

    def _set(self, wall: int) -> None:
        """Set the clock to a later time."""
        instant = self._zone.instant(wall)
        # On a day that the zone left out, `instant` is not later. The original never ends there.
        self._instant = instant if instant > self._instant else self._instant + DAY

    def _month(self) -> bool:
        months = self._fields.month.mask
        if months == MONTH.full:
            return False
        wall = self._wall()
        day = date.fromordinal(wall // DAY + EPOCH_ORDINAL)
        if months >> day.month & 1:
            return False
        if not self._added:
            self._added = True
            self._instant = self._zone.instant((wall // DAY - day.day + 1) * DAY)
        wall = self._wall()
        day = date.fromordinal(wall // DAY + EPOCH_ORDINAL)
        while True:
            day = _first_of_next_month(day) + timedelta(days=day.day - 1)
            wall = (day.toordinal() - EPOCH_ORDINAL) * DAY + wall % DAY
            self._set(wall)
            if wall != self._wall():
                # The clock never shows this time.
                wall = self._wall()
                day = date.fromordinal(wall // DAY + EPOCH_ORDINAL)
            if day.month == 1:
                return True
            if months >> day.month & 1:
                return False

    def _day(self) -> bool:
        if self._fields.is_every_day:
            return False
        ordinal = self._wall() // DAY + EPOCH_ORDINAL
        if self._matches(ordinal):
            return False
        if not self._added:
            self._added = True
            self._instant = self._zone.instant((ordinal - EPOCH_ORDINAL) * DAY)
        while True:
            wall = self._wall()
            self._set(wall + (1 if wall % DAY else self._days_off(wall)) * DAY)
            wall = self._wall()
            hour = wall % DAY // _HOUR
            if hour:
                # There was no midnight.
                self._instant += (24 - hour if hour > _NOON else -hour) * _HOUR
                wall = self._wall()
            ordinal = wall // DAY + EPOCH_ORDINAL
            if date.fromordinal(ordinal).day == 1:
                return True
            if self._matches(ordinal):
                return False

    def _matches(self, ordinal: int) -> bool:
        today = date.fromordinal(ordinal)
        return self._fields.matches_day(today.day, ordinal % 7, _days_of_month(today))

    def _days_off(self, wall: int) -> int:
        """Return the days until the next matching day of this month, or until the next month."""
        ordinal = wall // DAY + EPOCH_ORDINAL
        today = date.fromordinal(ordinal)
        rest = _first_of_next_month(today).toordinal() - ordinal
        for days in range(1, rest):
            if self._fields.matches_day(today.day + days, (ordinal + days) % 7, today.day + rest - 1):
                return days
        return rest

    def _hour(self) -> bool:
        hours = self._fields.hour.mask
        wall = self._wall()
        if hours >> wall % DAY // _HOUR & 1:
            return False
        if not self._added:
            self._added = True
            whole = wall - wall % _HOUR
            self._instant = whole - self._span.offset if self._steady else self._zone.instant(whole)
        while True:
            hour = self._wall() % DAY // _HOUR
            self._advance(_steps(hours, hour, 24), _HOUR)
            hour = self._wall() % DAY // _HOUR
            if hour == 0:
                return True
            if hours >> hour & 1:
                return False

    def _minute(self) -> bool:
        minutes = self._fields.minute.mask
        minute = self._wall() % _HOUR // _MINUTE
        if minutes >> minute & 1:
            return False
        if not self._added:
            self._added = True
            self._instant -= self._instant % _MINUTE
        while True:
            self._advance(_steps(minutes, minute, 60), _MINUTE)
            minute = self._wall() % _HOUR // _MINUTE
            if minute == 0:
                return True
            if minutes >> minute & 1:
                return False

    def _second(self) -> bool:
        matching = self._fields.second.mask
        second = self._wall() % _MINUTE
        if matching >> second & 1:
            return False
        self._added = True
        while True:
            self._advance(_steps(matching, second, 60), 1)
            second = self._wall() % _MINUTE
            if second == 0:
                return True
            if matching >> second & 1:
                return False

    def _advance(self, steps: int, size: int) -> None:
        """Move forward by `steps` times `size` seconds, or by one step if the offset changes in between."""
        instant = self._instant + steps * size
        self._instant = instant if instant < self._span.end else self._instant + size


def _first_of_next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _days_of_month(day: date) -> int:
    return (_first_of_next_month(day) - timedelta(days=1)).day


def _steps(mask: int, number: int, end: int) -> int:
    """Return the steps from `number` to the next number of `mask`, or to `end` if there is none."""
    above = mask >> number + 1
    return (above & -above).bit_length() if above else end - number
