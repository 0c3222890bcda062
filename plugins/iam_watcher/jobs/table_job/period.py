"""Periods as people say them: "90d", "36h", "6mo", a timedelta, or a number of days."""

from __future__ import annotations

import calendar
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from iam_watcher.arguments import MOST_DAYS
from iam_watcher.errors import JobArgumentError
from iam_watcher.schedule.duration import BadDuration, parse_duration

if TYPE_CHECKING:
    from datetime import tzinfo

EXPECTED = 'a text such as "90d", "36h", "6mo" or "1y", or a timedelta, up to 100 years'

_OFF = re.compile(r"0(y|mo|w|d|h|m|s)?")
_UNITS = re.compile(r"[^0-9.+]+")
_MINUTES = re.compile(r"([0-9.]+)m(?!s)")
_WHOLE_MINUTES = re.compile(r"\+?([0-9]+)m")
_MONTHS = re.compile(r"([0-9]{1,4})(mo|y)")
_MOST_MONTHS = 1200


@dataclass(frozen=True)
class Period:
    """A period: so many months of the calendar, or a time that elapses.

    Attributes:
        months: of the calendar.
        elapsed: without months.
    """

    months: int = 0
    elapsed: timedelta = timedelta(0)

    def __bool__(self) -> bool:
        """Return whether it is longer than 0."""
        return bool(self.months or self.elapsed)

    def before(self, now: datetime, zone: tzinfo) -> datetime:
        """Return the moment that lies this period before another, in UTC.

        Months are counted back on the calendar of `zone`, to the same day and time of day; to the last day of
        a month that is too short. Of a time that a clock change makes unclear, the earlier moment counts, so
        that no row is old too early.
        """
        if not self.months:
            return now - self.elapsed
        local = now.astimezone(zone)
        year, month = divmod(local.year * 12 + local.month - 1 - self.months, 12)
        day = min(local.day, calendar.monthrange(year, month + 1)[1])
        then = local.replace(year=year, month=month + 1, day=day)
        return min(then.replace(fold=fold).astimezone(UTC) for fold in (0, 1))


def period(name: str, value: object) -> Period:
    """Return a period, also from a rendered template's text; a period of 0 turns a job off.

    Raises:
        JobArgumentError: it is none, is negative, is over 100 years, or has minutes that could be months.
    """
    if isinstance(value, timedelta):
        if getattr(value, "months", 0) or getattr(value, "years", 0):
            # A pendulum.Duration, whose months have 30 days and whose years have 365.
            raise JobArgumentError(
                f"{name} is {value!r}; expected a text such as '6mo' or '2y', which is counted on the "
                "calendar"
            )
        found = Period(elapsed=value)
    elif isinstance(value, str):
        found = _parsed(name, value.strip())
    else:
        raise JobArgumentError(f"{name} is {value!r}; expected {EXPECTED}")
    if (
        found.elapsed < timedelta(0)
        or found.elapsed > timedelta(days=MOST_DAYS)
        or found.months > _MOST_MONTHS
    ):
        raise JobArgumentError(f"{name} is {value!r}; expected {EXPECTED}")
    return found


def _parsed(name: str, text: str) -> Period:
    if _OFF.fullmatch(text):
        return Period()
    if found := _MONTHS.fullmatch(text):
        return Period(months=int(found[1]) * (12 if found[2] == "y" else 1))
    try:
        elapsed = parse_duration(text)
    except BadDuration as error:
        raise JobArgumentError(f"{name} is {text!r}; expected {EXPECTED}") from error
    if _may_mean_months(text):
        # A person who means months would lose the rows of the last months.
        raise JobArgumentError(
            f"{name} is {text!r}, which could mean minutes or months; {_two_spellings(text, elapsed)}"
        )
    return Period(elapsed=elapsed)


def _may_mean_months(text: str) -> bool:
    """Return whether a duration has minutes that don't follow hours, alone or with larger units."""
    units = _UNITS.findall(text)
    if "m" not in units:
        return False
    at = units.index("m")
    after_hours = at > 0 and units[at - 1] == "h"
    larger_behind = not {"h", "d", "w"}.isdisjoint(units[at:])
    alone = set(units) == {"m"}
    return larger_behind or alone or (not after_hours and not {"d", "w"}.isdisjoint(units))


def _two_spellings(text: str, elapsed: timedelta) -> str:
    """Return how to write a period with months, and how with minutes; both are texts, as of a template."""
    seconds = int(elapsed.total_seconds())
    minutes = sum(map(float, _MINUTES.findall(text)))
    months = f"{math.ceil((seconds - 60 * minutes) / 86_400 + 30 * minutes)}d"
    how = ", with 30 days for each month"
    if whole := _WHOLE_MINUTES.fullmatch(text):
        months, how = f"{whole[1]}mo", ""
    hours = f"{seconds // 3600}h{seconds // 60 % 60}m" + (f"{seconds % 60}s" if seconds % 60 else "")
    return f"write {months!r} if it means months{how}, or {hours!r} if it means minutes"
