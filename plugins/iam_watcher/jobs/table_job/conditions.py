"""Extra conditions on rows, given as (column, operator, value): no SQL text from a DAG file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iam_watcher.database.column import INTEGERS
from iam_watcher.database.server_errors import NOT_COMPARABLE, code_of
from iam_watcher.errors import JobArgumentError, TableError
from iam_watcher.jobs.conditions import AnyOf, Column
from iam_watcher.jobs.table_job.condition_syntax import BETWEEN, LISTS, NULLS, simple_conditions
from iam_watcher.jobs.table_job.kept_values import why_not_kept
from iam_watcher.jobs.table_job.where_times import UnfitValueError
from iam_watcher.jobs.table_job.where_values import check_type, for_column

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from iam_watcher.database import column as column_type
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.conditions import Condition
    from iam_watcher.jobs.table_job.condition_syntax import SimpleCondition
    from iam_watcher.jobs.table_job.plan import Plan

# Columns of one family can be compared with each other.
FAMILIES = (
    INTEGERS | {"decimal", "float", "double", "bit"},
    frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}),
    frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}),
)

# The server checks whether it can compare the columns with the values, and reads no row.
REHEARSAL = "SELECT 1 FROM {table} WHERE {condition} LIMIT 0"


def check(conditions: object) -> None:
    """Check the conditions of a DAG file.

    Raises:
        JobArgumentError: one is no condition, or has a value that no column can be compared with.
    """
    if not isinstance(conditions, (list, tuple)):
        raise JobArgumentError(f"where is {conditions!r}; expected a list of (column, operator, value)")
    for condition in simple_conditions(conditions):
        for value in condition.values:
            check_value("where", repr(condition.given), value)


def check_value(argument: str, given: str, value: object) -> None:
    """Check what can be said of a value without its column.

    Args:
        argument: that has the value.
        given: the condition or assignment, for the message.
        value: to check.

    Raises:
        JobArgumentError: no column can have the value.
    """
    try:
        check_type(value)
    except UnfitValueError as error:
        raise JobArgumentError(f"{argument} has {given}; expected {error}, not {value!r}") from error


def value_to_set(
    value: Any, column: column_type.Column, table: Table, zone: tzinfo, argument: str = "set"
) -> object:
    """Return what a value that is to be set, which `check_value` took, becomes for a column.

    Args:
        value: of the DAG file.
        column: that is set to it.
        table: of the column.
        zone: the time zone of DATETIME and DATE columns, and of times that name none.
        argument: of the operator that has the value.

    Raises:
        TableError: the column can't hold it, or would keep another value, such as a rounded one: then the
            next run would find the same rows again.
    """
    converted = _for_column(value, column, "=", table, zone, argument)
    if (expected := why_not_kept(converted, column)) is not None:
        raise TableError(
            f"column {column.name!r} of {table.name} is {column.column_type}; {argument} has {column.name} = "
            f"{value!r}, which the column would not keep as it is; expected {expected}"
        )
    return converted


def columns(conditions: Sequence[Condition]) -> list[str]:
    """Return the names of the columns that the conditions use."""
    names = []
    for condition in simple_conditions(conditions):
        names.append(condition.column)
        if isinstance(condition.value, Column):
            names.append(condition.value.name)
    return names


def as_sql(
    conditions: Sequence[Condition], table: Table, zone: tzinfo, prefix: str = "where"
) -> tuple[str, dict[str, object]]:
    """Return the conditions as one SQL condition, and the values of its placeholders.

    Args:
        conditions: as `check` took them.
        table: of the columns.
        zone: the time zone of DATETIME and DATE columns, and of times that name none.
        prefix: of the names of the placeholders.

    Raises:
        TableError: a column is not there, can't hold a value, or can't be compared with another.
    """
    values: dict[str, object] = {}

    def text(condition: Condition) -> str:
        if isinstance(condition, AnyOf):
            return f"({' OR '.join(all_of(one) for one in condition.conditions)})"
        (simple,) = simple_conditions([condition])
        column = table.column(simple.column)
        operator = simple.operator.upper()
        if isinstance(simple.value, Column):
            return f"{column.quoted} {operator} {_other(column, simple, table).quoted}"
        names = []
        for value in converted(simple, column, table, zone):
            names.append(f"{prefix}{len(values)}")
            values[names[-1]] = value
        if simple.operator in NULLS:
            _check_null(column, simple, table)
            return f"{column.quoted} {operator} NULL"
        if simple.operator in BETWEEN:
            return f"{column.quoted} {operator} %({names[0]})s AND %({names[1]})s"
        if simple.operator in LISTS:
            return f"{column.quoted} {operator} ({', '.join(f'%({name})s' for name in names)})"
        return f"{column.quoted} {operator} %({names[0]})s"

    def all_of(group: Condition | Sequence[Condition]) -> str:
        if isinstance(group, list):
            return f"({' AND '.join(map(text, group))})"
        return text(group)  # type: ignore[arg-type]  # a tuple is one condition

    return " AND ".join(["TRUE", *map(text, conditions)]), values


def converted(
    condition: SimpleCondition, column: column_type.Column, table: Table, zone: tzinfo
) -> list[Any]:
    """Return what the values of a condition become for its column.

    Raises:
        TableError: the column can't hold one, or the first bound of `between` is larger than the second; of
            texts the server knows that, see `where_bounds`.
    """
    found: list[Any] = [
        _for_column(value, column, condition.operator, table, zone, "where") for value in condition.values
    ]
    if condition.operator in BETWEEN and not isinstance(found[0], str) and found[0] > found[1]:
        raise TableError(f"where has {condition.given!r}; expected the smaller value first")
    return found


def rehearse(db: Transactions, plan: Plan, argument: str) -> None:
    """Let the server check whether it can compare the columns of the conditions with their values.

    Args:
        db: where.
        plan: its `eligible` has the conditions.
        argument: of the operator that the values come from.

    Raises:
        TableError: it can't, for a value has a character that its column can't hold.
    """

    def rehearsal() -> None:
        try:
            db.read(REHEARSAL.format(table=plan.table.quoted, condition=plan.eligible), plan.change.values)
        except db.error as error:
            if code_of(error) in NOT_COMPARABLE:
                raise TableError(
                    f"{argument} has a text that a column of {plan.table.name} can't hold: {error}"
                ) from error
            raise
        db.commit()

    db.run(rehearsal, what=f"the conditions on {plan.table.name}")


def _check_null(column: column_type.Column, condition: SimpleCondition, table: Table) -> None:
    """Check that a comparison with NULL means the same in each part of a statement.

    In WHERE alone, both servers take `IS NULL` for `= '0000-00-00'` if a DATE or DATETIME is NOT NULL (MySQL
    only outside of OR). So the dry run would count none of the rows that the job then writes.
    See https://dev.mysql.com/doc/refman/9.7/en/comparison-operators.html#operator_is-null.

    Raises:
        TableError: the column is such a one.
    """
    if condition.operator == "is" and not column.nullable and column.data_type in {"date", "datetime"}:
        zero = "0000-00-00" if column.data_type == "date" else "0000-00-00 00:00:00"
        raise TableError(
            f"where has {condition.given!r}, but column {column.name!r} of {table.name} can't be NULL. For "
            f"rows without a date, use ({column.name!r}, '=', {zero!r})"
        )


def _for_column(  # noqa: PLR0917  two of them are for the message
    value: Any, column: column_type.Column, operator: str, table: Table, zone: tzinfo, argument: str
) -> object:
    try:
        return for_column(value, column, operator, zone)
    except UnfitValueError as error:
        raise TableError(
            f"column {column.name!r} of {table.name} is {column.column_type}; "
            f"{argument} has {column.name} {operator} {value!r}, expected {error}"
        ) from error


def _other(column: column_type.Column, condition: SimpleCondition, table: Table) -> column_type.Column:
    """Return the column that another is compared with.

    Raises:
        TableError: the server would convert the type of one of them.
    """
    other = table.column(condition.value.name)
    same_family = any({column.data_type, other.data_type} <= family for family in FAMILIES)
    if column.data_type in {"enum", "set"}:  # ordered by number, compared with others by text
        same = column.column_type == other.column_type and column.charset == other.charset
        fits = same and condition.operator in {"=", "<>"}
    else:
        fits = same_family or column.data_type == other.data_type
    if not fits:
        raise TableError(
            f"where compares column {column.name!r} of {table.name}, which is {column.column_type}, with "
            f"{other.name!r}, which is {other.column_type}; expected two columns of one type"
        )
    return other
