"""The operator for rows that are old enough: which rows these are, and where their values are archived."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.table_job.age_forms import check_form
from iam_watcher.jobs.table_job_operator import TableJobOperator
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.jobs.conditions import Condition
    from iam_watcher.jobs.table_job.age_forms import AgeUnit
    from iam_watcher.jobs.table_job.periods import Periods

logger = get_logger(__name__)

CONFIGURED = "configured"
MOST_KEPT = 1_000_000_000


class RetentionOperator(TableJobOperator):
    """Changes the rows of a table that are old enough by their age column.

    A zero date, a time before 1980, 0 in a column of numbers, an empty text and NULL are no age. A value that
    is not a time in the form of the column, such as a 13th month, is no age either. Rows without an age stay,
    and the job counts them. Give one of `older_than`, `older_than_days`, `grace` and `grace_days`, or
    `keep_last`.

    It also takes the arguments of `TableJobOperator`: `max_share` (of the rows that meet `where`); of
    `LimitedOperator`: `max_rows`, `time_budget`; of `TableOperator`: `table`; and of `DatabaseOperator`:
    `mysql_conn_id`, `pace`, `throttle`, `dry_run`.

    :param age_column: name of the column with the age of a row.
    :param older_than: for a column that says when the time of a row begins, such as its creation: the period
        after which the row is old, such as "90d", "36h", "6mo", "1y" or a timedelta. Months and years are
        those of the calendar in `age_timezone`, counted back from now. "0" turns the job off. A dictionary
        has a period for each value of a column: `{"column": "level", "debug": "3d", None: "1y"}`; the column
        may be a `ParentColumn`. (templated)
    :param older_than_days: the same as a number of days of 24 hours; 0 turns the job off. (templated)
    :param grace: for a column that says when a row expires: the period after that time. "0": the row is old
        as soon as it expires. (templated)
    :param grace_days: the same as a number of days of 24 hours. (templated)
    :param orphans_of: name of another table: change only rows whose parent is not in this table.
    :param key: for `orphans_of`: name of the column that has the primary key of the parent.
    :param keep_last: keep at least this number of the newest rows, of the rows that have an age and meet
        `where`; with a period or without one. An index must begin with `per` and the age column or, without
        `per`, with the age column. For a key with a descending column see docs/jobs.md.
    :param per: name of a column: keep this number of rows for each value of the column.
    :param age_unit: the form of the age column. "date": a TIMESTAMP, DATETIME or DATE. "unix_seconds",
        "unix_milliseconds", "unix_microseconds": numbers since 1970. "YYYYMMDD", "YYYYMM", "year": whole
        numbers, texts, or a YEAR; the age counts from the end of that day, month or year. "uuid7", "ulid":
        ids that begin with their time, as 16 bytes or as texts.
    :param age_format: instead of `age_unit`: the format of texts or whole numbers, such as
        "%Y-%m-%dT%H:%M:%SZ". Fields are %Y %m %d %H %M %S %f, each with all its digits. A Z means that the
        values are in UTC, whatever `age_timezone` is. The job can use an index only if the largest field
        comes first.
    :param age_timezone: the time zone of columns and of times in `where` that name no time zone. When clocks
        go back, a local time can mean two moments: the job takes the later one, so that it deletes no row too
        early.
    :param where: conditions. A row must meet all of them. A condition is (column, operator, value) with one
        of = <> < <= > >= like, not like, in, not in (and a list), between, not between (and two values), is,
        is not (and None); or (column, "is null"); or `AnyOf([...])`. The value may be a `Column(...)`. If a
        column can't hold the value, the job fails before the first write. See "Conditions" in docs/jobs.md.
    :param archive: URL of the location at which the job archives the rows before it changes them, such as
        "s3://connection@bucket/iam". The run report names the run's folder. "configured": the location in
        `[iam_watcher] archive`; if that option is empty, no archive, and a warning in the log. None: no
        archive. (templated)
    """

    template_fields: Sequence[str] = (
        "older_than",
        "older_than_days",
        "grace",
        "grace_days",
        "archive",
        *TableJobOperator.template_fields,
    )

    def __init__(
        self,
        *,
        table: str,
        age_column: str,
        older_than: timedelta | str | dict[str | None, Any] | None = None,
        older_than_days: int | str | None = None,
        grace: timedelta | str | None = None,
        grace_days: int | str | None = None,
        orphans_of: str | None = None,
        key: str | None = None,
        keep_last: int | None = None,
        per: str | None = None,
        age_unit: AgeUnit = "date",
        age_format: str | None = None,
        age_timezone: str = "UTC",
        where: Sequence[Condition] = (),
        archive: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(table=table, **kwargs)
        self.age_column = age_column
        self.older_than = older_than
        self.older_than_days = older_than_days
        self.grace = grace
        self.grace_days = grace_days
        self.orphans_of = orphans_of
        self.key = key
        self.keep_last = keep_last
        self.per = per
        self.age_unit = age_unit
        self.age_format = age_format
        self.age_timezone = age_timezone
        self.where = where
        self.archive = archive
        self._is_archived = archive is not None
        arguments.identifier("age_column", age_column)
        given = {name: value for name, value in self._periods().items() if value is not None}
        if len(given) > 1 or (not given and keep_last is None):
            found = ", ".join(f"{name} is {value!r}" for name, value in given.items()) or "none is given"
            raise JobArgumentError(f"{found}; expected one of {', '.join(self._periods())}, or keep_last")
        self._period_name = next(iter(given), None)
        for name, value in given.items():
            arguments.check_literal(_check_period, name, value)
        if keep_last is not None and (type(keep_last) is not int or not 1 <= keep_last <= MOST_KEPT):
            raise JobArgumentError(
                f"keep_last is {keep_last!r}; expected a whole number of rows from 1 to {MOST_KEPT:,}"
            )
        if (orphans_of is None) != (key is None):
            raise JobArgumentError(f"orphans_of is {orphans_of!r}, key is {key!r}; expected both or none")
        if orphans_of is not None:
            arguments.identifier("orphans_of", orphans_of)
            arguments.identifier("key", key)
        if per is not None:
            arguments.identifier("per", per)
            if keep_last is None:
                raise JobArgumentError(f"per is {per!r}, but keep_last is not set; expected both")
        check_form(age_unit, age_format)
        arguments.time_zone("age_timezone", age_timezone)
        if where != ():
            from iam_watcher.jobs.table_job import conditions

            conditions.check(where)
        if archive != CONFIGURED:
            arguments.check_literal(arguments.location, "archive", archive)

    def retention_arguments(self) -> dict[str, Any]:
        """Return the arguments that every `RetentionJob` takes.

        Raises:
            JobArgumentError: a rendered value is not valid.
        """
        from iam_watcher.jobs.table_job.newest import Newest
        from iam_watcher.jobs.table_job.orphans import Orphans

        return {
            **self.shared_arguments(),
            "location": self._location(),
            "age_column": self.age_column,
            "age_unit": self.age_unit,
            "age_format": self.age_format,
            "period_name": self._period_name,
            "periods": self._rendered_periods(),
            "newest": None if self.keep_last is None else Newest(self.keep_last, self.per),
            "orphans": Orphans(self.orphans_of, self.key) if self.orphans_of and self.key else None,
            "expiry": self._period_name in {"grace", "grace_days"},
            "zone": arguments.time_zone("age_timezone", self.age_timezone),
            "where": self.where,
        }

    def _location(self) -> str | None:
        """Return where the job archives rows, or None for no archive."""
        from iam_watcher.archive.location import configured_location

        if self.archive != CONFIGURED:
            # A template may be rendered to None. Then the job must not delete rows without an archive.
            given = "None" if self._is_archived and self.archive is None else self.archive
            return arguments.location("archive", given)
        location = configured_location()
        if location is None:
            # Before the first write: the option may be misspelt.
            logger.warning(
                "no archive: [iam_watcher] archive is not set, and this job has archive='configured'. Set "
                "AIRFLOW__IAM_WATCHER__ARCHIVE, or check its spelling"
            )
        return location

    def _periods(self) -> dict[str, Any]:
        names = ("older_than", "older_than_days", "grace", "grace_days")
        return {name: getattr(self, name) for name in names}

    def _rendered_periods(self) -> Periods:
        """Return the periods of the argument that the DAG file gave, whatever was rendered from it."""
        from iam_watcher.jobs.table_job.period import Period, period
        from iam_watcher.jobs.table_job.periods import Periods, periods

        name = self._period_name
        if name is None:
            return Periods(Period())  # Every row that is not among the newest.
        value = getattr(self, name)
        if name == "older_than":
            return periods(name, value)
        if name.endswith("_days"):
            return Periods(Period(elapsed=timedelta(days=arguments.days(name, value))))
        return Periods(period(name, value))


def _check_period(name: str, value: object) -> None:
    """Check the literal value of an argument that is a period.

    Raises:
        JobArgumentError: it is not valid.
    """
    if name.endswith("_days"):
        arguments.days(name, value)
    elif name == "older_than" and isinstance(value, dict):
        from iam_watcher.jobs.table_job.periods import periods

        periods(name, value)
    else:
        from iam_watcher.jobs.table_job.period import period

        period(name, value)
