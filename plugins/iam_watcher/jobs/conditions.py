"""What a condition may have besides a column, an operator and a value: `AnyOf`, `Column`, `ParentColumn`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Column:
    """Another column of the same row, as the value of a condition.

    `("expires_at", "<", Column("revoked_at"))`

    Attributes:
        name: name of the column.
    """

    name: str


@dataclass(frozen=True)
class ParentColumn:
    """A column of the parent's row, which decides the period of `older_than`.

    `older_than={"column": ParentColumn("state", table="orders", key="order_id"), "paid": "10y", None: "1y"}`

    Attributes:
        name: name of the column.
        table: name of the parent table, which has a primary key of one column.
        key: name of the column of the job's table that has the parent's primary key.
    """

    name: str
    table: str
    key: str


@dataclass(frozen=True)
class AnyOf:
    """Conditions of which a row has to meet at least one.

    Attributes:
        conditions: each is a condition, or a list of conditions that a row has to meet together.
    """

    conditions: Sequence[Condition | Sequence[Condition]]


Condition = tuple[str, str] | tuple[str, str, Any] | AnyOf
"""(column, operator, value); (column, "is null") or (column, "is not null"); or an `AnyOf`."""
