"""A column of a table: its type as the server's catalogue has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

INTEGER_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
INTEGERS = frozenset(INTEGER_BITS)
SHORT_TEXTS = frozenset({"char", "varchar"})
TEXTS = SHORT_TEXTS | {"tinytext", "text", "mediumtext", "longtext"}
TEXTS_AND_MEMBERS = TEXTS | {"enum", "set"}

# The types whose values can be long. MySQL makes the text of a JSON value each time that it is read.
LENGTHS = {
    **dict.fromkeys(("text", "mediumtext", "longtext", "blob", "mediumblob", "longblob"), "LENGTH({column})"),
    **dict.fromkeys(("varchar", "varbinary"), "LENGTH({column})"),
    "json": "JSON_STORAGE_SIZE({column})",
}
LONG = 1_000  # characters, or bytes, from which on a size of a type is one for long values

# The text of a value, as bytes of UTF-8. Also of a date: zero dates come as they are, whatever the driver
# would make of them.
AS_UTF8 = "CAST(CONVERT({column} USING utf8mb4) AS BINARY)"

# Earlier times are no times of rows: zero dates, and what programs write for "never", such as 1970-01-01.
FIRST_TIME = datetime(1980, 1, 1, tzinfo=UTC)

_SIZES = re.compile(r"\w+\(([\d,]+)\)")
_MEMBER = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_ESCAPED = re.compile(r"''|\\(.)", re.DOTALL)
_ESCAPES = {None: "'", "n": "\n", "r": "\r", "0": "\0"}


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: of the column.
        data_type: in lower case.
        nullable: whether it can be NULL.
        generated: whether the server computes it from others.
        has_default: whether the server has a value for it in a new row that names none.
        charset: its character set, if it has one.
        column_type: its whole type, such as "int(10) unsigned" or "enum('a','b')".
        collation: its collation, if it has one.
        auto_increment: whether the server numbers new rows in it.
        default_id: whether its default is a function that makes a new value for each row, such as UUID().
        on_update: whether the server sets it to the current time in each update of its row.
    """

    name: str
    data_type: str
    nullable: bool
    generated: bool = False
    has_default: bool = False
    charset: str | None = None
    column_type: str = ""
    collation: str | None = None
    auto_increment: bool = False
    default_id: bool = False
    on_update: bool = False

    @property
    def own_id(self) -> bool:
        """Whether the server makes a new value for each row."""
        return self.auto_increment or self.default_id

    @property
    def integers(self) -> tuple[int, int]:
        """The least and the largest value of an integer column."""
        values = 1 << INTEGER_BITS[self.data_type]
        return (0, values - 1) if self.unsigned else (-values // 2, values // 2 - 1)

    @property
    def quoted(self) -> str:
        """Its name for an SQL text."""
        return quoted(self.name)

    @property
    def unsigned(self) -> bool:
        """Whether it holds no negative numbers."""
        return "unsigned" in self.column_type

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of its type, such as (9, 2) of a DECIMAL(9,2)."""
        found = _SIZES.match(self.column_type)
        return tuple(map(int, found[1].split(","))) if found else ()

    @property
    def length(self) -> str | None:
        """SQL for the bytes of a value, if the values can be long."""
        if self.data_type not in LENGTHS or any(size < LONG for size in self.sizes):
            return None
        return LENGTHS[self.data_type].format(column=self.quoted)

    @property
    def members(self) -> list[str]:
        """The values that an ENUM or SET has."""
        return [
            _ESCAPED.sub(lambda escaped: _ESCAPES.get(escaped[1], escaped[1]), member)
            for member in _MEMBER.findall(self.column_type)
        ]


def alias(word: str, table: str) -> str:
    """Return a name, for an SQL text, of other rows in a statement on a table: never the table's own."""
    return quoted(f"{word} of {table}")


def quoted(name: str) -> str:
    """Return a name for an SQL text."""
    # A percent sign would be read as a placeholder by the driver.
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"
