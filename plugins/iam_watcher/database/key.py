"""The key that a walk goes along, and its values as SQL text: only the server ever compares them.

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
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from iam_watcher.database.column import INTEGERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from iam_watcher.database.column import Column

KeyValue = Any
"""An int for one integer column, else what `KeyColumn.selected` returns; a tuple for several columns."""

_TEXTS = frozenset({"char", "varchar"})
_NUMBERED = frozenset({"bit", "year", "enum"})  # an ENUM is sorted by the numbers of its members
_SHOWN = frozenset({"date", "datetime", "timestamp", "time", "uuid", "inet4", "inet6"})
MOST_ALTERNATIVES = 500

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
    _Kind(_TEXTS, "CAST({column} AS BINARY)", _text, bytes.hex, bytes.fromhex),
    _Kind(
        frozenset({"binary", "varbinary"}),
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


@dataclass(frozen=True)
class Key:
    """A primary key, or a unique key of NOT NULL columns, that a walk goes along.

    Attributes:
        columns: in the order of the index.
        index: quoted name of the index.
    """

    columns: tuple[KeyColumn, ...]
    index: str = "PRIMARY"

    @cached_property
    def is_integer(self) -> bool:
        """Whether it is one integer column, ascending: then values have a distance."""
        (first, *more) = self.columns
        return not more and first.column.data_type in INTEGERS and not first.descending

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(part.column.name for part in self.columns)

    @property
    def named(self) -> str | list[str]:
        """The name of its column, or the names of several, as an archive's manifest has them."""
        return self.names[0] if len(self.names) == 1 else list(self.names)

    @cached_property
    def signature(self) -> str:
        """What the order of the values depends on: a saved position of another signature means nothing."""
        return ", ".join(
            f"{part.direction} {part.column.column_type} {part.column.collation or ''}".rstrip()
            for part in self.columns
        )

    @cached_property
    def quoted(self) -> str:
        """The columns, separated by commas."""
        return ", ".join(part.column.quoted for part in self.columns)

    @cached_property
    def selected(self) -> str:
        """The SQL that reads a value; `take` takes it from the row."""
        return ", ".join(part.selected for part in self.columns)

    @cached_property
    def ordered(self) -> str:
        """The SQL that sorts in the order of the index."""
        return ", ".join(part.direction for part in self.columns)

    @cached_property
    def reversed(self) -> str:
        """The SQL that sorts in the opposite order."""
        return ", ".join(part.reversed for part in self.columns)

    @cached_property
    def take(self) -> Callable[[Sequence[Any]], KeyValue]:
        """A function that returns the value of a row whose first columns are `selected`."""
        return itemgetter(0) if len(self.columns) == 1 else itemgetter(slice(len(self.columns)))

    def behind(self, value: KeyValue) -> str:
        """Return the condition for rows behind a value, in the order of the index."""
        return self._compared(">", ">", value)

    def from_on(self, value: KeyValue) -> str:
        """Return the condition for rows from a value on."""
        return self._compared(">", ">=", value)

    def up_to(self, value: KeyValue) -> str:
        """Return the condition for rows up to a value."""
        return self._compared("<", "<=", value)

    def among(self, values: Iterable[KeyValue]) -> str:
        """Return the condition for rows of some values."""
        literals = [part.literal for part in self.columns]
        if len(literals) == 1:
            return self.among_literals([literals[0](value)] for value in values)
        return self.among_literals(
            [literal(one) for literal, one in zip(literals, value, strict=True)] for value in values
        )

    def among_literals(self, rows: Iterable[Sequence[str]]) -> str:
        """Return the condition for rows of some values, each given as the literals of its columns."""
        if len(self.columns) == 1:
            return f"{self.quoted} IN ({','.join([row[0] for row in rows])})"
        if self._is_listed_as_rows:
            return f"({self.quoted}) IN (({'),('.join([','.join(row) for row in rows])}))"
        return _nested([part.column.quoted for part in self.columns], rows)

    @property
    def most_listed(self) -> int | None:
        """How many values a list of `among` should have at most; None for as many as one likes."""
        return None if len(self.columns) == 1 or self._is_listed_as_rows else MOST_ALTERNATIVES

    @cached_property
    def _is_listed_as_rows(self) -> bool:
        """Whether every server turns a list of rows into ranges.

        From rows of other types MariaDB makes none, and MySQL compares an ENUM in them as a text. From
        alternatives that differ in the first column each makes ranges, in quadratic time.
        """
        return all(part.column.data_type in INTEGERS | {"date"} for part in self.columns)

    def encode(self, value: KeyValue) -> str | list[str]:
        """Return a value as JSON has it: a text, or a list of texts for several columns."""
        texts = [part.encode(one) for part, one in zip(self.columns, self._parts(value), strict=True)]
        return texts[0] if len(texts) == 1 else texts

    def decode(self, encoded: str | list[str]) -> KeyValue:
        """Return the value that was encoded.

        Raises:
            ValueError: it is no value of this key.
        """
        texts = [encoded] if isinstance(encoded, str) else encoded
        values = tuple(part.decode(text) for part, text in zip(self.columns, texts, strict=True))
        return values[0] if len(values) == 1 else values

    def shown(self, value: KeyValue) -> Any:
        """Return a value for people and for JSON: number, text or hexadecimal digits; a list of several."""
        shown = [
            _for_people(one, part.column) for part, one in zip(self.columns, self._parts(value), strict=True)
        ]
        return shown[0] if len(shown) == 1 else shown

    def _parts(self, value: KeyValue) -> Sequence[Any]:
        return (value,) if len(self.columns) == 1 else value

    def _compared(self, operator: str, last_operator: str, value: KeyValue) -> str:
        """Return the row order as alternatives.

        The servers turn these into one range of the index for each; from `(a, b) > (1, 2)` they make none,
        and from `a >= 1 AND (a > 1 OR b > 2)` a longer one.
        """
        alternatives, equal = [], ""
        *rest, last = zip(self.columns, self._parts(value), strict=True)
        for part, one in rest:
            alternatives.append(f"{equal}{part.compared(operator, one)}")
            equal += f"{part.compared('=', one)} AND "
        part, one = last
        alternatives.append(f"{equal}{part.compared(last_operator, one)}")
        return alternatives[0] if not rest else f"({' OR '.join(alternatives)})"


def _nested(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the condition for rows of literals, in which no two alternatives begin with the same value."""
    name, *more = names
    if not more:
        return f"{name} IN ({','.join([row[0] for row in rows])})"
    groups: dict[str, list[Sequence[str]]] = {}
    for first, *rest in rows:
        groups.setdefault(first, []).append(rest)
    alternatives = [f"{name} = {first} AND {_nested(more, rest)}" for first, rest in groups.items()]
    return f"({' OR '.join(alternatives)})"


def _for_people(value: Any, column: Column) -> Any:
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
