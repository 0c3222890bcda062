"""Calls the function that processes rows: a plain or an async one, of one row or of a list of rows."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from iam_watcher.errors import JobArgumentError, WrongResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from iam_watcher.walk.claim.outcome import ClaimedRow

Per = Literal["row", "batch"]
TICK = 0.1  # seconds between two looks whether async functions may go on


class Watch(Protocol):
    """The interface by which a call asks which rows may begin, and reports the results."""

    def begin(self, rows: Sequence[ClaimedRow]) -> list[ClaimedRow]:
        """Return those of the rows that are still claimed; raise if the run has to stop."""

    def interruptible(self) -> AbstractContextManager[Any]:
        """Return a context in which Airflow's time-out may raise."""

    def note(self, row: ClaimedRow, result: object, *, shared: bool = ...) -> None:
        """Take what the function returned for the row, or the exception that it raised.

        `shared`: it is the exception of a call that was noted for another row already.
        """

    def tick(self) -> None:
        """Raise if the run has to stop."""


def check(function: Callable[..., Any], per: str) -> None:
    """Check that a function can be called with one row, or with a list of rows.

    Raises:
        JobArgumentError: it can't.
    """
    if not callable(function):
        raise JobArgumentError(f"python_callable is {function!r}; expected a function of one {_what(per)}")
    name = getattr(function, "__name__", repr(function))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise JobArgumentError(f"the function {name!r} is a generator; expected one that returns")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise JobArgumentError(
            f"the function {name!r} can't be called with one {_what(per)}: {error}; "
            f"expected def {name}({'row' if per == 'row' else 'rows'})"
        ) from None


def caller(function: Callable[..., Any], per: str) -> Callable[[Sequence[ClaimedRow], Watch], None]:
    """Return what calls the function for a batch of claimed rows.

    With per="row", an async function is called for all rows at once.
    """
    if per == "batch":
        return partial(_batches, function)
    return partial(_rows_at_once if inspect.iscoroutinefunction(function) else _rows_in_turn, function)


def _rows_in_turn(function: Callable[..., Any], rows: Sequence[ClaimedRow], watch: Watch) -> None:
    for row in rows:
        if watch.begin([row]):
            called, result = _call(partial(function, row.values), [row], watch)
            if called:
                watch.note(row, result)


def _rows_at_once(function: Callable[..., Any], rows: Sequence[ClaimedRow], watch: Watch) -> None:
    asyncio.run(_all_at_once(function, watch.begin(rows), watch))


def _batches(function: Callable[..., Any], rows: Sequence[ClaimedRow], watch: Watch) -> None:
    """Call the function with all rows; a row that is tried again is a batch of its own.

    One bad row must not use up the attempts of others.
    """
    is_async = inspect.iscoroutinefunction(function)
    fresh = [row for row in rows if row.attempt in {None, 1}]
    for batch in [fresh, *([row] for row in rows if row.attempt not in {None, 1})]:
        begun = watch.begin(batch)
        values = [row.values for row in begun]
        call = partial(_run, function, values, watch) if is_async else partial(function, values)
        called, result = _call(call, begun, watch) if begun else (False, None)
        if called:
            _note_each(result, begun, watch)


def _call(call: Callable[[], Any], rows: Sequence[ClaimedRow], watch: Watch) -> tuple[bool, Any]:
    """Return whether the call returned, and what; note its exception for all of the rows.

    A time-out that was deferred raises before the call. Then the rows have no outcome, and are given back.
    """
    is_called = False
    try:
        with watch.interruptible():
            is_called = True
            return True, call()
    except BaseException as error:
        if is_called:
            _note_for_all(error, rows, watch)
            if isinstance(error, Exception):
                return False, None
        raise


def _note_each(result: Any, rows: Sequence[ClaimedRow], watch: Watch) -> None:
    """Note the result of each row: None for all, or a list with one for each."""
    if result is None:
        result = [None] * len(rows)
    if isinstance(result, (list, tuple)) and len(result) == len(rows):
        for row, one in zip(rows, result, strict=True):
            watch.note(row, one)
        return
    what = f"a list of {len(result)}" if isinstance(result, (list, tuple)) else type(result).__name__
    expected = f"expected None, or a list with one result for each of {len(rows)} rows"
    _note_for_all(WrongResult(f"it is {what}; {expected}"), rows, watch)


def _note_for_all(error: BaseException, rows: Sequence[ClaimedRow], watch: Watch) -> None:
    """Note the exception of a call for each of its rows."""
    for row in rows:
        watch.note(row, error, shared=row is not rows[0])


async def _all_at_once(function: Callable[..., Any], rows: Sequence[ClaimedRow], watch: Watch) -> None:
    async def one(row: ClaimedRow) -> None:
        try:
            result = await function(row.values)
        except asyncio.CancelledError as error:
            watch.note(row, error)
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it is the row's result
            result = error
        watch.note(row, result)

    await _watched(asyncio.gather(*map(one, rows)), watch)


def _run(function: Callable[..., Any], values: object, watch: Watch) -> Any:
    async def one() -> Any:
        return await _watched(asyncio.ensure_future(function(values)), watch)

    return asyncio.run(one())


async def _watched(work: asyncio.Future[Any], watch: Watch) -> Any:
    """Wait for the work; cancel it if the run has to stop."""
    try:
        while not work.done():
            await asyncio.wait({work}, timeout=TICK)
            watch.tick()
    except BaseException:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
        raise
    return work.result()


def _what(per: str) -> str:
    return "row" if per == "row" else "list of rows"
