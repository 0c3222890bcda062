"""Deletes the rows of a table that are older than they need to be, or past the moment they expire."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.announce import Announcement
from iam_watcher.jobs.table_job import conditions
from iam_watcher.jobs.table_job.age_column import AgeColumn, time_zone
from iam_watcher.jobs.table_job_operator import TableJobOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from airflow.sdk import Context

    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.conditions import Condition
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.jobs.table_job.run_report import Words
    from iam_watcher.walk.row_change import RowRecorder


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
    :param age_timezone: the time zone of DATETIME and DATE columns, and of times in `where` that name
        none. In the hour that a clock is set back, values of a DATETIME column can mean two moments; the
        later is assumed, so that no row goes too early.
    :param where: more conditions, all of which a row has to meet: (column, operator, value) with one of
        = <> < <= > >= like, in, not in (and a list), is, is not (and None). A value that the column can't
        hold is refused before the first write. See "More conditions" in docs/jobs.md.
    :param max_share: safety limit: if more than this share (0 to 1) of the rows that meet `where` would be
        deleted, none is, and the task fails without a retry; None for no limit. (templated)
    :param announce: published on Redis after rows were deleted, such as `announce.SECRET_CHANGED`.
    :param archive: URL below which the rows are put before they are deleted, such as
        "s3://connection@bucket/iam"; the run report names the run's folder. "configured": the location
        in `[iam_watcher] archive`, and no archive if that is empty. None for no archive. (templated)
    :param redact: names of columns that are left out of the archive. If one must have a value and has no
        default, the rows can't be restored; the job warns about this.
    :param dry_run: count and list rows, say what the real run would do, delete nothing. (templated)
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
        if (older_than_days is None) == (grace_days is None):
            raise JobArgumentError(
                f"older_than_days is {older_than_days!r}, grace_days is {grace_days!r}; expected one of them"
            )
        if older_than_days is not None:
            arguments.check_literal(arguments.days, "older_than_days", older_than_days)
        else:
            arguments.check_literal(arguments.days, "grace_days", grace_days)
        arguments.one_of("age_unit", age_unit, ("date", "unix_seconds"))
        time_zone("age_timezone", age_timezone)
        conditions.check(where)
        if max_share is not None:
            arguments.check_literal(arguments.share, "max_share", max_share)
        if announce is not None:
            arguments.instance("announce", announce, Announcement, "an Announcement, such as SECRET_CHANGED")
        if archive != CONFIGURED:
            arguments.check_literal(arguments.location, "archive", archive)
        arguments.listed_names("redact", redact)

    @property
    def words(self) -> Words:
        """What the run report says in the log."""
        from iam_watcher.jobs.table_job.run_report import Words

        return Words(f"rows of {self.table}", "deleted", "archive", "the rows can't be restored")

    def off_because(self) -> str | None:
        """Return why the job is off, or None if it is not."""
        if self.older_than_days is not None and self._days() == 0:
            return "older_than_days is 0, which turns this job off"
        return None

    def plan(self, table: Table, now: datetime) -> Plan:
        """Return the rows to delete."""
        from iam_watcher.archive.row_archive import kept_columns
        from iam_watcher.jobs.table_job.plan import Plan, label
        from iam_watcher.walk.index_order import AgeIndex
        from iam_watcher.walk.row_change import RowChange

        cut_off = now - timedelta(days=self._days())
        age = self._age(table)
        left_out = {self._ageless: age.zero}
        if age.column.nullable:
            left_out["no_date"] = age.unknown
        if self.archive_location() is not None:
            kept_columns(table, self.redact)
        where, values = conditions.as_sql(self.where, table, age.zone)
        rows = RowChange(
            table=table.quoted,
            key=table.key.quoted,
            predicate=f"{age.old} AND {where}",
            values={"cut_off": age.value_of(cut_off), **values},
            left_out={reason: f"{condition} AND {where}" for reason, condition in left_out.items()},
            size=table.size,
        )
        share = None if self.max_share in (None, "None") else arguments.share("max_share", self.max_share)
        index = table.indexes.get(age.column.name)
        return Plan(
            table,
            rows,
            cut_off,
            age.column.quoted,
            age.moment_of,
            eligible=where,
            max_share=share,
            label=label(table),
            index=AgeIndex(index, age.column.quoted, table.rows, age.old, left_out) if index else None,
        )

    def check(self, db: Transactions, plan: Plan, now: datetime, throttler: Throttler) -> None:
        """Check the conditions, and a sample of the age column, against the server; warn of side effects."""
        from iam_watcher.jobs.table_job.age_sample import check_unit
        from iam_watcher.jobs.table_job.side_effects import warn_of_redaction, warn_of_side_effects

        warn_of_side_effects(db, plan.table)
        if self.archive_location() is not None:
            warn_of_redaction(plan.table, self.redact)
        conditions.rehearse(db, plan, "where")
        if self.age_unit == "unix_seconds":
            check_unit(
                db,
                plan,
                self._age(plan.table).column,
                [self.age_column, *(column for column, _, _ in self.where)],
                now,
                expiry=self.grace_days is not None,
                pace=self.paced,
                throttler=throttler,
            )

    def writing(self, context: Context) -> AbstractContextManager[Callable[[], None]]:
        """Announce what is deleted, if there is something to announce."""
        from iam_watcher.jobs.announce import announcing

        if self.announce is None:
            return super().writing(context)
        return announcing(self.announce, run=str(context["ti"].id))

    def archive_location(self) -> str | None:
        """Return where deleted rows go."""
        from iam_watcher.archive.writer import configured_location

        return (
            configured_location()
            if self.archive == CONFIGURED
            else arguments.location("archive", self.archive)
        )

    def archive_facts(self, plan: Plan) -> dict[str, Any]:
        """Return what a restore needs to know."""
        from iam_watcher.archive.row_archive import KIND, kept_columns

        columns = kept_columns(plan.table, self.redact)
        kept = {column.name: column.data_type for column in columns}
        redacted = [c.name for c in plan.table.columns.values() if c.name not in kept and not c.generated]
        return {"kind": KIND, "columns": kept, "redacted": redacted}

    def recorder(self, db: Transactions, plan: Plan, archive: Archive | None) -> RowRecorder | None:
        """Return what archives the rows."""
        from iam_watcher.archive.row_archive import kept_columns, row_archive

        if archive is None:
            return None
        return row_archive(db, plan.change, plan.table, kept_columns(plan.table, self.redact), archive)

    def _days(self) -> int:
        if self.older_than_days is not None:
            return arguments.days("older_than_days", self.older_than_days)
        return arguments.days("grace_days", self.grace_days)

    @property
    def _ageless(self) -> str:
        """The reason why rows with a zero in the age column stay."""
        expires = self.age_unit == "unix_seconds" and self.grace_days is not None
        return "never_expires" if expires else "zero_date"

    def _age(self, table: Table) -> AgeColumn:
        zone = time_zone("age_timezone", self.age_timezone)
        return AgeColumn.of(table, self.age_column, in_seconds=self.age_unit == "unix_seconds", zone=zone)
