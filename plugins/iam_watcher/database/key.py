"""The key that a walk goes along: conditions on its values, which only the server ever compares."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from iam_watcher.database.column import INTEGERS
from iam_watcher.database.key_column import KeyColumn, for_people

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

KeyValue = Any
"""An int for one integer column, else what `KeyColumn.selected` returns; a tuple for several columns."""

# Of a statement's list of keys. Keys of texts can be long, and max_allowed_packet may be 1 MB.
MOST_ALTERNATIVES, MOST_LIST_BYTES = 500, 500_000


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

    def selected_from(self, alias: str) -> str:
        """Return the SQL that reads a value of a table with this alias."""
        return ", ".join(part.selected_from(alias) for part in self.columns)

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

    def before(self, value: KeyValue) -> str:
        """Return the condition for rows before a value, in the order of the index."""
        return self._compared("<", "<", value)

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
    def most_listed_of_any_length(self) -> int:
        """How many values fit a list of `among`, however long they are."""
        if self.is_integer:
            return sys.maxsize
        longest = sum(part.longest_literal for part in self.columns)
        return min(max(1, MOST_LIST_BYTES // longest), self.most_listed or sys.maxsize)

    def fit_a_list(self, values: Sequence[KeyValue]) -> int:
        """Return how many of these values, from the first, fit a list of `among`: at least one.

        It has at most `most_listed` values, and no more than MOST_LIST_BYTES of text.
        """
        if self.is_integer or not values:
            return len(values)
        values = values[: self.most_listed]
        if self._list_bytes(values) > MOST_LIST_BYTES:
            total = 0
            for number, value in enumerate(values):
                total += self._list_bytes([value])
                if total > MOST_LIST_BYTES:
                    return max(1, number)
        return len(values)

    def in_lists(self, values: Sequence[KeyValue]) -> list[list[KeyValue]]:
        """Return values in parts that fit a list of `among` each, in the same order."""
        parts, rest = [], list(values)
        while rest:
            fit = self.fit_a_list(rest)
            parts.append(rest[:fit])
            rest = rest[fit:]
        return parts

    def _list_bytes(self, values: Sequence[KeyValue]) -> int:
        """Return a number of bytes that a list of values does not exceed."""
        if len(self.columns) == 1:
            return self.columns[0].list_bytes(values)
        by_column = zip(self.columns, zip(*values, strict=True), strict=True)
        return sum(part.list_bytes(ones) for part, ones in by_column)

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
            for_people(one, part.column) for part, one in zip(self.columns, self._parts(value), strict=True)
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
