"""Days that only the calendar of a month tells: `L`, `L-3`, `15W`, `LW`, `5#2`, `5L`, with Quartz's meaning.

robfig/cron has none of them. The numbers of the days of the week are those of cron: Sunday is 0. In Quartz,
Sunday is 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SATURDAY, _SUNDAY = 6, 0
_WEEK = 7
_MOST_IN_A_MONTH = 5  # days of one name
_LAST = re.compile(r"L(?:-0*([0-9]{1,9}))?(W)?", re.IGNORECASE)
_NEAREST = re.compile(r"(\+?[0-9]{1,18})W", re.IGNORECASE)
_NTH = re.compile(r"(.+)#0*([0-9]{1,9})")
_LAST_OF_NAME = re.compile(r"(.+)L", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class DayInMonth:
    """A day of the month, counted from the last one, or the day from Monday to Friday nearest to a day.

    Attributes:
        day: from 1; 0 for the last day, -3 for the day three days before the last.
        nearest: whether the day from Monday to Friday nearest to `day`, in the same month, is meant.
    """

    day: int
    nearest: bool = False

    def __str__(self) -> str:
        last = f"L{self.day or ''}"
        return f"{self.day if self.day > 0 else last}{'W' if self.nearest else ''}"

    def find(self, first: int, length: int) -> int | None:
        """Return the day in a month, or None if it has none.

        Args:
            first: day of the week of the month's first day; Sunday is 0.
            length: days of the month.
        """
        day = self.day if self.day > 0 else length + self.day
        if not 1 <= day <= length:
            return None
        weekday = (first + day - 1) % _WEEK
        if self.nearest and weekday == _SATURDAY:
            return day - 1 if day > 1 else day + 2
        if self.nearest and weekday == _SUNDAY:
            return day + 1 if day < length else day - 2
        return day


@dataclass(frozen=True, order=True)
class DayInWeek:
    """The n-th, or the last, day of one name in a month.

    Attributes:
        weekday: Sunday is 0.
        number: 1 to 5; 0 for the last.
    """

    weekday: int
    number: int

    def __str__(self) -> str:
        return f"{self.weekday}#{self.number}" if self.number else f"{self.weekday}L"

    def find(self, first: int, length: int) -> int | None:
        """Return the day in a month, or None if it has none; see `DayInMonth.find`."""
        day = 1 + (self.weekday - first) % _WEEK
        if not self.number:
            return day + (length - day) // _WEEK * _WEEK
        day += (self.number - 1) * _WEEK
        return day if day <= length else None


DayRule = DayInMonth | DayInWeek


class BadRule(ValueError):  # noqa: N818  becomes an InvalidSpec where the spec is known
    """The text is meant as a rule and is not valid; the message is what was expected."""


def in_month(text: str, number: Callable[[str], int]) -> DayInMonth | None:
    """Return the rule that an item of the field day of month is, or None if it is none.

    Args:
        text: the item.
        number: returns a valid day of the month.

    Raises:
        BadRule: the number of days before the last is not valid.
    """
    if last := _LAST.fullmatch(text):
        before = 0 if last[1] is None else int(last[1])
        if last[1] is not None and not 1 <= before <= 30:  # noqa: PLR2004  no month has more days before its last
            raise BadRule("L, or L-1 to L-30")
        return DayInMonth(-before, nearest=last[2] is not None)
    if nearest := _NEAREST.fullmatch(text):
        return DayInMonth(number(nearest[1]), nearest=True)
    return None


def in_week(text: str, number: Callable[[str], int]) -> DayInWeek | None:
    """Return the rule that an item of the field day of week is, or None if it is none.

    Args:
        text: the item.
        number: returns the number of a valid day of the week.

    Raises:
        BadRule: no month has so many days of this name.
    """
    if nth := _NTH.fullmatch(text):
        if not 1 <= int(nth[2]) <= _MOST_IN_A_MONTH:
            raise BadRule("a number from 1 to 5 after #, such as fri#2 for the second Friday of a month")
        return DayInWeek(number(nth[1]), int(nth[2]))
    if last := _LAST_OF_NAME.fullmatch(text):
        return DayInWeek(number(last[1]), 0)
    return None
