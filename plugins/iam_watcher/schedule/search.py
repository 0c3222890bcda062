"""The search for the next tick of a cron schedule, with the answers of robfig/cron v3.

Source: github.com/robfig/cron v3.0.1, `SpecSchedule.Next`. It walks a clock forward, month by month,
then day by day, hour by hour, and so on. At a clock change its answers depend on each of these
steps, so the search here takes the same steps; where the zone's offset is constant it takes many of
them at once. In two places the original goes wrong, and the search here goes on: it never comes past a
calendar day that a zone left out (Pacific/Apia, 2011-12-30), and it answers with a time that isn't
later where a repeated stretch doesn't begin on the hour (Pacific/Chatham, each April).
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from iam_watcher.schedule.fields import MONTH
from iam_watcher.schedule.zone import DAY

if TYPE_CHECKING:
    from iam_watcher.schedule.fields import CronFields
    from iam_watcher.schedule.zone import Zone

_HOUR = 3_600
_MINUTE = 60
_NOON = 12
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_YEARS = 5
_LAST_YEAR = 9_998


class Search:
    """One walk from an instant to the next tick.

    The method of each field moves `_instant` on until the field matches, and returns True when that
    took it into the next larger unit, whose fields have to be looked at again.
    """

    __slots__ = ("_added", "_fields", "_instant", "_span", "_steady", "_zone")

    def __init__(self, fields: CronFields, zone: Zone) -> None:
        self._fields = fields
        self._zone = zone

    def run(self, start: int) -> int | None:
        """Return the first tick after `start`, or None if none comes in this and the next five years."""
        tick = self._walk(start, steady=False)
        if tick is not None and tick <= start:
            # `Zone.instant` chose the first pass of a repeated stretch, and `start` is in the second.
            tick = self._walk(start, steady=True)
        return tick

    def _walk(self, start: int, *, steady: bool) -> int | None:
        self._instant = start + 1
        self._span = self._zone.span(self._instant)
        # Once a field has moved, all smaller ones stand at their lowest value.
        self._added = False
        self._steady = steady
        year = self._date().year
        limit = min(year + _YEARS, _LAST_YEAR)
        while year <= limit:
            if not (self._month() or self._day() or self._hour() or self._minute() or self._second()):
                return self._instant
            year = self._date().year
        return None

    def _wall(self) -> int:
        """Return the clock's reading, in seconds as if the zone were UTC."""
        if not self._span.start <= self._instant < self._span.end:
            self._span = self._zone.span(self._instant)
        return self._instant + self._span.offset

    def _date(self) -> date:
        return date.fromordinal(self._wall() // DAY + _EPOCH_ORDINAL)

    def _set(self, wall: int) -> None:
        """Set the clock to a reading later than its own."""
        instant = self._zone.instant(wall)
        # A day that the zone left out leads back to where it came from: the original never ends there.
        self._instant = instant if instant > self._instant else self._instant + DAY

    def _month(self) -> bool:
        months = self._fields.month.mask
        if months == MONTH.full:
            return False
        wall = self._wall()
        day = date.fromordinal(wall // DAY + _EPOCH_ORDINAL)
        if months >> day.month & 1:
            return False
        if not self._added:
            self._added = True
            self._instant = self._zone.instant((wall // DAY - day.day + 1) * DAY)
        wall = self._wall()
        day = date.fromordinal(wall // DAY + _EPOCH_ORDINAL)
        while True:
            day = _first_of_next_month(day) + timedelta(days=day.day - 1)
            wall = (day.toordinal() - _EPOCH_ORDINAL) * DAY + wall % DAY
            self._set(wall)
            if wall != self._wall():
                # There is no such reading.
                wall = self._wall()
                day = date.fromordinal(wall // DAY + _EPOCH_ORDINAL)
            if day.month == 1:
                return True
            if months >> day.month & 1:
                return False

    def _day(self) -> bool:
        if self._fields.is_every_day:
            return False
        matches = self._fields.matches_day
        ordinal = self._wall() // DAY + _EPOCH_ORDINAL
        if matches(date.fromordinal(ordinal).day, ordinal % 7):
            return False
        if not self._added:
            self._added = True
            self._instant = self._zone.instant((ordinal - _EPOCH_ORDINAL) * DAY)
        while True:
            wall = self._wall()
            days = 1
            if wall % DAY == 0:
                # Midnights within one span are all there: go by the calendar.
                days = min(self._days_off(wall), max(1, (self._span.end - 1 - self._instant) // DAY))
            self._set(wall + days * DAY)
            wall = self._wall()
            hour = wall % DAY // _HOUR
            if hour:
                # There was no midnight.
                self._instant += (24 - hour if hour > _NOON else -hour) * _HOUR
                wall = self._wall()
            ordinal = wall // DAY + _EPOCH_ORDINAL
            day = date.fromordinal(ordinal).day
            if day == 1:
                return True
            if matches(day, ordinal % 7):
                return False

    def _days_off(self, wall: int) -> int:
        """Return how far the next matching day of the month is, or else the next month."""
        ordinal = wall // DAY + _EPOCH_ORDINAL
        today = date.fromordinal(ordinal)
        rest = _first_of_next_month(today).toordinal() - ordinal
        for days in range(1, rest):
            if self._fields.matches_day(today.day + days, (ordinal + days) % 7):
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
        """Go that many steps of `size` seconds on, or a single one if the offset changes on the way."""
        instant = self._instant + steps * size
        self._instant = instant if instant < self._span.end else self._instant + size


def _first_of_next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _steps(mask: int, number: int, end: int) -> int:
    """Return how far the next number of `mask` above `number` is, or else `end`."""
    above = mask >> number + 1
    return (above & -above).bit_length() if above else end - number
