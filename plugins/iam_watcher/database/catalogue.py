"""Tables, columns and indexes as the server's catalogue has them. Only names from there get into SQL text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.database.transactions import Transactions

TABLE = (
    "SELECT TABLE_ROWS, TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s"
)

COLUMNS = (
    "SELECT COLUMN_NAME, DATA_TYPE, IS_NULLABLE = 'YES', COALESCE(GENERATION_EXPRESSION, '') <> '',"
    " COLUMN_DEFAULT IS NOT NULL OR EXTRA LIKE '%%auto_increment%%', CHARACTER_SET_NAME,"
    " COLUMN_TYPE"
    " FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s"
    " ORDER BY ORDINAL_POSITION"
)

KEY = (
    "SELECT COLUMN_NAME FROM information_schema.STATISTICS"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND INDEX_NAME = 'PRIMARY'"
    " ORDER BY SEQ_IN_INDEX"
)

# Indexes on one whole column, which hold the rows in the order of that column and then of the key. In a
# descending one the keys of one value are in descending order, so it can't be read in this order.
INDEXES = (
    "SELECT MIN(COLUMN_NAME), INDEX_NAME FROM information_schema.STATISTICS"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND INDEX_NAME <> 'PRIMARY'"
    " GROUP BY INDEX_NAME HAVING COUNT(*) = 1 AND MAX(SUB_PART) IS NULL AND MIN(INDEX_TYPE) = 'BTREE'"
    " AND MIN(COLLATION) = 'A'"
)

INTEGER_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
INTEGERS = frozenset(INTEGER_BITS)
TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"})

# The types whose values can be long. MySQL makes the text of a JSON value each time that it is read.
LENGTHS = {
    **dict.fromkeys(("text", "mediumtext", "longtext", "blob", "mediumblob", "longblob"), "LENGTH({column})"),
    "json": "JSON_STORAGE_SIZE({column})",
}

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
    """

    name: str
    data_type: str
    nullable: bool
    generated: bool = False
    has_default: bool = False
    charset: str | None = None
    column_type: str = ""

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
    def members(self) -> list[str]:
        """The values that an ENUM or SET has."""
        return [
            _ESCAPED.sub(lambda escaped: _ESCAPES.get(escaped[1], escaped[1]), member)
            for member in _MEMBER.findall(self.column_type)
        ]


@dataclass(frozen=True)
class Table:
    """A table with a single-column integer primary key.

    Attributes:
        name: the name in the catalogue.
        key: the column of its primary key.
        columns: by name.
        indexes: name of a column → quoted name of an index on it alone.
        rows: how many there are, as the catalogue estimates.
    """

    name: str
    key: Column
    columns: Mapping[str, Column]
    indexes: Mapping[str, str]
    rows: int

    @property
    def quoted(self) -> str:
        """Its name for an SQL text."""
        return quoted(self.name)

    @property
    def size(self) -> str:
        """SQL for the bytes of a row's long values."""
        sizes = [
            LENGTHS[c.data_type].format(column=c.quoted)
            for c in self.columns.values()
            if c.data_type in LENGTHS
        ]
        return " + ".join(f"COALESCE({size}, 0)" for size in sizes) or "0"

    def column(self, name: str, data_types: frozenset[str] | None = None) -> Column:
        """Return a column of one of these types, or of any.

        Raises:
            TableError: there is none of that name, or it has another type.
        """
        column = self.columns.get(name)
        if column is None:
            raise TableError(
                f"{self.name} has no column {name!r}; it has {', '.join(self.columns)}. The server hides "
                "columns on which the account has no right"
            )
        if data_types is not None and column.data_type not in data_types:
            raise TableError(
                f"column {name!r} of {self.name} is {column.data_type}; "
                f"expected {' or '.join(sorted(data_types))}"
            )
        return column


def read_columns(db: Transactions, name: str) -> dict[str, Column]:
    """Return the columns of an InnoDB table of the connection's database, by name.

    Raises:
        TableError: it is not there, or is no InnoDB table.
    """
    return _read(db, name)[1]


def read_table(db: Transactions, name: str) -> Table:
    """Return a table of the connection's database.

    Raises:
        TableError: it is not there, is no InnoDB table, or its primary key is not one integer column.
    """
    rows, columns = _read(db, name)
    keys = [row[0] for row in db.read(KEY, {"table": name})]
    indexes = {column: quoted(index) for column, index in db.read(INDEXES, {"table": name})}
    db.commit()
    if len(keys) != 1:
        has = f"has the primary key ({', '.join(keys)})" if keys else "has no primary key"
        raise TableError(f"{name} {has}; expected one integer column, to walk along it")
    key = columns[keys[0]]
    if key.data_type not in INTEGERS:
        raise TableError(f"{name} has the primary key {key.name} {key.data_type}; expected an integer column")
    return Table(name, key, columns, indexes, rows)


def _read(db: Transactions, name: str) -> tuple[int, dict[str, Column]]:
    """Return how many rows a table has, as the catalogue estimates, and its columns."""
    found = [row for row in db.read(TABLE, {"table": name}) if row[1] == name]
    if not found:
        ((database,),) = db.read("SELECT DATABASE()")
        where = f"database {database!r}" if database else "a connection that names no database (schema)"
        raise TableError(f"there is no table {name!r} in {where}, or its account may not see it")
    rows, _, table_type, engine = found[0]
    if (table_type, engine) != ("BASE TABLE", "InnoDB"):
        raise TableError(f"{name} is a {table_type} of engine {engine}; expected an InnoDB table")
    columns = {
        column: Column(
            column, data_type.lower(), bool(nullable), bool(generated), bool(default), charset, column_type
        )
        for column, data_type, nullable, generated, default, charset, column_type in db.read(
            COLUMNS, {"table": name}
        )
    }
    return int(rows), columns


def quoted(name: str) -> str:
    """Return a name for an SQL text."""
    # A percent sign would be read as a placeholder by the driver.
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"
