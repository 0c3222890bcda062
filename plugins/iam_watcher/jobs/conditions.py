"""Extra conditions on rows, given as (column, operator, value): no SQL text from a DAG file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import JobArgumentError, TableError
from iam_watcher.jobs import arguments
from iam_watcher.jobs.catalogue import INTEGERS

if TYPE_CHECKING:
    from iam_watcher.jobs.catalogue import Table

Condition = tuple[str, str, Any]

COMPARISONS = frozenset({"=", "<>", "<", "<=", ">", ">=", "like"})
LISTS = frozenset({"in", "not in"})
NULLS = frozenset({"is", "is not"})

NUMBERS = INTEGERS | {"decimal", "float", "double"}
TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"})


def check(conditions: Sequence[Condition]) -> None:
    """Check conditions as they stand in a DAG file.

    Raises:
        JobArgumentError: one is not (column, operator, value).
    """
    if isinstance(conditions, str):
        raise JobArgumentError(f"where is {conditions!r}; expected a list of (column, operator, value)")
    for condition in conditions:
        if isinstance(condition, str) or len(condition) != len(("column", "operator", "value")):
            raise JobArgumentError(f"where has {condition!r}; expected (column, operator, value)")
        column, operator, value = condition
        arguments.identifier("where", column)
        if operator in LISTS:
            fits = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
        elif operator in NULLS:
            fits = value is None
        elif operator in COMPARISONS:
            fits = value is not None and (isinstance(value, str) or not isinstance(value, Sequence))
        else:
            known = ", ".join(sorted(COMPARISONS | LISTS | NULLS))
            raise JobArgumentError(f"where has the operator {operator!r}; expected one of {known}")
        if not fits:
            raise JobArgumentError(
                f"where has {condition!r}; expected a list after in, None after is, else one value"
            )


def as_sql(conditions: Sequence[Condition], table: Table) -> tuple[str, dict[str, object]]:
    """Return the conditions as one SQL condition, and the values of its placeholders.

    Raises:
        TableError: a column is not there, or its type is not the value's. The database would convert one
            of them, and a text that is no number equals 0.
    """
    texts, values = ["TRUE"], {}
    for number, (name, operator, value) in enumerate(conditions):
        column = table.column(name)
        for single in value if operator in LISTS else [value]:
            number_like, text_like = isinstance(single, (int, float)), isinstance(single, str)
            if (column.data_type in TEXTS and number_like) or (column.data_type in NUMBERS and text_like):
                raise TableError(
                    f"column {name!r} of {table.name} is {column.data_type}; where has {single!r}"
                )
        placeholder = f"where{number}"
        texts.append(f"{column.quoted} {operator.upper()} %({placeholder})s")
        values[placeholder] = tuple(value) if operator in LISTS else value
    return " AND ".join(texts), values
