"""The forms of age columns by name: `age_unit` and `age_format` of a purge."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal, get_args

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from iam_watcher.database.catalogue import Table
    from iam_watcher.jobs.table_job.age_column import AgeColumn

AgeUnit = Literal[
    "date",
    "unix_seconds",
    "unix_milliseconds",
    "unix_microseconds",
    "YYYYMMDD",
    "YYYYMM",
    "year",
    "uuid7",
    "ulid",
]

UNIX = {
    "unix_seconds": timedelta(seconds=1),
    "unix_milliseconds": timedelta(milliseconds=1),
    "unix_microseconds": timedelta(microseconds=1),
}
FORMATS = {"YYYYMMDD": "%Y%m%d", "YYYYMM": "%Y%m", "year": "%Y"}


def check_form(unit: object, form: object) -> None:
    """Check the arguments `age_unit` and `age_format`.

    Raises:
        JobArgumentError: one is not valid, or both are given.
    """
    arguments.one_of("age_unit", unit, get_args(AgeUnit))
    if form is None:
        return
    from iam_watcher.jobs.table_job import age_format

    age_format.check_format("age_format", form)
    if unit != "date":
        raise JobArgumentError(
            f"age_unit is {unit!r} and age_format is {form!r}; expected one of them. Leave age_unit out"
        )


def age_column(table: Table, name: str, *, unit: str, form: str | None, zone: ZoneInfo) -> AgeColumn:
    """Return the age column of a table.

    Args:
        table: of the rows.
        name: of the column.
        unit: `age_unit`.
        form: `age_format`, or None.
        zone: the time zone of values that name none.

    Raises:
        TableError: there is none of that name, or its type has no ages of that form.
    """
    from iam_watcher.jobs.table_job import age_format, age_in_id
    from iam_watcher.jobs.table_job.age_column import DATES, NUMBERS, DateColumn, UnixColumn

    if form is None and unit == "date":
        return DateColumn(table.column(name, DATES), zone)
    if unit in UNIX:
        return UnixColumn(table.column(name, NUMBERS), zone, UNIX[unit])
    if unit == "uuid7":
        return age_in_id.IdColumn(table.column(name, age_in_id.TYPES), zone, "uuid7")
    if unit == "ulid":
        return age_in_id.IdColumn(table.column(name, age_in_id.TYPES - {"uuid"}), zone, "ulid")
    return age_format.FormatColumn.of(table, name, form or FORMATS[unit], zone)
