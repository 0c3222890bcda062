"""Disables the users of IAM who have not logged in for long, and no one else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs import arguments
from iam_watcher.jobs.base import Plan, TableJobOperator
from iam_watcher.jobs.catalogue import INTEGERS
from iam_watcher.jobs.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.jobs.catalogue import Table

# One column only. The table's own ON UPDATE rule moves updatedAt along with it.
DISABLE = "UPDATE {table} SET `status` = 0"

# Who never logged in counts from the day the account was made.
LAST_SEEN = "COALESCE(`loginedAt`, `createdAt`)"

# A zero date is smaller than any cut-off, but says nothing about a login.
INACTIVE = f"{LAST_SEEN} < %(cut_off)s AND {LAST_SEEN} >= '1000-01-01'"
ZERO_DATE = f"{LAST_SEEN} < '1000-01-01'"

ACTIVE = "`status` = 1"
ADMIN = "`isAdmin` <> 0"
NO_ONE = "FALSE"

# The column's collation decides what is equal, as it does for the unique key on the name.
EXACT_NAME = "`name` = %({value})s"
GLOB_NAME = "`name` LIKE %({value})s ESCAPE '|'"

TEXTS = frozenset({"varchar", "char"})
TIMESTAMPS = frozenset({"timestamp"})


class DisableInactiveUsersOperator(TableJobOperator):
    """Sets `status` to 0 for users whose last login is more than some days ago, in short transactions.

    Users who never logged in count from their creation; a zero date is no date, and its user is left and
    counted. Only `status` is written: `updatedAt` changes by the table's own ON UPDATE rule.

    :param max_inactive_days: 0 turns the job off. (templated)
    :param exempt_admins: leave users with `isAdmin` alone.
    :param exempt_names: user names, or globs of them (`*` any characters, `?` one), to leave alone.
        Upper and lower case are the same where the column's collation says so (as IAM's does).
    :param max_share: brake: if more than this share (0 to 1) of the active users that are not exempt
        would be disabled, none is, and the task fails without a retry; 1 takes the brake off. (templated)
    :param table: name of the table.
    :param dry_run: count, show examples, disable nobody; the brake is not applied. (templated)
    :param pace: "fast" (transactions of 0.1 s), "polite" (25 ms, and as long a rest) or a `Pace`.
    :param max_rows: disable at most so many users in a run. (templated)
    :param time_budget: begin no transaction after that long. The next run goes on where `max_rows` or
        `time_budget` ended this one (it is kept in a Variable).
    :param throttle: what holds the job back.
    :param mysql_conn_id: Airflow connection of the database.
    """

    template_fields: Sequence[str] = ("max_inactive_days", "max_share", *TableJobOperator.template_fields)

    def __init__(
        self,
        *,
        max_inactive_days: int | str,
        exempt_admins: bool = True,
        exempt_names: Sequence[str] = (),
        max_share: float | str = 0.5,
        table: str = "user",
        **kwargs: Any,
    ) -> None:
        super().__init__(table=table, **kwargs)
        self.max_inactive_days = max_inactive_days
        self.exempt_admins = exempt_admins
        self.exempt_names = exempt_names
        self.max_share = max_share
        arguments.check_literal(arguments.days, "max_inactive_days", max_inactive_days)
        arguments.check_literal(arguments.share, "max_share", max_share)
        if isinstance(exempt_names, str) or not all(isinstance(n, str) and n for n in exempt_names):
            raise JobArgumentError(f"exempt_names is {exempt_names!r}; expected a list of names or globs")

    def off_because(self) -> str | None:
        """Return why the job is off, or None if it is not."""
        if arguments.days("max_inactive_days", self.max_inactive_days) == 0:
            return "max_inactive_days is 0, which turns this job off"
        return None

    def plan(self, table: Table, now: datetime) -> Plan:
        """Return the users to disable."""
        for name, data_types in (
            ("status", INTEGERS),
            ("isAdmin", INTEGERS),
            ("name", TEXTS),
            ("loginedAt", TIMESTAMPS),
            ("createdAt", TIMESTAMPS),
        ):
            table.column(name, data_types)
        cut_off = now - timedelta(days=arguments.days("max_inactive_days", self.max_inactive_days))
        admin = ADMIN if self.exempt_admins else NO_ONE
        named, values = exempt_condition(self.exempt_names)
        eligible = f"{ACTIVE} AND NOT ({admin}) AND NOT ({named})"
        inactive = f"{ACTIVE} AND {INACTIVE}"
        rows = Rows(
            table=table.quoted,
            key=table.key.quoted,
            predicate=f"{eligible} AND {INACTIVE}",
            write=DISABLE.format(table=table.quoted),
            values={"cut_off": cut_off.replace(tzinfo=None), **values},
            left_out={
                "admin": f"{inactive} AND {admin}",
                "exempt_name": f"{inactive} AND NOT ({admin}) AND ({named})",
                "zero_date": f"{ACTIVE} AND {ZERO_DATE}",
            },
        )
        share = arguments.share("max_share", self.max_share)
        return Plan(table, rows, cut_off, LAST_SEEN, _utc, eligible=eligible, max_share=share)


def exempt_condition(names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return the SQL condition for names and globs, and the values of its placeholders.

    `*` becomes `%` and `?` becomes `_`; what LIKE itself gives a meaning to is escaped. A name without a
    wildcard is compared by `=`, which like the unique key ignores trailing spaces.
    """
    conditions, values = [], {}
    for number, name in enumerate(names):
        value = f"exempt{number}"
        if "*" in name or "?" in name:
            conditions.append(GLOB_NAME.format(value=value))
            escaped = name.replace("|", "||").replace("%", "|%").replace("_", "|_")
            values[value] = escaped.replace("*", "%").replace("?", "_")
        else:
            conditions.append(EXACT_NAME.format(value=value))
            values[value] = name
    return " OR ".join(conditions) or NO_ONE, values


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)
