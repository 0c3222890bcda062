"""Values that a column does not keep as they are: the server rounds or shortens them without an error."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iam_watcher.database.column import Column


def why_not_kept(value: object, column: Column) -> str | None:
    """Return what was expected of a value that the column would not keep; None if it keeps the value.

    Args:
        value: as `where_values.for_column` returns it.
        column: that is set to it.
    """
    kind, sizes = column.data_type, column.sizes
    if isinstance(value, Decimal):
        scale = sizes[1]
        is_whole = (Fraction(value) * 10**scale).denominator == 1
        return None if is_whole else f"up to {scale} digits after the point"
    if isinstance(value, float):
        # FLOAT(7,2) rounds to two digits, and few of the rounded numbers are ones that Python has.
        return "a column of type FLOAT or DOUBLE without a number of digits" if len(sizes) > 1 else None
    if kind in {"datetime", "timestamp", "time"}:
        digits = sizes[0] if sizes else 0
        if isinstance(value, datetime):
            rest = f"{value.microsecond:06}"[digits:]
        else:
            # A TIME always has its fraction; a zero date has none.
            rest = str(value).partition(".")[2][digits:]
        return f"a time with up to {digits} digits after the second" if rest.strip("0") else None
    if kind == "char" and isinstance(value, str) and value.endswith(" "):
        return "a text without spaces at its end"
    if kind == "enum" and value not in column.members:
        return f"one of {', '.join(map(repr, column.members))}"
    return None
