"""Deletes the rows of a table that are old enough, or that expired long enough ago."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.announce import Announcement
from iam_watcher.jobs.table_job import conditions
from iam_watcher.jobs.table_job.age_column import time_zone
from iam_watcher.jobs.table_job_operator import TableJobOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.jobs.table_job.conditions import Condition
    from iam_watcher.jobs.table_job.purge_job import PurgeJob

REDACTED = ("secretKey", "password")

CONFIGURED = "configured"

AgeUnit = Literal["date", "unix_seconds"]


class PurgeRowsOperator(TableJobOperator):
    """Deletes the rows of a table whose age column lies far enough in the past, in short transactions.

    Zero dates, 0 in a column of unix seconds, and NULL are no age: such rows stay and are counted.
    Give either `older_than_days` or `grace_days`. Takes also the arguments of `TableJobOperator`: `table`,
    `dry_run`, `max_rows`, `max_share` (of the rows that meet `where`), `time_budget`; and of
    `DatabaseOperator`: `mysql_conn_id`, `pace`, `throttle`.

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
    :param announce: published on Redis after rows were deleted, such as `announce.SECRET_CHANGED`.
    :param archive: URL of the location at which the rows are archived before they are deleted, such as
        "s3://connection@bucket/iam"; the run report names the run's folder. "configured": the location
        in `[iam_watcher] archive`, and no archive if that is empty. None for no archive. (templated)
    :param redact: names of columns that are left out of the archive. If one must have a value and has no
        default, the rows can't be restored; the job warns about this.
    """

    template_fields: Sequence[str] = (
        "older_than_days",
        "grace_days",
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
        if announce is not None:
            arguments.instance("announce", announce, Announcement, "an Announcement, such as SECRET_CHANGED")
        if archive != CONFIGURED:
            arguments.check_literal(arguments.location, "archive", archive)
        arguments.listed_names("redact", redact)

    def job(self) -> PurgeJob:
        """Return the purge with the arguments of this run."""
        from iam_watcher.archive.location import configured_location
        from iam_watcher.jobs.table_job.purge_job import PurgeJob

        expiry = self.grace_days is not None
        return PurgeJob(
            **self.shared_arguments(),
            location=(
                configured_location()
                if self.archive == CONFIGURED
                else arguments.location("archive", self.archive)
            ),
            age_column=self.age_column,
            days=(
                arguments.days("grace_days", self.grace_days)
                if expiry
                else arguments.days("older_than_days", self.older_than_days)
            ),
            expiry=expiry,
            in_seconds=self.age_unit == "unix_seconds",
            zone=time_zone("age_timezone", self.age_timezone),
            where=self.where,
            announce=self.announce,
            redact=self.redact,
        )
