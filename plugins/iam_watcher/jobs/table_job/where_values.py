"""Values of `where`: which types a DAG file may give, and what each becomes for the type of its column.

Where the types differ, the database would convert one of them without an error: a text that is no date
equals the zero date, a text that is no number equals 0, and a text column that is compared with a number
is read as a number. So a value that the column itself could not hold is refused.
"""

from __future__ import annotations

import ipaddress
import math
import struct
import uuid
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from iam_watcher.arguments import is_template
from iam_watcher.database.column import INTEGER_BITS, TEXTS_AND_MEMBERS
from iam_watcher.jobs.table_job.where_times import MOMENTS, UnfitValueError, moment, time_of_day

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from iam_watcher.database.column import Column

TYPES = (str, bytes, bool, int, float, Decimal, date, time, timedelta)


def check_type(value: object) -> None:
    """Check what can be said of a value without its column.

    Raises:
        UnfitValueError: it can't be compared with any column.
    """
    if isinstance(value, Enum):
        raise UnfitValueError(f"the Enum's value {value.value!r}")
    if not isinstance(value, TYPES):
        raise UnfitValueError("a text, a number, bytes, a date or a time")
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        raise UnfitValueError("a finite number")
    if isinstance(value, str):
        if is_template(value):
            raise UnfitValueError("a text without a template, as where is not templated")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UnfitValueError("a text without lone surrogates") from error


def for_column(value: Any, column: Column, operator: str, zone: tzinfo) -> object:
    """Return what a value is compared with a column as.

    Args:
        value: that `check_type` took.
        column: to compare it with.
        operator: of the condition.
        zone: the time zone of DATETIME and DATE columns, and of a time in `where` that names none.

    Raises:
        UnfitValueError: the column can't hold the value, or the operator is not for such columns.
    """
    if operator in {"like", "not like"}:
        if column.data_type not in TEXTS_AND_MEMBERS or not isinstance(value, str):
            raise UnfitValueError(f"a text column and a text pattern for {operator}")
        return str(value)
    if column.data_type in MOMENTS:
        return moment(value, column, operator, zone)
    convert = _CONVERT.get(column.data_type)
    if convert is None:
        raise UnfitValueError("None after is or is not: a column of this type can't be compared with a value")
    return convert(value, column)


def _integer(value: Any, column: Column) -> int:
    bits = INTEGER_BITS[column.data_type]
    if column.unsigned:
        return _whole(value, 0, 2**bits - 1)
    return _whole(value, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _year(value: Any, column: Column) -> int:  # noqa: ARG001  as the others
    # The server takes a number of two digits for a year of this century or the last.
    return 0 if value == 0 else _whole(value, 1901, 2155)


def _bit(value: Any, column: Column) -> int:
    return _whole(value, 0, 2 ** column.sizes[0] - 1)


def _whole(value: Any, first: int, last: int) -> int:
    number = _number(value)
    if number != number.to_integral_value() or not first <= number <= last:
        raise UnfitValueError(f"a whole number from {first} to {last}, which the column can hold")
    return int(number)


def _decimal(value: Any, column: Column) -> Decimal:
    number = _number(value)
    precision, scale = column.sizes
    if abs(number) >= Decimal(10) ** (precision - scale) or (column.unsigned and number < 0):
        raise UnfitValueError("a number that the column can hold")
    return number


def _float(value: Any, column: Column) -> float:
    try:
        number = float(_number(value))
        if column.data_type == "float":
            # As the column has it: 0.1 in a FLOAT is another number than 0.1 in a DOUBLE.
            (number,) = struct.unpack("f", struct.pack("f", number))
    except OverflowError:
        number = math.inf
    if math.isinf(number) or (column.unsigned and number < 0):
        raise UnfitValueError("a number that the column can hold")
    return number


def _number(value: Any) -> Decimal:
    if not isinstance(value, (int, float, Decimal)):
        raise UnfitValueError("a number")
    return Decimal(str(value)) if isinstance(value, float) else Decimal(value)


def _text(value: Any, column: Column) -> str:
    if not isinstance(value, str):
        raise UnfitValueError("a text")
    if column.sizes and len(value) > column.sizes[0]:
        raise UnfitValueError(f"a text of up to {column.sizes[0]} characters, which the column can hold")
    return str(value)


def _enum(value: Any, column: Column) -> str:
    text = _text(value, column)
    # The empty text is what a value became that the column does not have.
    member = _member(text, column) if text else text
    if member is None:
        raise UnfitValueError(f"one of {', '.join(map(repr, column.members))}")
    return member


def _set(value: Any, column: Column) -> str:
    text = _text(value, column)
    wanted = {_member(part, column) for part in text.split(",")} if text else set()
    if None in wanted:
        raise UnfitValueError(f"some of {', '.join(map(repr, column.members))}, separated by commas")
    # In the column's own order, as the server shows it.
    return ",".join(member for member in column.members if member in wanted)


def _member(text: str, column: Column) -> str | None:
    """Return the member of an ENUM or SET that a text means: upper or lower case, if only one is like it."""
    if text in column.members:
        return text
    alike = [member for member in column.members if member.casefold() == text.casefold()]
    return alike[0] if len(alike) == 1 else None


def _bytes(value: Any, column: Column) -> bytes:
    if not isinstance(value, bytes):
        raise UnfitValueError("bytes")
    if column.sizes and len(value) > column.sizes[0]:
        raise UnfitValueError(f"up to {column.sizes[0]} bytes, which the column can hold")
    # The server fills a BINARY up with zeros.
    return value.ljust(column.sizes[0], b"\0") if column.data_type == "binary" else value


def _parsed(kind: Callable[[str], object], expected: str) -> Callable[[Any, Column], str]:
    def convert(value: Any, column: Column) -> str:  # noqa: ARG001  as the others
        try:
            return str(kind(value if isinstance(value, str) else ""))
        except ValueError as error:
            raise UnfitValueError(expected) from error

    return convert


_CONVERT: dict[str, Callable[[Any, Any], object]] = {
    **dict.fromkeys(INTEGER_BITS, _integer),
    "year": _year,
    "bit": _bit,
    "decimal": _decimal,
    **dict.fromkeys(("float", "double"), _float),
    **dict.fromkeys(TEXTS_AND_MEMBERS, _text),
    "enum": _enum,
    "set": _set,
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), _bytes),
    "time": time_of_day,
    "uuid": _parsed(uuid.UUID, "a UUID"),
    "inet4": _parsed(ipaddress.IPv4Address, "an IPv4 address"),
    "inet6": _parsed(ipaddress.IPv6Address, "an IPv6 address"),
}
