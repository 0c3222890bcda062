"""A column of a key: how its values leave the server and go back as SQL text.

A value leaves the server in a form that names exactly one value of its column, and goes back as a literal of
the column's own type, character set and collation. So the server compares it as it compares the column, and
can turn the comparison into a range of the index.

Literals hold digits, hexadecimal digits and the characters of times alone, whatever the values are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from iam_watcher.database.column import INTEGERS, SHORT_TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from iam_watcher.database.column import Column

_NUMBERED = frozenset({"bit", "year", "enum"})  # an ENUM is sorted by the numbers of its members
_SHOWN = frozenset({"date", "datetime", "timestamp", "time", "uuid", "inet4", "inet6"})
BINARIES = frozenset({"binary", "varbinary"})
LONGEST_CHARACTER = 4  # bytes
MOST_KEY_BYTES = 3072  # of InnoDB
LONGEST_NUMBER = 80  # characters of a DECIMAL, date or address, with what stands around it in a list
_HARMLESS = re.compile(r"[0-9A-Fa-f:. -]*")


@dataclass(frozen=True)
class _Kind:
    """How values of some types leave the server and go back.

    Attributes:
        types: data types.
        select: SQL that reads a {column}.
        literal: returns SQL for a value, to be compared with the column.
        encode: returns a value as a text.
        decode: returns the value of such a text; raises ValueError if it is none.
    """

    types: frozenset[str]
    select: str
    literal: Callable[[Any, Column], str]
    encode: Callable[[Any], str] = str
    decode: Callable[[str], Any] = str


def _double(value: float, column: Column) -> str:  # noqa: ARG001  as the others
    text = repr(value)
    return text if "e" in text else f"{text}e0"  # without an exponent the server reads a DECIMAL


def _text(value: bytes, column: Column) -> str:
    return f"_{column.charset} X'{value.hex()}' COLLATE {column.collation}"


def _shown(value: str, column: Column) -> str:
    if not _HARMLESS.fullmatch(value):
        raise ValueError(f"{value!r} is no value of a column {column.data_type}")
    return f"'{value}'"


_KINDS = (
    _Kind(INTEGERS, "{column}", lambda value, _: str(int(value)), decode=int),
    # Such a number is a DOUBLE on MySQL.
    _Kind(_NUMBERED, "{column} + 0", lambda value, _: str(int(value)), lambda value: str(int(value)), int),
    _Kind(frozenset({"decimal"}), "{column}", lambda value, _: format(value, "f"), decode=Decimal),
    _Kind(frozenset({"float", "double"}), "{column} + 0e0", _double, repr, float),
    _Kind(SHORT_TEXTS, "CAST({column} AS BINARY)", _text, bytes.hex, bytes.fromhex),
    _Kind(
        BINARIES,
        "{column}",
        lambda value, _: f"X'{value.hex()}'",
        bytes.hex,
        bytes.fromhex,
    ),
    # As texts: the driver has no date with a month of zero, and no time over a day.
    _Kind(_SHOWN, "CAST({column} AS CHAR)", _shown),
)


def why_not(column: Column, *, prefix: bool) -> str | None:
    """Return why a walk can't go along a key with this column, or None.

    Args:
        column: of the key.
        prefix: whether the index has only the first characters of it.
    """
    if prefix:
        return f"the index has only a prefix of {column.name}"
    if column.nullable:
        return f"{column.name} can be NULL"
    if column.data_type == "set":
        return f"the server finds no range of {column.name}, which is a SET"
    if not any(column.data_type in kind.types for kind in _KINDS):
        return f"{column.name} is {column.data_type}"
    if column.data_type == "char" and "nopad" in (column.collation or ""):
        # MariaDB sorts the index by the value with its spaces, and compares without them.
        return f"MariaDB does not sort {column.name}, a CHAR of {column.collation}, as it compares it"
    return None


@dataclass(frozen=True)
class KeyColumn:
    """A column of a key.

    Attributes:
        column: the column.
        descending: whether the index has its largest value first.
    """

    column: Column
    descending: bool = False

    @property
    def selected(self) -> str:
        """The SQL that reads an exact value."""
        return self._kind.select.format(column=self.column.quoted)

    def selected_from(self, alias: str) -> str:
        """Return the SQL that reads an exact value of a table with this alias."""
        return self._kind.select.format(column=f"{alias}.{self.column.quoted}")

    @property
    def direction(self) -> str:
        """The SQL that sorts by the column as the index does."""
        return f"{self.column.quoted} DESC" if self.descending else self.column.quoted

    @property
    def reversed(self) -> str:
        """The SQL that sorts by the column in the opposite direction."""
        return self.column.quoted if self.descending else f"{self.column.quoted} DESC"

    def compared(self, operator: str, value: Any) -> str:
        """Return the condition for values that stand before (<) or behind (>) a value in the index."""
        if self.descending:
            operator = operator.translate(str.maketrans("<>", "><"))
        if self.column.data_type == "enum" and operator != "=":
            return f"{self.column.quoted} IN ({','.join(map(str, self._members(operator, int(value))))})"
        return f"{self.column.quoted} {operator} {self.literal(value)}"

    def _members(self, operator: str, number: int) -> range:
        """Return the numbers of an ENUM that stand so to a number: the servers make no range of a < or >.

        There is always one, of no member if need be: an empty list is an error.
        """
        own = operator.endswith("=")
        if operator.startswith(">"):
            return range(number + (not own), len(self.column.members) + 2)
        return range(-1, number + own)

    def literal(self, value: Any) -> str:
        """Return a value as SQL."""
        return self._kind.literal(value, self.column)

    @property
    def longest_literal(self) -> int:
        """The characters of the longest literal that a value can have in a list."""
        most = min(self.column.sizes[0] * LONGEST_CHARACTER, MOST_KEY_BYTES) if self.column.sizes else 0
        return self.list_bytes([b"\0" * most] if self._is_bytes else [0])

    def list_bytes(self, values: Sequence[Any]) -> int:
        """Return a number of bytes that the literals of values in a list don't exceed."""
        if not self._is_bytes:
            return len(values) * (LONGEST_NUMBER + len(self.column.quoted))
        around = len(self.literal(b"")) + len(f"{self.column.quoted} = () AND OR ")
        return 2 * sum(map(len, values)) + len(values) * around

    @property
    def _is_bytes(self) -> bool:
        """Whether `selected` returns bytes, whose literal has two digits for each."""
        return self.column.data_type in SHORT_TEXTS | BINARIES

    def encode(self, value: Any) -> str:
        """Return a value as a text, for a saved position."""
        return self._kind.encode(value)

    def decode(self, text: str) -> Any:
        """Return the value of such a text.

        Raises:
            ValueError: it is no value of this column.
        """
        return self._kind.decode(text)

    @cached_property
    def _kind(self) -> _Kind:
        return next(kind for kind in _KINDS if self.column.data_type in kind.types)


def for_people(value: Any, column: Column) -> Any:
    """Return a value for people and for JSON: number, text or hexadecimal digits."""
    if isinstance(value, bytes):
        if column.charset is not None:
            try:
                return value.decode("utf-8" if column.charset.startswith("utf8") else "ascii")
            except UnicodeDecodeError:
                pass
        return f"0x{value.hex()}"
    if column.data_type in _NUMBERED:
        return int(value)
    return str(value) if isinstance(value, Decimal) else value
