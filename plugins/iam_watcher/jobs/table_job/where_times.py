"""Dates and times in `where`, as the columns that they are compared with have them."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import tzinfo

    from iam_watcher.database.column import Column

MOMENTS = frozenset({"date", "datetime", "timestamp"})

EQUALITY = frozenset({"=", "<>", "in", "not in"})

# The value of a column that has no date; it may be compared with, though no calendar has it.
ZERO_DATES = frozenset({"0000-00-00", "0000-00-00 00:00:00"})

# The last one is that of MariaDB 11.5; a TIMESTAMP of the other servers ends in 2038.
RANGES = {
    "date": (datetime(1000, 1, 1), datetime(9999, 12, 31)),  # noqa: DTZ001  without a zone
    "datetime": (datetime(1000, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)),  # noqa: DTZ001  as above
    "timestamp": (datetime(1970, 1, 1, 0, 0, 1), datetime(2106, 2, 7, 6, 28, 15)),  # noqa: DTZ001  in UTC
}

MOST_SECONDS = 838 * 3600 + 59 * 60 + 59  # of a TIME

_ISO = re.compile(r"\d{4}-\d\d-\d\d(?P<time>[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_TIME = re.compile(r"(-?)(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:\.\d{1,6})?))?", re.ASCII)


class UnfitValueError(ValueError):
    """A value does not fit; the message says what was expected."""


def moment(value: Any, column: Column, operator: str, zone: tzinfo) -> object:
    """Return what a date or time is compared with a DATE, DATETIME or TIMESTAMP column as.

    A TIMESTAMP is in UTC, as the session is; the others are in `zone`.

    Raises:
        UnfitValueError: it is none, the column can't hold it, or it has a time and the column has none.
    """
    if isinstance(value, str):
        if value in ZERO_DATES and operator in EQUALITY:
            return value
        value = _from_iso(value)
    if not isinstance(value, date):
        raise UnfitValueError("a date or a time such as '2026-01-31 12:00:00'")
    if column.data_type == "date":
        return _within(_date(value), column).date()
    return _within(_local(_with_time(value, operator), column, zone), column)


def time_of_day(value: Any, column: Column) -> str:  # noqa: ARG001  as for the other types
    """Return what a time is compared with a TIME column as.

    Raises:
        UnfitValueError: it is none, or the column can't hold it.
    """
    if isinstance(value, timedelta):
        seconds = Decimal(value // timedelta(microseconds=1)) / 10**6
    else:
        if isinstance(value, time) and value.tzinfo is None:
            value = value.isoformat()
        found = _TIME.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise UnfitValueError("a time such as '23:59:59', without a zone, or a timedelta")
        sign, hours, minutes, rest = found.groups()
        seconds = int(hours) * 3600 + int(minutes) * 60 + Decimal(rest or 0)
        seconds = -seconds if sign else seconds
    if abs(seconds) > MOST_SECONDS:
        raise UnfitValueError("a time from -838:59:59 to 838:59:59, which the column can hold")
    whole, second = divmod(abs(seconds), 60)
    hour, minute = divmod(int(whole), 60)
    return f"{'-' if seconds < 0 else ''}{hour:02}:{minute:02}:{second:09.6f}"


def _date(value: date) -> datetime:
    if isinstance(value, datetime):
        raise UnfitValueError("a date without a time, such as '2026-01-31'")
    return datetime.combine(value, time.min)


def _with_time(value: date, operator: str) -> datetime:
    """Return a plain datetime: the driver takes another class, such as pendulum's, for a text."""
    if isinstance(value, datetime):
        return datetime.combine(value.date(), value.timetz())
    if operator not in {"<", ">="}:
        raise UnfitValueError(
            "a time such as '2026-01-31 00:00:00': a date alone is clear only after < and >="
        )
    return datetime.combine(value, time.min)


def _local(value: datetime, column: Column, zone: tzinfo) -> datetime:
    """Return a time as the column has it, without a zone."""
    with suppress(OverflowError):
        if column.data_type == "timestamp":
            return (value if value.tzinfo else _in_zone(value, zone)).astimezone(UTC).replace(tzinfo=None)
        return _on_its_clock(value, zone) if value.tzinfo else value
    raise UnfitValueError("a time before the year 10000")


def _in_zone(value: datetime, zone: tzinfo) -> datetime:
    first, second = (value.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() != second.utcoffset():
        raise UnfitValueError(f"a time with an offset: a clock change in {zone} makes this one unclear")
    return first


def _on_its_clock(value: datetime, zone: tzinfo) -> datetime:
    local = value.astimezone(zone)
    if local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset():
        raise UnfitValueError(
            f"another time: a clock change in {zone} repeats this one, and the column has both"
        )
    return local.replace(tzinfo=None)


def _within(value: datetime, column: Column) -> datetime:
    first, last = RANGES[column.data_type]
    if not first <= value <= last:
        raise UnfitValueError(f"a time from {first} to {last}, which the column can hold")
    return value


def _from_iso(text: str) -> date:
    found = _ISO.fullmatch(text)
    if found is not None:
        with suppress(ValueError):
            return datetime.fromisoformat(text) if found["time"] else date.fromisoformat(text)
    raise UnfitValueError("a date or a time such as '2026-01-31 12:00:00' or '2026-01-31T12:00:00+08:00'")
