"""What the result of the function means for its row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING

from iam_watcher.errors import RowFailed, RowNotReady, WrongResult
from iam_watcher.walk.claim.outcome import Kind, Outcome

if TYPE_CHECKING:
    from iam_watcher.walk.claim.outcome import ClaimedRow
    from iam_watcher.walk.claim.row_states import RowStates

LEAST_PAUSE = 1.0  # seconds until a row that is not ready is due again: it must not keep a run busy

# A text that begins with a date: year, month and day, with punctuation between them or without.
_DATE = re.compile(r"\s*(\d{4})(?:[^\w\s]+(\d\d?)[^\w\s]+(\d\d?)|(\d\d)(\d\d)(?:\d{6})?)(?!\d)")

DATES = frozenset({"date", "datetime"})  # can hold dates that are in no calendar; a TIMESTAMP can't
VALUES = (bool, int, float, Decimal, str, bytes, datetime, date, time, timedelta, type(None))


def checked(result: object, states: RowStates) -> Mapping[str, object] | BaseException | None:
    """Return what the function returned or raised; `WrongResult` in place of a result that can't be written.

    So a wrong result is counted as if the function had raised it.
    """
    if isinstance(result, BaseException):
        return result
    if wrong := _unfit(result, states):
        return WrongResult(wrong)
    if not isinstance(result, Mapping):
        return None
    return {name: _in_utc(value) for name, value in result.items()}


def _in_utc(value: object) -> object:
    """Return a time with a zone as the same time in UTC; the driver would write it without its offset."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        return value
    utc = value.astimezone(UTC)
    return datetime.combine(utc.date(), utc.time())


def outcome_of(
    result: Mapping[str, object] | BaseException | None, row: ClaimedRow, states: RowStates
) -> Outcome:
    """Return what is to be written for a result that is `checked`."""
    if isinstance(result, RowFailed):
        # People also raise it with the exception that they caught.
        return Outcome(Kind.FAILED, reason=str(result.facts) or type(result).__name__)
    if isinstance(result, RowNotReady):
        delay = states.backoff if result.after is None else result.after.total_seconds()
        return Outcome(Kind.NOT_READY, delay=max(delay, LEAST_PAUSE))
    if isinstance(result, BaseException):
        return _failed(result, row, states)
    return Outcome(Kind.DONE, values=result or {})


def _failed(error: BaseException, row: ClaimedRow, states: RowStates) -> Outcome:
    """Return the outcome of an attempt that ended with an exception: tried again, or failed."""
    reason = f"{type(error).__name__}: {error}"
    attempt = row.attempt
    if attempt is None:
        return Outcome(Kind.RETRY, reason=reason)
    return Outcome(Kind.FAILED if states.used_up(attempt) else Kind.RETRY, reason=reason)


def _unfit(result: object, states: RowStates) -> str | None:
    """Return why a result can't be written, or None if it can."""
    if result is None:
        return None
    if not isinstance(result, Mapping):
        return (
            f"it is {type(result).__name__}; expected None, or a mapping of column → value that is written "
            "to the row"
        )
    for name, value in result.items():
        if name not in states.writable:
            return (
                f"it has a value for {name!r}; expected columns of {states.name} that a function can write: "
                f"{', '.join(states.writable)}"
            )
        if isinstance(value, str) and states.writable[name].data_type in DATES and _is_no_date(value):
            return f"it has {value!r} for {name!r}; expected a date that is in the calendar"
        if expected := _expected(value):
            return f"it has {type(value).__name__} for {name!r}; expected {expected}"
    return None


def _is_no_date(text: str) -> bool:
    """Return whether a text is a date such as "2026-02-31".

    The server would store it, since other rows may have such dates, and the driver would read NULL. All other
    texts that are no dates are refused by the server.
    """
    found = _DATE.match(text)
    if found is None:
        return False
    year, month, day = (int(part) for part in found.groups() if part is not None)
    if not year and not month and not day:
        return False  # The zero date, which says "no date" in a column that is NOT NULL.
    try:
        date(year, month, day)
    except ValueError:
        return True
    return False


def _expected(value: object) -> str | None:
    """Return what was expected instead of a value, or None if it can be written."""
    if isinstance(value, Enum):
        return f"the Enum's value {value.value!r}"
    if isinstance(value, time) and value.tzinfo is not None:
        return "a time without a zone"
    return None if isinstance(value, VALUES) else "a value of SQL"
