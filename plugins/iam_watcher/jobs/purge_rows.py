"""Deletes the rows of a table that are older than they need to be, or past the moment they expire."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs import arguments, conditions
from iam_watcher.jobs.base import TableJobOperator
from iam_watcher.jobs.catalogue import INTEGERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from airflow.sdk import Context

    from iam_watcher.jobs.announce import Announcement
    from iam_watcher.jobs.archive import Archive
    from iam_watcher.jobs.catalogue import Column, Table
    from iam_watcher.jobs.conditions import Condition
    from iam_watcher.jobs.plan import Plan
    from iam_watcher.jobs.report import Words
    from iam_watcher.jobs.rows import Recorder
    from iam_watcher.jobs.transaction import Transactions

DELETE = "DELETE FROM {table}"

# A zero date is smaller than any cut-off, but says nothing about an age.
OLD_DATE = "{age} < %(cut_off)s AND {age} >= '{first}'"
ZERO_DATE = "{age} < '{first}'"

# The first moment of each type. MySQL takes a comparison with one that a TIMESTAMP can't have for decided:
# everything, the zero date too, would be later.
FIRST_DATE = "1000-01-01"
FIRST_TIMESTAMP = "1970-01-01 00:00:01"

# 0 stands for no date at all in a column of unix seconds.
OLD_SECONDS = "{age} < %(cut_off)s AND {age} > 0"
ZERO_SECONDS = "{age} <= 0"

NO_DATE = "{age} IS NULL"

DATES = frozenset({"timestamp", "datetime", "date"})

REDACTED = ("secretKey", "password")

CONFIGURED = "configured"

AgeUnit = Literal["date", "unix_seconds"]


class PurgeRowsOperator(TableJobOperator):
    """Deletes the rows of a table whose age column lies far enough in the past, in short transactions.

    Zero dates, 0 in a column of unix seconds, and NULL are no age: such rows stay and are counted.
    Give either `older_than_days` or `grace_days`.

    :param table: name of the table; its primary key has to be one integer column.
    :param age_column: name of the column that a row's age counts from.
    :param older_than_days: the column says when a row's time began: delete it more than so many days
        later; 0 turns the job off. (templated)
    :param grace_days: the column says when a row expires: delete it more than so many days later; 0 at
        once. (templated)
    :param age_unit: "date" for a TIMESTAMP, DATETIME or DATE column, "unix_seconds" for an integer one.
    :param age_timezone: the time zone that a DATETIME or DATE column is in. In the hour that a clock is
        set back, its values can mean two moments; the later is assumed for the cut-off only.
    :param where: more conditions, all of which a row has to meet: (column, operator, value) with one of
        = <> < <= > >= like, in, not in (and a list), is, is not (and None).
    :param max_share: brake: if more than this share (0 to 1) of the rows that meet `where` would be
        deleted, none is, and the task fails without a retry; None for no brake. (templated)
    :param announce: published on Redis after rows were deleted, such as `announce.SECRET_CHANGED`.
    :param archive: URL below which the rows are put before they are deleted, such as
        "s3://connection@bucket/iam"; the run report names the run's folder. "configured": the location
        in `[iam_watcher] archive`, and no archive if that is empty. None for no archive. (templated)
    :param redact: names of columns that are left out of the archive.
    :param dry_run: count, show examples, delete nothing. (templated)
    :param pace: "fast" (transactions of 0.1 s), "polite" (25 ms, and as long a rest) or a `Pace`.
    :param max_rows: delete at most so many rows in a run. (templated)
    :param time_budget: begin no transaction after that long. The next run goes on where `max_rows` or
        `time_budget` ended this one (it is kept in a Variable).
    :param throttle: what holds the job back.
    :param mysql_conn_id: Airflow connection of the database.
    """

    template_fields: Sequence[str] = (
        "older_than_days",
        "grace_days",
        "max_share",
        "archive",
        *TableJobOperator.template_fields,
    )

    def __init__(
        self,
        *,
        table: str,
        age_column: str,
        older_than_days: int | str | None = None,
        grace_days: int | str | None = None,
        age_unit: AgeUnit = "date",
        age_timezone: str = "UTC",
        where: Sequence[Condition] = (),
        max_share: float | str | None = None,
        announce: Announcement | None = None,
        archive: str | None = None,
        redact: Sequence[str] = REDACTED,
        **kwargs: Any,
    ) -> None:
        super().__init__(table=table, **kwargs)
        self.age_column = age_column
        self.older_than_days = older_than_days
        self.grace_days = grace_days
        self.age_unit = age_unit
        self.age_timezone = age_timezone
        self.where = where
        self.max_share = max_share
        self.announce = announce
        self.archive = archive
        self.redact = redact
        arguments.identifier("age_column", age_column)
        arguments.check_literal(arguments.days, "older_than_days", older_than_days)
        arguments.check_literal(arguments.days, "grace_days", grace_days)
        if (older_than_days is None) == (grace_days is None):
            raise JobArgumentError(
                f"older_than_days is {older_than_days!r}, grace_days is {grace_days!r}; expected one of them"
            )
        if age_unit not in ("date", "unix_seconds"):
            raise JobArgumentError(f"age_unit is {age_unit!r}; expected 'date' or 'unix_seconds'")
        _zone(age_timezone)
        conditions.check(where)
        arguments.check_literal(arguments.share, "max_share", max_share)
        if archive != CONFIGURED:
            arguments.check_literal(arguments.location, "archive", archive)
        arguments.names("redact", redact)

    @property
    def words(self) -> Words:
        """What the run report says in the log."""
        from iam_watcher.jobs.report import Words

        return Words(f"rows of {self.table}", "deleted", "archive", "the rows can't be restored")

    def off_because(self) -> str | None:
        """Return why the job is off, or None if it is not."""
        if self.older_than_days is not None and self._days() == 0:
            return "older_than_days is 0, which turns this job off"
        return None

    def plan(self, table: Table, now: datetime) -> Plan:
        """Return the rows to delete."""
        from iam_watcher.jobs.index_order import AgeIndex
        from iam_watcher.jobs.plan import Plan, label
        from iam_watcher.jobs.row_archive import kept_columns
        from iam_watcher.jobs.rows import Rows

        cut_off = now - timedelta(days=self._days())
        seconds = self.age_unit == "unix_seconds"
        column = table.column(self.age_column, INTEGERS if seconds else DATES)
        old, zero = (OLD_SECONDS, ZERO_SECONDS) if seconds else (OLD_DATE, ZERO_DATE)
        left_out = {"never_expires" if seconds and self.grace_days is not None else "zero_date": zero}
        if column.nullable:
            left_out["no_date"] = NO_DATE
        if self.archive_location() is not None:
            kept_columns(table, self.redact)
        first = FIRST_TIMESTAMP if column.data_type == "timestamp" else FIRST_DATE
        where, values = conditions.as_sql(self.where, table)
        rows = Rows(
            table=table.quoted,
            key=table.key.quoted,
            predicate=f"{old.format(age=column.quoted, first=first)} AND {where}",
            write=DELETE.format(table=table.quoted),
            values={"cut_off": self._in_column(cut_off, column), **values},
            left_out={
                reason: f"{text.format(age=column.quoted, first=first)} AND {where}"
                for reason, text in left_out.items()
            },
        )
        share = None if self.max_share in (None, "None") else arguments.share("max_share", self.max_share)
        index = table.indexes.get(column.name)
        return Plan(
            table,
            rows,
            cut_off,
            column.quoted,
            self._moment(column),
            eligible=where,
            max_share=share,
            label=label(table),
            # With other conditions the index alone can't tell which rows match.
            index=AgeIndex(index, column.quoted, table.rows) if index and not self.where else None,
        )

    def writing(self, context: Context) -> AbstractContextManager[Callable[[], None]]:
        """Announce what is deleted, if there is something to announce."""
        from iam_watcher.jobs.announce import announcing

        if self.announce is None:
            return super().writing(context)
        return announcing(self.announce, run=str(context["ti"].id))

    def archive_location(self) -> str | None:
        """Return where deleted rows go."""
        from iam_watcher.jobs.archive import configured_location

        return (
            configured_location()
            if self.archive == CONFIGURED
            else arguments.location("archive", self.archive)
        )

    def archive_facts(self, plan: Plan) -> dict[str, Any]:
        """Return what a restore needs to know."""
        from iam_watcher.jobs.row_archive import KIND, kept_columns

        columns = kept_columns(plan.table, self.redact)
        kept = {column.name: column.data_type for column in columns}
        redacted = [c.name for c in plan.table.columns.values() if c.name not in kept and not c.generated]
        return {"kind": KIND, "columns": kept, "redacted": redacted}

    def recorder(self, db: Transactions, plan: Plan, archive: Archive | None) -> Recorder | None:
        """Return what archives the rows."""
        from iam_watcher.jobs.row_archive import kept_columns, row_archive

        if archive is None:
            return None
        return row_archive(db, plan.rows, plan.table, kept_columns(plan.table, self.redact), archive)

    def _days(self) -> int:
        if self.older_than_days is not None:
            return arguments.days("older_than_days", self.older_than_days)
        return arguments.days("grace_days", self.grace_days)

    def _in_column(self, moment: datetime, column: Column) -> object:
        """Return a moment as the column has it."""
        if self.age_unit == "unix_seconds":
            return int(moment.timestamp())
        if column.data_type == "timestamp":
            return moment.replace(tzinfo=None)
        local = moment.astimezone(_zone(self.age_timezone)).replace(tzinfo=None)
        # A DATE is a whole day: it is over before the cut-off only if the cut-off is on a later one.
        return local.date() if column.data_type == "date" else local

    def _moment(self, column: Column) -> Callable[[Any], datetime]:
        """Return what turns a value of the column into an aware datetime."""
        if self.age_unit == "unix_seconds":
            return lambda value: datetime.fromtimestamp(value, UTC)
        zone = UTC if column.data_type == "timestamp" else _zone(self.age_timezone)
        return lambda value: _midnight(value).replace(tzinfo=zone).astimezone(UTC)


def _midnight(value: date) -> datetime:
    return value if isinstance(value, datetime) else datetime.combine(value, time.min)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError) as error:
        raise JobArgumentError(
            f"age_timezone is {name!r}; expected an IANA name such as 'Asia/Shanghai'"
        ) from error
