"""Reads the conditions of `where` as a DAG file gives them, those in groups too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.conditions import AnyOf, Column

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ORDERS = frozenset({"=", "<>", "<", "<=", ">", ">="})
COMPARISONS = ORDERS | {"like", "not like"}
LISTS = frozenset({"in", "not in"})
BETWEEN = frozenset({"between", "not between"})
NULLS = frozenset({"is", "is not"})
WITHOUT_VALUE = {"is null": "is", "is not null": "is not"}
OPERATORS = COMPARISONS | LISTS | BETWEEN | NULLS

MOST_NESTED = 5  # groups in groups

EXPECTED = 'expected (column, operator, value), (column, "is null") or an AnyOf([...])'


@dataclass(frozen=True)
class SimpleCondition:
    """A condition that is no group, with "is null" as "is" None."""

    given: object
    column: str
    operator: str
    value: Any

    @property
    def values(self) -> Sequence[Any]:
        """The values that the column is compared with."""
        if self.operator in NULLS or isinstance(self.value, Column):
            return ()
        return self.value if self.operator in LISTS | BETWEEN else (self.value,)


def simple_conditions(conditions: Sequence[Any], nested: int = 0) -> Iterator[SimpleCondition]:
    """Return the conditions, those in groups too.

    Raises:
        JobArgumentError: one is no condition.
    """
    for condition in conditions:
        if not isinstance(condition, AnyOf):
            yield _read(condition)
            continue
        groups = condition.conditions
        if not isinstance(groups, (list, tuple)) or not groups or nested == MOST_NESTED:
            raise JobArgumentError(
                f"where has {condition!r}; expected AnyOf of a list of conditions, nested up to "
                f"{MOST_NESTED} times"
            )
        for group in groups:
            if group == []:
                raise JobArgumentError(
                    f"where has {condition!r} with an empty list, which every row would meet"
                )
            yield from simple_conditions(group if isinstance(group, list) else [group], nested + 1)


def _read(condition: Any) -> SimpleCondition:
    if not isinstance(condition, (list, tuple)) or len(condition) not in {2, 3}:
        raise JobArgumentError(f"where has {condition!r}; {EXPECTED}")
    column, operator, *rest = condition
    arguments.identifier("where", column)
    if not rest:
        if not isinstance(operator, str) or operator not in WITHOUT_VALUE:
            raise JobArgumentError(f"where has {condition!r}; {EXPECTED}")
        return SimpleCondition(condition, column, WITHOUT_VALUE[operator], None)
    if not isinstance(operator, str) or operator not in OPERATORS:
        known = ", ".join(sorted(OPERATORS))
        raise JobArgumentError(f"where has the operator {operator!r}; expected one of {known}")
    (value,) = rest
    if isinstance(value, Column):
        arguments.identifier("where", value.name)
        fits = operator in ORDERS
    elif operator in LISTS:
        fits = isinstance(value, (list, tuple)) and len(value) > 0
    elif operator in BETWEEN:
        fits = isinstance(value, (list, tuple)) and len(value) == len(("from", "to"))
    elif operator in NULLS:
        fits = value is None
    else:
        fits = value is not None and not isinstance(value, (list, tuple))
    if not fits:
        raise JobArgumentError(
            f"where has {condition!r}; expected a list after in, two values after between, None after is, "
            f"else one value; a Column only after {' '.join(sorted(ORDERS))}"
        )
    return SimpleCondition(condition, column, operator, value)
