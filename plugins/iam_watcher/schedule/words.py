"""Describes schedules in words: "every day at 03:30:00 Asia/Shanghai"."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from iam_watcher.schedule.cron import Cron
from iam_watcher.schedule.day_rules import DayInMonth
from iam_watcher.schedule.fields import (
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    HOUR,
    MINUTE,
    MONTH,
    SECOND,
    Field,
    FieldKind,
)
from iam_watcher.schedule.fixed import After, At, Every

if TYPE_CHECKING:
    from iam_watcher.schedule.day_rules import DayRule
    from iam_watcher.schedule.schedule import Schedule

_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_NUMBERS = ("last", "first", "second", "third", "fourth", "fifth")
_LISTED_TIMES = 6
_HOURS = 24


def describe(schedule: Schedule) -> str:
    """Return the schedule in one line of English, without a full stop."""
    match schedule:
        case Every(duration):
            words = _duration(int(duration.total_seconds()))
            return f"every {words.removeprefix('1 ') if words.count(' ') == 1 else words}"
        case After(duration):
            return f"{_duration(int(duration.total_seconds()))} after the last run ended"
        case At(moment):
            return f"once, at {moment.isoformat(sep=' ')}"
        case Cron():
            return _cron(schedule)
    return str(schedule)


def _duration(seconds: int) -> str:
    parts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return " ".join(parts)


@lru_cache
def _cron(cron: Cron) -> str:
    times, frequent = _times(cron)
    days = _days(cron)
    months = (
        "" if _is_full(cron.fields.month, MONTH) else f"in {_and(_names(cron.fields.month, MONTH, _MONTHS))}"
    )
    every_hour = frequent and not days and not months and _is_full(cron.fields.hour, HOUR)
    if every_hour and _has_whole_hours(cron.timezone):
        return times
    parts = [times, days, months] if frequent else [days or "every day", months, times]
    return f"{' '.join(part for part in parts if part)} {cron.timezone}"


def _has_whole_hours(zone: str) -> bool:
    """Return whether all hours of a time zone begin when those of UTC do."""
    moments = (datetime(2026, month, 1, tzinfo=ZoneInfo(zone)) for month in (1, 7))
    return all((moment.utcoffset() or timedelta()) % timedelta(hours=1) == timedelta() for moment in moments)


def _times(cron: Cron) -> tuple[str, bool]:
    """Return the times of day in words, and whether they repeat at a constant step."""
    seconds, minutes, hours = (
        kind.numbers(field)
        for field, kind in (
            (cron.fields.second, SECOND),
            (cron.fields.minute, MINUTE),
            (cron.fields.hour, HOUR),
        )
    )
    if len(seconds) * len(minutes) * len(hours) <= _LISTED_TIMES:
        clocks = sorted(f"{h:02}:{m:02}:{s:02}" for h, m, s in product(hours, minutes, seconds))
        return f"at {_and(clocks)}", False
    during = _during(cron.fields.hour)
    if _is_full(cron.fields.minute, MINUTE) and (rhythm := _rhythm(seconds, 60, "second")):
        return f"every {rhythm}{during}", True
    if seconds == [0] and (rhythm := _rhythm(minutes, 60, "minute")):
        return f"every {rhythm}{during}", True
    if seconds == [0] and minutes == [0] and (rhythm := _rhythm(hours, _HOURS, "hour")):
        return f"every {rhythm}", True
    if len(seconds) == len(minutes) == 1 and len(hours) < _HOURS and _is_one_run(hours):
        clock = f"{minutes[0]:02}:{seconds[0]:02}"
        return f"every hour from {hours[0]:02}:{clock} to {hours[-1]:02}:{clock}", True
    second = "" if seconds == [0] else f"{_counted('second', cron.fields.second, SECOND)} of "
    minute = _counted("minute", cron.fields.minute, MINUTE)
    hour = "every hour" if _is_full(cron.fields.hour, HOUR) else _counted("hour", cron.fields.hour, HOUR)
    return f"at {second}{minute} of {hour}", True


def _during(hours: Field) -> str:
    """Return the hours of a schedule that fires several times in each of them, or nothing for all hours."""
    numbers = HOUR.numbers(hours)
    if _is_full(hours, HOUR):
        return ""
    if _is_one_run(numbers):
        return f" from {numbers[0]:02}:00 to {numbers[-1]:02}:59"
    return f" in {_counted('hour', hours, HOUR)}"


def _is_one_run(numbers: list[int]) -> bool:
    return numbers == list(range(numbers[0], numbers[-1] + 1))


def _rhythm(numbers: list[int], size: int, unit: str) -> str:
    """Return `10 seconds` for all multiples of a step that divides the larger unit, else nothing."""
    step = numbers[1] if len(numbers) > 1 else size
    if size % step or numbers != list(range(0, size, step)) or step == size:
        return ""
    return unit if step == 1 else f"{step} {unit}s"


def _days(cron: Cron) -> str:
    day_of_month, day_of_week = cron.fields.day_of_month, cron.fields.day_of_week
    numbered = [_counted("day", day_of_month, DAY_OF_MONTH)] if day_of_month.mask else []
    in_month = f"on {_and([*numbered, *map(_rule, day_of_month.rules)])} of the month"
    in_week = f"on {_and([*_names(day_of_week, DAY_OF_WEEK, _WEEKDAYS), *map(_rule, day_of_week.rules)])}"
    in_week += " of the month" if day_of_week.rules else ""
    either = not (cron.fields.day_of_month.star or cron.fields.day_of_week.star)
    every_month_day = _is_full(cron.fields.day_of_month, DAY_OF_MONTH)
    every_week_day = _is_full(cron.fields.day_of_week, DAY_OF_WEEK)
    if either:
        return "" if every_month_day or every_week_day else f"{in_month} or {in_week}"
    return " and ".join(
        text for text, every in ((in_month, every_month_day), (in_week, every_week_day)) if not every
    )


def _rule(rule: DayRule) -> str:
    if not isinstance(rule, DayInMonth):
        return f"the {_NUMBERS[rule.number]} {_WEEKDAYS[rule.weekday]}"
    weekday = "weekday (Monday to Friday)"
    if rule.day > 0:
        return f"the {weekday} nearest to day {rule.day}"
    if rule.day == 0:
        return f"the last {weekday}" if rule.nearest else "the last day"
    before = f"the day {_duration(-rule.day * 86_400)} before the last day"
    return f"the {weekday} nearest to {before}" if rule.nearest else before


def _is_full(field: Field, kind: FieldKind) -> bool:
    return field.mask == kind.full


def _names(field: Field, kind: FieldKind, names: tuple[str, ...]) -> list[str]:
    """Return the names of the numbers, with consecutive ones as `Monday to Friday`."""
    return [
        " to ".join(names[int(number) - kind.low] for number in run.split("-")) for run in kind.runs(field)
    ]


def _counted(unit: str, field: Field, kind: FieldKind) -> str:
    runs = kind.runs(field)
    return f"{unit} {runs[0]}" if field.mask.bit_count() == 1 else f"{unit}s {_and(runs)}"


def _and(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
