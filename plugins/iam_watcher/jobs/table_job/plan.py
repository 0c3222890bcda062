"""What a table job is going to do in one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.database.column import AS_UTF8

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from iam_watcher.database.catalogue import Table
    from iam_watcher.walk.child_rows import Family
    from iam_watcher.walk.index_order import AgeIndex
    from iam_watcher.walk.row_change import RowChange


@dataclass(frozen=True)
class Plan:
    """What a job is going to do in one run.

    Attributes:
        table: of the rows.
        change: the rows to be written, and how.
        cut_off: for the report.
        age: SQL for the moment a row's age counts from.
        moment: turns a value of `age`, as the server shows it, into an aware datetime; None if it is no
            date of the calendar.
        eligible: the condition for the rows that the safety limit takes the matching ones as a share of.
        index: to go by where few rows match.
        label: SQL for the name of a row, as UTF-8, for people who read a list of rows.
        also_writes: what is written besides, without WHERE.
        family: the tables whose rows are deleted with these; None if there are none.
    """

    table: Table
    change: RowChange
    cut_off: datetime
    age: str
    moment: Callable[[str], datetime | None]
    eligible: str = "TRUE"
    index: AgeIndex | None = None
    label: str = "NULL"
    also_writes: tuple[str, ...] = ()
    family: Family | None = None


def label(table: Table) -> str:
    """Return SQL for the name of a row: the column `name`, if there is one and it is a text."""
    column = table.columns.get("name")
    if column is None or column.charset is None:
        return "NULL"
    return AS_UTF8.format(column=column.quoted)
