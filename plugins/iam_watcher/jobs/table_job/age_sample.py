"""Checks on a sample, before the first write, that an age column has values of the form that is named.

In another unit no row would be old: as seconds, 20240131 is a day in August 1970, which is no age, and
milliseconds are thousands of years ahead. The sample is read at both ends of the table, and of an index if
there is one. If no row there has a value and meets the conditions, the sample is the first rows with a value
that sorts before the cut-off.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from iam_watcher.database.column import FIRST_TIME, INTEGERS
from iam_watcher.database.server_errors import INDEX_UNUSABLE, code_of
from iam_watcher.errors import TableError
from iam_watcher.jobs.table_job.age_column import UnixColumn
from iam_watcher.walk.key_order import KeyOrder
from iam_watcher.walk.pace import ChunkSize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.age_column import AgeColumn
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.walk.pace import Pace

# Both read so many rows of the table, whatever the conditions are.
BY_KEY = (
    "SELECT {shown} FROM"
    " (SELECT {columns} FROM {table} FORCE INDEX ({key}) ORDER BY {order} LIMIT 500) AS rows_"
    " WHERE {present} AND {where}"
)
BY_INDEX = (
    "SELECT {shown} FROM"
    " (SELECT {columns} FROM {table} FORCE INDEX ({index}) WHERE {present}"
    " ORDER BY {age} {direction} LIMIT 100) AS rows_"
    " WHERE {where}"
)

TO_GO = "SELECT DISTINCT {shown} FROM {table} FORCE INDEX ({key}) WHERE {keys}"

MOST_TO_GO = 100  # rows

AHEAD = timedelta(days=20 * 365.25)
# Rows that never expire often have a time that is far ahead. Milliseconds since 1980 are later still.
LAST_EXPIRY = datetime(9999, 12, 31, tzinfo=UTC)

FITS = 0.9  # of the values, for another unit to be named


def _digits(form: str) -> Callable[[int], datetime]:
    return lambda value: datetime.strptime(str(value), form).replace(tzinfo=UTC)


def _seconds(divided_by: float) -> Callable[[int], datetime]:
    return lambda value: datetime.fromtimestamp(value / divided_by, UTC)


UNITS: dict[str, Callable[[int], datetime]] = {
    "unix seconds": _seconds(1),
    "milliseconds": _seconds(1e3),
    "microseconds": _seconds(1e6),
    "nanoseconds": _seconds(1e9),
    "YYYYMMDD": _digits("%Y%m%d"),
    "YYYYMMDDhhmmss": _digits("%Y%m%d%H%M%S"),
    "days since 1970": _seconds(1 / 86_400),
}
"""What numbers may be, and how they are read."""

UNIT_NAMES = {
    "unix seconds": "unix_seconds",
    "milliseconds": "unix_milliseconds",
    "microseconds": "unix_microseconds",
}
SUGGESTIONS = {
    "YYYYMMDD": "Set age_unit='YYYYMMDD'",
    "YYYYMMDDhhmmss": "Set age_format='%Y%m%d%H%M%S'",
}
OTHERWISE = (
    "Name another column, or set age_unit or age_format to what the column has; a generated column can "
    "convert it"
)


def check_form(
    db: Transactions,
    plan: Plan,
    age: AgeColumn,
    used: Iterable[str],
    now: datetime,
    *,
    expiry: bool,
    pace: Pace,
    throttler: Throttler,
    argument: str = "age_unit",
) -> None:
    """Check that most values of a sample are plausible times in the form of the age column.

    Args:
        db: where.
        plan: the table, its conditions and its indexes.
        age: the age column.
        used: names of the columns that the conditions use.
        now: the database's time.
        expiry: whether the column says when rows expire: then far ahead is plausible too.
        pace: how hard to look for rows, if the sample has no values.
        throttler: waits before each read of that search while the server is busy.
        argument: that names the unit.

    Raises:
        TableError: they are not, or the column is the primary key and the server numbers the rows.
    """
    is_key = plan.table.key.names == (age.column.name,)
    if is_key and age.column.has_default and age.column.data_type in INTEGERS:
        raise TableError(
            f"{age.column.name!r} is the primary key of {plan.table.name}, by which the server numbers the "
            "rows: it is no time. Name a column of times"
        )
    last = LAST_EXPIRY if expiry else now + AHEAD
    values = _sample(db, plan, age, used) or _to_go(db, plan, age, pace, throttler)
    doubtful = [value for value in values if not _plausible(age.moment_of(str(value)), last)]
    if 2 * len(doubtful) <= len(values):
        return
    shown = ", ".join(
        f"{value} ({_shown(age, value)})" for value in doubtful[:: max(1, len(doubtful) // 3)][:3]
    )
    fits = [] if is_key else _other_units(values, now + AHEAD)
    looks = "the primary key, which is no time" if is_key else fits[0] if fits else None
    raise TableError(
        f"{len(doubtful)} of {len(values)} different values of column {age.column.name!r} of "
        f"{plan.table.name} are no plausible time in {age.form}, such as {shown}; expected most of them from "
        f"{FIRST_TIME:%Y-%m-%d} to {last:%Y-%m-%d}. {f'They look like {looks}. ' if looks else ''}"
        f"{_suggestion(looks, argument)}"
    )


def _sample(db: Transactions, plan: Plan, age: AgeColumn, used: Iterable[str]) -> list[Any]:
    """Return different values of the age column from both ends of the table and of an index."""
    table = plan.table
    index = table.indexes.get(age.column.name) if age.has_index else None
    parts = {
        "age": age.column.quoted,
        "shown": age.shown,
        "present": age.present,
        "columns": ", ".join(dict.fromkeys(table.column(name).quoted for name in used)),
        "table": table.quoted,
        "key": table.key.index,
        "index": index,
        "where": plan.eligible,
    }
    found: set[Any] = set()

    def read(query: str, direction: str) -> None:
        order = table.key.ordered if direction == "ASC" else table.key.reversed
        query = query.format(direction=direction, order=order, **parts)
        rows = db.read(query, plan.change.values)
        found.update(value for (value,) in rows)

    def read_all() -> None:
        for direction in ("ASC", "DESC"):
            read(BY_KEY, direction)
            try:
                if index is not None:
                    read(BY_INDEX, direction)
            except db.error as error:
                if code_of(error) != INDEX_UNUSABLE:
                    raise
        db.commit()

    db.run(read_all, what=f"a sample of {table.name}")
    return sorted(found)


def _to_go(db: Transactions, plan: Plan, age: AgeColumn, pace: Pace, throttler: Throttler) -> list[Any]:
    """Return different values of the age column of the first rows whose value sorts before the cut-off."""
    size, table = ChunkSize(pace.target), plan.table
    # Also those of before FIRST_TIME, which the job leaves: they show that the column has another unit.
    predicate = " AND ".join(filter(None, (age.sorts_before(), age.present, age.valid, plan.eligible)))
    values = {**plan.change.values, **age.values([plan.cut_off])}
    rows = replace(plan.change, predicate=predicate, values=values, left_out={}, size="0")
    order = KeyOrder(db, rows, size)

    def begin() -> None:
        order.begin()
        db.commit()

    def search() -> list[Any]:
        found = order.next_chunk(MOST_TO_GO, exact=True)
        values: list[Any] = []
        if found.keys:
            keys = table.key.among(found.keys)
            query = TO_GO.format(shown=age.shown, table=table.quoted, key=table.key.index, keys=keys)
            values = [value for (value,) in db.read(query)]
        db.commit()
        order.advance(found)
        return values

    what = f"a search for rows to be deleted from {table.name}"
    db.run(begin, what=what, before_retry=size.halve)
    found: list[Any] = []
    while not (found or order.finished):
        throttler.wait()
        began = time.monotonic()
        found = db.run(search, what=what, before_retry=size.halve)
        db.sleep(pace.rest(time.monotonic() - began))
    return sorted(found)


def _plausible(moment: datetime | None, last: datetime) -> bool:
    return moment is not None and FIRST_TIME <= moment <= last


def _other_units(values: Sequence[Any], last: datetime) -> list[str]:
    """Return the units in which most values would be plausible times, if they are whole numbers."""

    def fits(value: Any, unit: str) -> bool:
        try:
            return _plausible(UNITS[unit](int(value)), last)
        except (ValueError, OverflowError, OSError):
            return False

    return [unit for unit in UNITS if sum(fits(value, unit) for value in values) >= FITS * len(values)]


def _suggestion(looks: str | None, argument: str) -> str:
    if looks in UNIT_NAMES:
        return f"Set {argument}={UNIT_NAMES[looks]!r}"
    if argument != "age_unit":
        return "Name another column; a generated column can convert it"
    return SUGGESTIONS.get(looks or "", OTHERWISE)


def _shown(age: AgeColumn, value: Any) -> str:
    moment = age.moment_of(str(value))
    if moment is not None:
        return f"{moment:%Y-%m-%d}"
    return "after the year 9999" if isinstance(age, UnixColumn) else "no time"
