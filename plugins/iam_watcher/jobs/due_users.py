"""Users who will be disabled soon, each listed once for each of the warnings that are asked for.

For each number of days the last login up to which users were listed is kept. A run lists those between
there and the login that is due in so many days now. So nobody is listed twice for the same login, and
nobody is left out because a run was; who logs in is listed anew when the time comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable

from iam_watcher.jobs.bookmark import variable
from iam_watcher.jobs.disabled_users import TEXT
from iam_watcher.jobs.order import KeyOrder
from iam_watcher.jobs.pace import ChunkSize
from iam_watcher.jobs.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from iam_watcher.jobs.transaction import Transactions

VARIABLE = "iam_watcher:warned:{dag_id}:{task_id}"
TARGET = 0.1  # seconds that a read should take

DUE = "{seen} >= %(seen_from)s AND {seen} < %(seen_before)s"

DETAILS = (
    "SELECT {key}, {name}, {email}, {last_seen}, {seen} FROM {table} WHERE {key} IN ({keys}) ORDER BY {key}"
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
        self._variable = variable(VARIABLE, context)

    def read(self) -> dict[str, str]:
        """Return days → last login, ISO 8601."""
        kept: dict[str, str] = Variable.get(self._variable, default={}, deserialize_json=True)
        return kept

    def note(self, listed: Iterable[Band]) -> None:
        """Keep that the users of these bands were listed."""
        value = {str(band.days): max(band.seen_from, band.seen_before).isoformat() for band in listed}
        Variable.set(self._variable, value, serialize_json=True)


def users_of(
    db: Transactions,
    rows: Rows,
    band: Band,
    *,
    eligible: str,
    last_seen: str,
    seen: str,
    max_inactive: timedelta,
) -> list[dict[str, Any]]:
    """Return the users of a band.

    Args:
        db: where.
        rows: the table, and the values of `eligible`.
        band: whom to return.
        eligible: the condition for users who can be disabled.
        last_seen: SQL for the last login.
        seen: SQL for the moment after which they are disabled when `max_inactive` is over: the last login,
            or a later moment for an account that is too new then.
        max_inactive: how long.

    Returns:
        For each `id`, `name`, `email`, `last_seen` and `due` (ISO 8601), and `days`, those of the warning.
    """
    if band.seen_from >= band.seen_before:
        return []
    due = Rows(
        table=rows.table,
        key=rows.key,
        predicate=f"({eligible}) AND {DUE.format(seen=seen)}",
        write="",
        values={
            **rows.values,
            "seen_from": band.seen_from.replace(tzinfo=None),
            "seen_before": band.seen_before.replace(tzinfo=None),
        },
    )
    size = ChunkSize(TARGET)
    order = KeyOrder(db, due, size)
    found: list[dict[str, Any]] = []

    def begin() -> None:
        order.begin()
        db.commit()

    def chunk() -> tuple[Any, Any]:
        due_now = order.find(size.rows, exact=True)
        query = DETAILS.format(
            table=rows.table,
            key=rows.key,
            keys=",".join(map(str, due_now.keys or [])),
            name=TEXT.format(column="`name`"),
            email=TEXT.format(column="`email`"),
            last_seen=last_seen,
            seen=seen,
        )
        details = db.read(query, rows.values) if due_now.keys else ()
        db.commit()
        return due_now, details

    what = f"users due in {band.days} days"
    db.run(begin, what=what, before_retry=size.halve)
    while not order.finished:
        due_now, details = db.run(chunk, what=what, before_retry=size.halve)
        for key, name, email, last, counted in details:
            found.append({
                "id": key,
                "name": name.decode(),
                "email": email.decode(),
                "last_seen": last.replace(tzinfo=UTC).isoformat(),
                "due": (counted.replace(tzinfo=UTC) + max_inactive).isoformat(),
                "days": band.days,
            })  # fmt: skip
        order.passed(due_now)
    return found
