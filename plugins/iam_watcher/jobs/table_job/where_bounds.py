"""The two bounds of `between` in `where`: the server says which of two texts is the smaller one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.errors import TableError
from iam_watcher.jobs.table_job.condition_syntax import BETWEEN, simple_conditions
from iam_watcher.jobs.table_job.conditions import converted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.conditions import Condition

# Compares two values as the server compares them with the column, and reads no row: in a UNION, the column
# gives its collation or its type to the values. Only a TIME would become a text there.
REVERSED = "SELECT low.bound > high.bound FROM ({low}) AS low, ({high}) AS high"
AS_COLUMN = "SELECT {column} AS bound FROM {table} WHERE FALSE UNION ALL SELECT {value}"
AS_TIME = "SELECT CAST({value} AS TIME(6)) AS bound"

OVER_MIDNIGHT = (
    ". For the hours from {low!r} over midnight to {high!r}, write AnyOf([({column!r}, '>=', {low!r}), "
    "({column!r}, '<=', {high!r})]); for the other hours, ({column!r}, '<', {low!r}) and "
    "({column!r}, '>', {high!r})"
)


def check_bounds(db: Transactions, table: Table, conditions: Sequence[Condition], zone: tzinfo) -> None:
    """Check that the first bound of each `between` and `not between` is not the larger one.

    With such bounds, no row would meet `between`, and every row `not between`. `as_sql` compares numbers,
    dates and bytes; this function lets the server compare texts, which have an order of the column's own.

    Args:
        db: where.
        table: of the columns.
        conditions: as `check` took them; the server can compare their values with the columns.
        zone: the time zone of DATETIME and DATE columns, and of times that name none.

    Raises:
        TableError: the first bound is the larger one.
    """
    for condition in simple_conditions(conditions):
        if condition.operator not in BETWEEN:
            continue
        column = table.column(condition.column)
        low, high = converted(condition, column, table, zone)
        if not isinstance(low, str):
            continue
        if _is_reversed(db, table, column, low, high):
            first, second = condition.value
            hours = OVER_MIDNIGHT.format(column=column.name, low=first, high=second)
            raise TableError(
                f"where has {condition.given!r}; expected the smaller value first, but for column "
                f"{column.name!r} of {table.name}, which is {column.column_type}, {first!r} is larger than "
                f"{second!r}{hours if column.data_type == 'time' else ''}"
            )


def _is_reversed(db: Transactions, table: Table, column: Column, low: str, high: str) -> bool:
    select = AS_TIME if column.data_type == "time" else AS_COLUMN
    query = REVERSED.format(
        **{
            name: select.format(column=column.quoted, table=table.quoted, value=f"%({name})s")
            for name in ("low", "high")
        }
    )

    def ask() -> bool:
        ((found,),) = db.read(query, {"low": low, "high": high})
        db.commit()
        return bool(found)

    return db.run(ask, what=f"the bounds of {column.name} in {table.name}")
