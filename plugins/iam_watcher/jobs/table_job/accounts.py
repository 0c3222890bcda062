"""An account table against the server's catalogue, and against a sample of its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from iam_watcher.accounts.account_columns import AccountColumns, TimeColumn
from iam_watcher.arguments import time_zone
from iam_watcher.database.column import AS_UTF8, INTEGERS, SHORT_TEXTS
from iam_watcher.errors import TableError
from iam_watcher.jobs.table_job import conditions
from iam_watcher.jobs.table_job.age_column import DATES, NUMBERS, UnixColumn
from iam_watcher.jobs.table_job.age_forms import age_column
from iam_watcher.jobs.table_job.age_sample import check_form
from iam_watcher.jobs.table_job.refused_values import check_new_values
from iam_watcher.jobs.table_job.value_trial import NewValues
from iam_watcher.jobs.table_job.where_bounds import check_bounds
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.account_table import AccountTable
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.walk.pace import Pace

logger = get_logger(__name__)

FLAGS = INTEGERS | {"bit"}
STATUS_TEXTS = SHORT_TEXTS | {"enum"}

# The values at both ends of the table, of so many rows each, whatever the conditions are.
STATUSES = (
    "SELECT {shown}, COUNT(*) FROM"
    " ((SELECT {columns} FROM {table} FORCE INDEX ({index}) ORDER BY {order} LIMIT 500)"
    " UNION ALL"
    " (SELECT {columns} FROM {table} FORCE INDEX ({index}) ORDER BY {reversed} LIMIT 500))"
    " AS rows_ WHERE {status} IS NOT NULL AND {where} GROUP BY 1 ORDER BY 2 DESC, 1"
)

MOST_SHOWN = 10  # values of the status, in a message


def account_columns(accounts: AccountTable, table: Table, *, undo: bool = False) -> AccountColumns:
    """Return the columns of an account table.

    Args:
        accounts: the account table.
        table: as the catalogue has it.
        undo: only those that re-enabling needs. Others may be gone since.

    Raises:
        TableError: a column is not there, or can't mean what the account table says.
    """
    if undo:
        accounts = replace(accounts, created=None, admin=(), email=None)
    zone = time_zone("time_zone", accounts.time_zone)
    is_text = isinstance(accounts.active, str)
    status = table.column(accounts.status, STATUS_TEXTS if is_text else FLAGS)
    last_login = _time(table, accounts.last_login, "login_first", accounts)
    created = None if accounts.created is None else _time(table, accounts.created, "created_first", accounts)
    if (
        not undo
        and accounts.time_unit is not None
        and not any(time and time.is_number for time in (last_login, created))
    ):
        raise TableError(
            f"time_unit is {accounts.time_unit!r}, but {accounts.last_login} and {accounts.created} of "
            f"{table.name} have dates. Leave time_unit out"
        )
    where, where_values = conditions.as_sql(accounts.where, table, zone)
    return AccountColumns(
        table=table,
        name=table.column(accounts.name, SHORT_TEXTS),
        status=_writable(table, status, "status"),
        active=_status(table, status, accounts.shape["active"]),
        disabled=_status(table, status, accounts.shape["disabled"]),
        last_login=last_login,
        created=created,
        admins=[table.column(name, FLAGS) for name in accounts.admins],
        email=None if accounts.email is None else table.column(accounts.email, SHORT_TEXTS),
        updated=None if accounts.updated is None else table.column(accounts.updated),
        where=where,
        where_values=where_values,
    )


def check_undo(columns: AccountColumns) -> None:
    """Check that users of this table can be re-enabled.

    Raises:
        TableError: the last login can't be set, so that the next run would disable them again.
    """
    _writable(columns.table, columns.last_login.form.column, "last_login")


def check_accounts(
    db: Transactions,
    plan: Plan,
    accounts: AccountTable,
    columns: AccountColumns,
    now: datetime,
    *,
    pace: Pace,
    throttler: Throttler,
) -> None:
    """Check the account table against a sample of its rows.

    Args:
        db: where.
        plan: the table and the conditions.
        accounts: the account table.
        columns: its columns.
        now: the database's time.
        pace: how hard to look for rows, if the sample has no times.
        throttler: waits before each read of that search while the server is busy.

    Raises:
        TableError: values of a column are not what the account table says.
    """
    texts = f"{columns.where} AND {columns.status.quoted} IN (%(active)s, %(disabled)s)"
    conditions.rehearse(db, replace(plan, eligible=texts), "accounts")
    check_bounds(db, columns.table, accounts.where, time_zone("time_zone", accounts.time_zone))
    if not accounts.is_iam:  # whose values are no one's spelling
        _check_statuses(db, columns, conditions.columns(accounts.where))
    used = [accounts.name, accounts.status, *accounts.admins, *conditions.columns(accounts.where)]
    times = [time.form.column.name for time in (columns.last_login, columns.created) if time]
    new = NewValues("accounts", bound={columns.status.name: "disabled"})
    check_new_values(db, plan, new, [*used, *times])
    for time in (columns.last_login, columns.created):
        if time is not None and time.is_number and isinstance(time.form, UnixColumn):
            check_form(
                db,
                plan,
                time.form,
                [*used, *times],
                now,
                expiry=False,
                pace=pace,
                throttler=throttler,
                argument="time_unit",
            )


def _time(table: Table, name: str, first: str, accounts: AccountTable) -> TimeColumn:
    zone = time_zone("time_zone", accounts.time_zone)
    column = table.column(name, DATES | NUMBERS)
    if column.data_type in DATES:
        return TimeColumn(age_column(table, name, unit="date", form=None, zone=zone), False, first)
    if accounts.time_unit is None:
        raise TableError(
            f"column {name!r} of {table.name} is {column.column_type}, a number, and time_unit is not given. "
            "Set time_unit of the AccountTable, such as time_unit='unix_milliseconds'"
        )
    return TimeColumn(age_column(table, name, unit=accounts.time_unit, form=None, zone=zone), True, first)


def _status(table: Table, column: Column, value: int | str) -> Any:
    return conditions.value_to_set(value, column, table, time_zone("time_zone", "UTC"), "accounts")


def _writable(table: Table, column: Column, role: str) -> Column:
    why = (
        "is computed from other columns"
        if column.generated
        else f"is in the key {table.key.index}, which must not change"
        if column.name in table.key.names
        else None
    )
    if why is not None:
        raise TableError(f"{role} is {column.name!r}, but this column of {table.name} {why}")
    return column


def _check_statuses(db: Transactions, columns: AccountColumns, used: Sequence[str]) -> None:
    """Check that the statuses of the account table are among those of a sample.

    A misspelt one would disable nobody, or give accounts a status that their system does not know.
    """
    table, status = columns.table, columns.status
    query = STATUSES.format(
        shown=f"{status.quoted} + 0" if status.charset is None else AS_UTF8.format(column=status.quoted),
        columns=", ".join(table.column(name).quoted for name in dict.fromkeys((status.name, *used))),
        status=status.quoted,
        table=table.quoted,
        index=table.key.index,
        where=columns.where,
        order=table.key.ordered,
        reversed=table.key.reversed,
    )

    def read() -> list[int | str]:
        found = [value for value, _ in db.read(query, columns.values)]
        db.commit()
        return [value.decode() if isinstance(value, bytes) else int(value) for value in found]

    found = db.run(read, what=f"a sample of {table.name}")
    absent = [value for value in (columns.active, columns.disabled) if value not in found]
    if not found or not absent:
        return
    has = ", ".join(map(repr, found[:MOST_SHOWN])) + (", …" if len(found) > MOST_SHOWN else "")
    if len(absent) == 2:  # noqa: PLR2004  both
        raise TableError(
            f"{status.name} of {table.name} has neither {absent[0]!r} nor {absent[1]!r} in a sample of the "
            f"accounts; it has {has}. Set active and disabled of the AccountTable to its values"
        )
    logger.warning(
        "No account in a sample of %s has %s=%r. It has %s. Check the spelling of active and disabled",
        table.name,
        status.name,
        absent[0],
        has,
    )
