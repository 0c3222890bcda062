"""The walk that finds the users who will be disabled soon, for all warnings at once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from iam_watcher.accounts.inactive_users import seen_before
from iam_watcher.database.column import AS_UTF8
from iam_watcher.walk.key_order import KeyOrder
from iam_watcher.walk.pace import ChunkSize, Limits
from iam_watcher.walk.row_change import RowChange

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from iam_watcher.accounts.account_columns import AccountColumns
    from iam_watcher.database.key import Key, KeyValue
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.pace import Pace

# Reads the users of a chunk: the days of the warning, and the values from which the dates are computed.
DETAILS = (
    "SELECT {selected}, {email}, CASE {bands} END, {texts} FROM {table} FORCE INDEX ({index})"
    " WHERE {keys} AND ({predicate}) ORDER BY {order}"
)


@dataclass(frozen=True)
class Band:
    """The users to list for one warning: due in at most so many days, and not listed for it before.

    Attributes:
        days: of the warning.
        seen_from: their last login is not before.
        seen_before: their last login is before.
    """

    days: int
    seen_from: datetime
    seen_before: datetime


@dataclass(frozen=True)
class DueUsers:
    """The users whom a search found.

    Attributes:
        listed: for each `id`, `name`, `email` (None if there is none), `last_seen` and `due` (ISO 8601), and
            `days`, those of the warning; in the order of `days`, then of the key.
        without_date: names of the users whose last login, or creation, is no date of a calendar, such as
            2026-06-00. So no date can be computed on which they are due.
    """

    listed: list[dict[str, Any]]
    without_date: list[str]


@dataclass(frozen=True)
class Search:
    """A walk that finds users who are due.

    Attributes:
        db: where.
        columns: of the accounts.
        rows: the table, and the values of the conditions.
        can_be_disabled: the condition for users whom a run can disable some day.
        max_inactive: a user is due this long after the last login, or later if the account is too new.
        min_age: an account is too new for this long after its creation.
        pace: how hard to work.
        throttler: waits before each read while the server is busy.
        time_limit: the search begins no read after this time; None for no limit.
    """

    db: Transactions
    columns: AccountColumns
    rows: RowChange
    can_be_disabled: str
    max_inactive: timedelta
    min_age: timedelta
    pace: Pace
    throttler: Throttler
    time_limit: timedelta | None = None

    def users(self, bands: Sequence[Band]) -> DueUsers | None:
        """Return the users of all bands, found in one walk; None if the time limit ended it."""
        due = self._rows(bands)
        if due is None:
            return DueUsers([], [])
        rows, cases = due
        limits = Limits(seconds=None if self.time_limit is None else self.time_limit.total_seconds())
        size = ChunkSize(self.pace.target)
        order = KeyOrder(self.db, rows, size)
        found = DueUsers([], [])

        def begin() -> None:
            order.begin()
            self.db.commit()

        def chunk() -> tuple[Any, Any]:
            due_now = order.next_chunk(size.rows, exact=True)
            query = self._details(rows, cases, due_now.keys) if due_now.keys else ""
            details = self.db.read(query, rows.values) if query else ()
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
            for row in details:
                self._add(found, rows.key, row)
            order.advance(due_now)
            self.db.sleep(self.pace.rest(time.monotonic() - chunk_began))
        found.listed.sort(key=itemgetter("days"))
        return found

    def _rows(self, bands: Sequence[Band]) -> tuple[RowChange, str] | None:
        """Return which rows of the table are the users of these bands; None if no band can have a user.

        Returns:
            The rows; and the cases of a SQL CASE that gives the days of a user's warning.
        """
        parts, cases, values = [], [], dict(self.rows.values)
        for number, band in enumerate(bands):
            if band.seen_from < band.seen_before:
                from_on, from_values = self._due_before(f"due_from{number}", band.seen_from)
                before, before_values = self._due_before(f"due_before{number}", band.seen_before)
                parts.append(f"(({before}) IS TRUE AND ({from_on}) IS NOT TRUE)")
                cases.append(f"WHEN {parts[-1]} THEN {band.days}")
                values |= from_values | before_values
        if not parts:
            return None
        predicate = f"({self.can_be_disabled}) AND ({' OR '.join(parts)})"
        rows = RowChange(table=self.rows.table, key=self.rows.key, predicate=predicate, values=values)
        return rows, " ".join(cases)

    def _due_before(self, name: str, moment: datetime) -> tuple[str, dict[str, object]]:
        """Return the condition for users who are due before `moment` + `max_inactive`, and its values.

        Args:
            name: of the placeholders.
            moment: the condition compares the last login with it.
        """
        condition, values = seen_before(self.columns, name, moment)
        created = self.columns.created
        if created is not None and self.min_age:
            # If the account is still too new `max_inactive` after the last login, its user is due later.
            values[f"{name}_old"] = created.form.cut_off(moment + self.max_inactive - self.min_age)
            condition += f" AND COALESCE({created.quoted} < %({name}_old)s, TRUE)"
        return condition, values

    def _details(self, rows: RowChange, cases: str, keys: Sequence[KeyValue]) -> str:
        email = self.columns.email
        return DETAILS.format(
            selected=rows.key.selected,
            email="NULL" if email is None else AS_UTF8.format(column=email.quoted),
            bands=cases,
            texts=self.columns.texts,
            table=rows.table,
            index=rows.key.index,
            keys=rows.key.among(keys),
            predicate=rows.predicate,
            order=rows.key.ordered,
        )

    def _add(self, found: DueUsers, key: Key, row: Sequence[Any]) -> None:
        """Add the user of a row of DETAILS."""
        email, days, name, login, created, _, never = row[len(key.columns) :]
        last_seen = self.columns.last_seen(login, created, never)
        if last_seen is None:
            found.without_date.append(name.decode())
            return
        due = last_seen + self.max_inactive
        made = None
        if created is not None and self.columns.created is not None:
            made = self.columns.created.form.moment_of(created.decode())
        if made is not None and self.min_age:
            due = max(due, made + self.min_age)
        found.listed.append({
            "id": key.shown(key.take(row)),
            "name": name.decode(),
            "email": None if email is None else email.decode(),
            "last_seen": last_seen.isoformat(),
            "due": due.isoformat(),
            "days": days,
        })  # fmt: skip
