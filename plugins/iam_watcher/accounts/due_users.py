"""Users who will be disabled soon, each listed once for each of the warnings that are asked for.

For each number of days the last login up to which users were listed is kept. A run lists those between
there and the login that is due in so many days now. So nobody is listed twice for the same login, and
nobody is left out because a run was; who logs in is listed anew when the time comes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable

from iam_watcher.accounts.inactive_users import COUNTED_FROM, LAST_SEEN
from iam_watcher.accounts.undo_record import TEXT
from iam_watcher.log_lines import fact, get_logger
from iam_watcher.task_variable import task_variable
from iam_watcher.walk.key_order import KeyOrder
from iam_watcher.walk.pace import ChunkSize, Limits
from iam_watcher.walk.row_change import RowChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow.sdk import Context

    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.pace import Pace

logger = get_logger(__name__)

VARIABLE = "iam_watcher:warned:{dag_id}:{task_id}"

DUE = "{seen} >= %(seen_from{number})s AND {seen} < %(seen_before{number})s"

DETAILS = (
    "SELECT {key}, {name}, {email}, {last_seen}, {seen} FROM {table}"
    " WHERE {key} IN ({keys}) AND ({predicate}) ORDER BY {key}"
)


@dataclass(frozen=True)
class Band:
    """The users who are due in up to so many days and were not listed for it.

    Attributes:
        days: of the warning.
        seen_from: their last login is not before.
        seen_before: their last login is before.
    """

    days: int
    seen_from: datetime
    seen_before: datetime

    def has(self, seen: datetime) -> bool:
        """Return whether a user of this last login, as the database has it in UTC, belongs to the band."""
        return self.seen_from <= seen.replace(tzinfo=UTC) < self.seen_before


def bands(cut_off: datetime, warn_days: Iterable[int], warned: dict[str, str]) -> list[Band]:
    """Return whom to list for which warning.

    Args:
        cut_off: who logged in before it is to be disabled now.
        warn_days: the warnings: days before.
        warned: days → the last login up to which users were listed, ISO 8601.
    """
    found = []
    earlier = cut_off
    for days in sorted(set(warn_days)):
        before = cut_off + timedelta(days=days)
        since = datetime.fromisoformat(warned[str(days)]) if str(days) in warned else earlier
        found.append(Band(days, max(since, earlier), before))
        earlier = before
    return found


class Warned:
    """Up to which last login users were listed, kept in a Variable of the task."""

    def __init__(self, context: Context) -> None:
        self._variable = task_variable(VARIABLE, context)

    def read(self) -> dict[str, str]:
        """Return days → last login, ISO 8601."""
        kept: dict[str, str] = Variable.get(self._variable, default={}, deserialize_json=True)
        return kept

    def save(self, listed: Iterable[Band]) -> None:
        """Record which users were listed for which warning period."""
        value = {str(band.days): max(band.seen_from, band.seen_before).isoformat() for band in listed}
        Variable.set(self._variable, value, serialize_json=True)


@dataclass(frozen=True)
class Search:
    """A walk that finds users who are due.

    Attributes:
        db: where.
        rows: the table, and the values of the conditions.
        can_be_disabled: the condition for users whom a run can disable some day.
        max_inactive: how long after the moment that they are counted from.
        pace: how hard to work.
        throttler: waits before each read for as long as it has to.
        time_limit: begin no read after that long; None for no limit.
    """

    db: Transactions
    rows: RowChange
    can_be_disabled: str
    max_inactive: timedelta
    pace: Pace
    throttler: Throttler
    time_limit: timedelta | None = None

    def users(self, bands: Sequence[Band]) -> list[dict[str, Any]] | None:
        """Return the users of all bands, found in one walk; None if the time limit ended it.

        Returns:
            For each `id`, `name`, `email` (None if there is none), `last_seen` and `due` (ISO 8601), and
            `days`, those of the warning; in the order of `days`, then of `id`.
        """
        due = _rows(self.rows, bands, self.can_be_disabled)
        if due is None:
            return []
        limits = Limits(seconds=None if self.time_limit is None else self.time_limit.total_seconds())
        size = ChunkSize(self.pace.target)
        order = KeyOrder(self.db, due, size)
        found: list[dict[str, Any]] = []

        def begin() -> None:
            order.begin()
            self.db.commit()

        def chunk() -> tuple[Any, Any]:
            due_now = order.next_chunk(size.rows, exact=True)
            details = self.db.read(_details(due, due_now.keys), due.values) if due_now.keys else ()
            self.db.commit()
            return due_now, details

        what = "users who are due"
        began = time.monotonic()
        self.db.run(begin, what=what, before_retry=size.halve)
        while not order.finished:
            self.throttler.wait(at_most=limits.seconds_left(time.monotonic() - began))
            if limits.reached(0, time.monotonic() - began):
                return None
            chunk_began = time.monotonic()
            due_now, details = self.db.run(chunk, what=what, before_retry=size.halve)
            for key, name, email, last, counted in details:
                (days,) = (band.days for band in bands if band.has(counted))
                found.append({
                    "id": key,
                    "name": name.decode(),
                    "email": None if email is None else email.decode(),
                    "last_seen": last.replace(tzinfo=UTC).isoformat(),
                    "due": (counted.replace(tzinfo=UTC) + self.max_inactive).isoformat(),
                    "days": days,
                })  # fmt: skip
            order.advance(due_now)
            self.db.sleep(self.pace.rest(time.monotonic() - chunk_began))
        return sorted(found, key=lambda user: (user["days"], user["id"]))


def warn(
    search: Search,
    cut_off: datetime,
    *,
    warn_days: Iterable[int],
    on_warning: Callable[[Context], Any] | None,
    dry_run: bool,
    counts: dict[str, int],
    context: Context,
) -> None:
    """List the users who are due and, unless this is a dry run, pass the list on and save that.

    Args:
        search: finds them.
        cut_off: who logged in before it is to be disabled now.
        warn_days: the warnings: days before.
        on_warning: called with the context, in which `due_users` is the list.
        dry_run: warn nobody.
        counts: of the run report; gets the users of each warning, or that the list is incomplete.
        context: of the task.
    """
    warned = Warned(context)
    asked = bands(cut_off, warn_days, warned.read())
    found = search.users(asked)
    if found is None:
        counts["due_list_incomplete"] = 1
        logger.warning(
            "No user is warned in this run: the list of users who are due was not complete after "
            "time_budget=%s. The next run lists them again. If this happens in each run, raise time_budget.",
            search.time_limit,
        )
        return
    for band in asked:
        counts[f"due_in_{band.days}_days"] = sum(user["days"] == band.days for user in found)
    for user in found:
        logger.info("event=user_due user=%s due=%s days=%d", fact(user["name"]), user["due"], user["days"])
    if dry_run:
        return
    if found and on_warning is not None:
        on_warning({**context, "due_users": found})  # type: ignore[typeddict-unknown-key]
    warned.save(asked)


def _rows(rows: RowChange, bands: Sequence[Band], can_be_disabled: str) -> RowChange | None:
    """Return the users of these bands as rows of the table; None if no band can have one."""
    parts, values = [], dict(rows.values)
    for number, band in enumerate(bands):
        if band.seen_from < band.seen_before:
            parts.append(f"({DUE.format(seen=COUNTED_FROM, number=number)})")
            values[f"seen_from{number}"] = band.seen_from.replace(tzinfo=None)
            values[f"seen_before{number}"] = band.seen_before.replace(tzinfo=None)
    if not parts:
        return None
    predicate = f"({can_be_disabled}) AND ({' OR '.join(parts)})"
    return RowChange(table=rows.table, key=rows.key, predicate=predicate, values=values)


def _details(rows: RowChange, keys: Sequence[int]) -> str:
    return DETAILS.format(
        table=rows.table,
        key=rows.key.quoted,
        keys=",".join(map(str, keys)),
        name=TEXT.format(column="`name`"),
        email=TEXT.format(column="`email`"),
        last_seen=LAST_SEEN,
        seen=COUNTED_FROM,
        predicate=rows.predicate,
    )
