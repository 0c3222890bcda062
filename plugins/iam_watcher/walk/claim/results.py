"""What the result of the function means for its row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from iam_watcher.errors import RowFailed, RowNotReady
from iam_watcher.walk.claim.outcome import Kind, Outcome

if TYPE_CHECKING:
    from iam_watcher.walk.claim.outcome import ClaimedRow
    from iam_watcher.walk.claim.row_states import RowStates

VALUES = (bool, int, float, Decimal, str, bytes, datetime, date, time, timedelta, type(None))


def outcome_of(result: object, row: ClaimedRow, states: RowStates) -> Outcome:
    """Return what is to be written for what the function returned, or for the exception that it raised."""
    if result is None:
        return Outcome(Kind.DONE)
    if isinstance(result, RowFailed):
        return Outcome(Kind.FAILED, reason=result.facts or type(result).__name__)
    if isinstance(result, RowNotReady):
        delay = states.backoff if result.after is None else result.after.total_seconds()
        return Outcome(Kind.NOT_READY, delay=delay)
    if isinstance(result, BaseException):
        return _failed(result, row, states)
    if wrong := _unfit(result, states):
        return _failed(TypeError(wrong), row, states)
    return Outcome(Kind.DONE, values=dict(result))  # type: ignore[call-overload]  # `_unfit` has looked


def _failed(error: BaseException, row: ClaimedRow, states: RowStates) -> Outcome:
    """Return the outcome of an attempt that ended with an exception: tried again, or failed."""
    reason = f"{type(error).__name__}: {error}"
    attempt = row.attempt
    if attempt is None:
        return Outcome(Kind.RETRY, reason=reason)
    return Outcome(Kind.FAILED if states.used_up(attempt) else Kind.RETRY, reason=reason)


def _unfit(result: object, states: RowStates) -> str | None:
    """Return why a result can't be written, or None if it can."""
    if not isinstance(result, Mapping):
        return (
            f"the function returned {type(result).__name__}; expected None, or a mapping of column → value "
            "that is written to the row"
        )
    for name, value in result.items():
        if name not in states.writable:
            return (
                f"the function returned a value for {name!r}, which can't be written; the columns of "
                f"{states.name} that can: {', '.join(states.writable)}"
            )
        if not isinstance(value, VALUES):
            return f"the function returned {type(value).__name__} for {name!r}; expected a value of SQL"
    return None
