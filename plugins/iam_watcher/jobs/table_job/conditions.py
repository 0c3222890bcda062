"""Extra conditions on rows, given as (column, operator, value): no SQL text from a DAG file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.database.server_errors import NOT_COMPARABLE, code_of
from iam_watcher.errors import JobArgumentError, TableError
from iam_watcher.jobs.table_job.where_times import UnfitValueError
from iam_watcher.jobs.table_job.where_values import check_type, for_column

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.plan import Plan

Condition = tuple[str, str, Any]

COMPARISONS = frozenset({"=", "<>", "<", "<=", ">", ">=", "like"})
LISTS = frozenset({"in", "not in"})
NULLS = frozenset({"is", "is not"})

# The server looks whether it can compare the columns with the values, and reads no row.
REHEARSAL = "SELECT 1 FROM {table} WHERE {condition} LIMIT 0"


def check(conditions: Sequence[Condition]) -> None:
    """Check conditions as they stand in a DAG file.

    Raises:
        JobArgumentError: one is not (column, operator, value), or has a value that no column can be
            compared with.
    """
    if not isinstance(conditions, (list, tuple)):
        raise JobArgumentError(f"where is {conditions!r}; expected a list of (column, operator, value)")
    for condition in conditions:
        if not isinstance(condition, (list, tuple)) or len(condition) != len(("column", "operator", "value")):
            raise JobArgumentError(f"where has {condition!r}; expected (column, operator, value)")
        column, operator, value = condition
        arguments.identifier("where", column)
        if not isinstance(operator, str) or operator not in COMPARISONS | LISTS | NULLS:
            known = ", ".join(sorted(COMPARISONS | LISTS | NULLS))
            raise JobArgumentError(f"where has the operator {operator!r}; expected one of {known}")
        if operator in LISTS:
            fits = isinstance(value, (list, tuple)) and len(value) > 0
        elif operator in NULLS:
            fits = value is None
        else:
            fits = value is not None and not isinstance(value, (list, tuple))
        if not fits:
            raise JobArgumentError(
                f"where has {condition!r}; expected a list after in, None after is, else one value"
            )
        for single in _values(operator, value):
            try:
                check_type(single)
            except UnfitValueError as error:
                raise JobArgumentError(
                    f"where has {condition!r}; expected {error}, not {single!r}"
                ) from error


def as_sql(conditions: Sequence[Condition], table: Table, zone: tzinfo) -> tuple[str, dict[str, object]]:
    """Return the conditions as one SQL condition, and the values of its placeholders.

    Args:
        conditions: as `check` took them.
        table: of the columns.
        zone: the time zone of DATETIME and DATE columns, and of times that name none.

    Raises:
        TableError: a column is not there, or can't hold a value.
    """
    texts, values = ["TRUE"], dict[str, object]()
    for number, (name, operator, value) in enumerate(conditions):
        column = table.column(name)
        placeholder = f"where{number}"
        texts.append(f"{column.quoted} {operator.upper()} %({placeholder})s")
        converted = []
        for single in _values(operator, value):
            try:
                converted.append(for_column(single, column, operator, zone))
            except UnfitValueError as error:
                raise TableError(
                    f"column {name!r} of {table.name} is {column.column_type}; "
                    f"where has {name} {operator} {single!r}, expected {error}"
                ) from error
        values[placeholder] = tuple(converted) if operator in LISTS else next(iter(converted), None)
    return " AND ".join(texts), values


def rehearse(db: Transactions, plan: Plan, argument: str) -> None:
    """Let the server look whether it can compare the columns of the conditions with their values.

    Args:
        db: where.
        plan: its `eligible` has the conditions.
        argument: of the operator that the values come from.

    Raises:
        TableError: it can't, for a value has a character that its column can't throttler.
    """

    def rehearsal() -> None:
        try:
            db.read(REHEARSAL.format(table=plan.table.quoted, condition=plan.eligible), plan.change.values)
        except db.error as error:
            if code_of(error) in NOT_COMPARABLE:
                raise TableError(
                    f"{argument} has a text that a column of {plan.table.name} can't throttler: {error}"
                ) from error
            raise
        db.commit()

    db.run(rehearsal, what=f"the conditions on {plan.table.name}", before_retry=lambda: None)


def _values(operator: str, value: Any) -> Sequence[Any]:
    """Return the values that a condition compares a column with."""
    if operator in NULLS:
        return ()
    return value if operator in LISTS else (value,)
