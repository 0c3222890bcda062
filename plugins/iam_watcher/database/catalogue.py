"""Tables and their keys as the server's catalogue has them. Only names from there get into SQL text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from iam_watcher.database.column import Column, quoted
from iam_watcher.database.key import Key
from iam_watcher.database.key_column import KeyColumn, why_not
from iam_watcher.database.server_errors import INDEX_UNUSABLE, code_of
from iam_watcher.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from iam_watcher.database.transactions import Transactions

TABLE = (
    "SELECT TABLE_ROWS, TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_SCHEMA FROM information_schema.TABLES"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s"
)

COLUMNS = (
    "SELECT COLUMN_NAME, DATA_TYPE, IS_NULLABLE = 'YES', COALESCE(GENERATION_EXPRESSION, '') <> '',"
    " COLUMN_DEFAULT IS NOT NULL OR EXTRA LIKE '%%auto_increment%%', CHARACTER_SET_NAME,"
    " COLUMN_TYPE, COLLATION_NAME, EXTRA LIKE '%%auto_increment%%', COALESCE(COLUMN_DEFAULT, '') REGEXP"
    " '(^|[(, ])(uuid(_short|_v[47])?|sys_guid|nextval)[(]', EXTRA LIKE '%%on update%%'"
    " FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s"
    " ORDER BY ORDINAL_POSITION"
)

DEFINITION = "SHOW CREATE TABLE {table}"
DEFINED_COLUMN = re.compile(r"^  `((?:[^`]|``)+)` ", re.MULTILINE)

# A part of an index that is an expression, which MySQL allows, has no column.
KEYS = (
    "SELECT INDEX_NAME, COLUMN_NAME, COLLATION = 'D', SUB_PART IS NOT NULL, INDEX_TYPE"
    " FROM information_schema.STATISTICS"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND NON_UNIQUE = 0"
    " ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX"
)

# Indexes on one whole column, which hold the rows in the order of that column and then of the key. In a
# descending one the keys of one value are in descending order, so it can't be read in this order.
INDEXES = (
    "SELECT MIN(COLUMN_NAME), INDEX_NAME FROM information_schema.STATISTICS"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND INDEX_NAME <> 'PRIMARY'"
    " GROUP BY INDEX_NAME HAVING COUNT(*) = 1 AND MAX(SUB_PART) IS NULL AND MIN(INDEX_TYPE) = 'BTREE'"
    " AND MIN(COLLATION) = 'A'"
)

# Fails if the index is set to be ignored (MariaDB) or invisible (MySQL).
USE_INDEX = "SELECT 1 FROM {table} FORCE INDEX ({index}) LIMIT 0"

ADD_A_KEY = "Add a primary key, such as a column `id` BIGINT UNSIGNED AUTO_INCREMENT"

INSTEAD = {
    "VIEW": "name the table behind the view",
    "SYSTEM VERSIONED": "the job can't delete from its history; use DELETE HISTORY for that",
}


@dataclass(frozen=True)
class Table:
    """A table, and the key that a walk goes along.

    Attributes:
        name: as the catalogue has it.
        key: its primary key, or a unique key of NOT NULL columns.
        columns: by name.
        indexes: name of a column → quoted name of an index on it alone.
        rows: how many there are, as the catalogue estimates.
        database: that it is in.
    """

    name: str
    key: Key
    columns: Mapping[str, Column]
    indexes: Mapping[str, str]
    rows: int
    database: str

    @property
    def quoted(self) -> str:
        """Its name for an SQL text."""
        return quoted(self.name)

    @property
    def size(self) -> str:
        """SQL for the bytes of a row's long values."""
        lengths = [column.length for column in self.columns.values()]
        return " + ".join(f"COALESCE({length}, 0)" for length in lengths if length) or "0"

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

    def any_row(self, *, beyond: Collection[str]) -> str:
        """Return a condition that each row meets. It reads a column other than these, if there is one.

        If a statement reads only columns of an index and of the primary key, the server may scan the whole
        index in spite of FORCE INDEX, and lock all rows.
        """
        others = [column for name, column in self.columns.items() if name not in beyond]
        if not others:
            return "TRUE"
        column = min(others, key=lambda one: one.length is not None).quoted
        return f"({column} IS NULL OR {column} IS NOT NULL)"

    def check_integer_key(self) -> None:
        """Check that the primary key is one integer column.

        Raises:
            TableError: it is not.
        """
        if not self.key.is_integer or self.key.index != "PRIMARY":
            raise TableError(
                f"{self.name} has the key {self.key.signature}; expected a primary key of one integer column"
            )


def read_table(db: Transactions, name: str) -> Table:
    """Return a table of the connection's database.

    Raises:
        TableError: it is not there, is no InnoDB table, or has no key that a walk can go along.
    """
    rows, database, columns = _read(db, name)
    key = _key(db, name, columns)
    indexes = {column: quoted(index) for column, index in db.read(INDEXES, {"table": name})}
    db.commit()
    return Table(name, key, columns, indexes, rows, database)


def hidden_columns(db: Transactions, table: Table) -> list[str]:
    """Return the columns that the catalogue hides, because the account has no right on them."""
    ((_, text, *_),) = db.read(DEFINITION.format(table=table.quoted))
    names = [name.replace("``", "`") for name in DEFINED_COLUMN.findall(text)]
    return [name for name in names if name not in table.columns]


def _read(db: Transactions, name: str) -> tuple[int, str, dict[str, Column]]:
    """Return how many rows a table has, as the catalogue estimates, its database and its columns."""
    found = [row for row in db.read(TABLE, {"table": name}) if row[1] == name]
    if not found:
        ((database,),) = db.read("SELECT DATABASE()")
        where = f"database {database!r}" if database else "a connection that names no database (schema)"
        raise TableError(f"there is no table {name!r} in {where}, or its account may not see it")
    rows, _, table_type, engine, database = found[0]
    if (table_type, engine) != ("BASE TABLE", "InnoDB"):
        instead = INSTEAD.get(table_type, f"ALTER TABLE {quoted(name)} ENGINE=InnoDB makes it one")
        raise TableError(f"{name} is a {table_type} of engine {engine}; expected an InnoDB table: {instead}")
    columns = {
        column: Column(
            column,
            kind.lower(),
            bool(null),
            bool(generated),
            bool(default),
            charset,
            whole_type,
            collation,
            *map(bool, own_id),
        )
        for column, kind, null, generated, default, charset, whole_type, collation, *own_id in db.read(
            COLUMNS, {"table": name}
        )
    }
    return int(rows or 0), database, columns


def _key(db: Transactions, table: str, columns: Mapping[str, Column]) -> Key:
    """Return the primary key, or the first unique key that a walk can go along."""
    refused = []
    for index, parts in groupby(db.read(KEYS, {"table": table}), key=itemgetter(0)):
        why, found = None, []
        for _, name, descending, prefix, index_type in parts:
            if index_type != "BTREE":
                why = why or f"it is a {index_type} index"
            elif name not in columns:
                why = why or "it has an expression, or a column that the account may not see"
            else:
                why = why or why_not(columns[name], prefix=bool(prefix))
                found.append(KeyColumn(columns[name], bool(descending)))
        if why is None:
            key = Key(tuple(found), "PRIMARY" if index == "PRIMARY" else quoted(index))
            if _usable(db, table, key):
                return key
            why = "it is set to be ignored (MySQL: invisible)"
        refused.append(f"{index}: {why}")
    has = f"only such that a walk can't use ({'; '.join(refused)})" if refused else "none"
    raise TableError(
        f"{table} needs a primary key, or a unique key of NOT NULL columns, for a walk, and has {has}. "
        f"{ADD_A_KEY}"
    )


def _usable(db: Transactions, table: str, key: Key) -> bool:
    """Return whether the server may use the index; a table that is locked meanwhile is waited for."""
    if key.index == "PRIMARY":
        return True  # it can't be ignored or invisible

    def ask() -> bool:
        usable = True
        try:
            db.read(USE_INDEX.format(table=quoted(table), index=key.index))
        except db.error as error:
            if code_of(error) != INDEX_UNUSABLE:
                raise
            usable = False
        db.commit()
        return usable

    return db.run(ask, what=f"a look at the index {key.index} of {table}")
