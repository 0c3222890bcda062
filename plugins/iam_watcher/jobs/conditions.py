"""What a condition of `where` may have besides a column, an operator and a value: `AnyOf` and `Column`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Column:
    """Another column of the same row, in place of a value: `("expires_at", "<", Column("revoked_at"))`.

    Attributes:
        name: of the column.
    """

    name: str


@dataclass(frozen=True)
class AnyOf:
    """Conditions of which a row has to meet at least one.

    Attributes:
        conditions: each is a condition, or a list of conditions that a row has to meet together.
    """

    conditions: Sequence[Condition | Sequence[Condition]]


Condition = tuple[str, str] | tuple[str, str, Any] | AnyOf
"""(column, operator, value); (column, "is null") or (column, "is not null"); or an `AnyOf`."""
