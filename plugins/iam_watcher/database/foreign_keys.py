"""The foreign keys and the indexes of a table as the server's catalogue has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from iam_watcher.database.catalogue import DEFINITION
from iam_watcher.database.column import quoted
from iam_watcher.database.server_errors import DENIED, code_of
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

DELETES_WITH_IT = "CASCADE"
REFUSES = frozenset({"RESTRICT", "NO ACTION"})

REFERENCES = (
    "SELECT k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.TABLE_SCHEMA = DATABASE(), r.DELETE_RULE,"
    " r.UPDATE_RULE, k.COLUMN_NAME, k.REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE AS k"
    " LEFT JOIN information_schema.REFERENTIAL_CONSTRAINTS AS r ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA"
    " AND r.TABLE_NAME = k.TABLE_NAME AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME"
    " WHERE k.REFERENCED_TABLE_SCHEMA = COALESCE(%(database)s, DATABASE())"
    " AND k.REFERENCED_TABLE_NAME = %(table)s"
    " ORDER BY k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION"
)

# MariaDB shows the rules in the catalogue only to accounts with rights on the database or on columns. The
# table's definition has them for an account with rights on the table, too.
RULES = re.compile(r"\)(?: ON DELETE (?P<delete>[A-Z ]+?))?(?: ON UPDATE (?P<update>[A-Z ]+?))?,?$")
NO_RULE = "RESTRICT"  # what the text leaves out

REFERRED = (
    "SELECT CONSTRAINT_NAME, IF(REFERENCED_TABLE_SCHEMA = DATABASE(), REFERENCED_TABLE_NAME,"
    " CONCAT(REFERENCED_TABLE_SCHEMA, '.', REFERENCED_TABLE_NAME)), COLUMN_NAME, REFERENCED_COLUMN_NAME"
    " FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s"
    " AND REFERENCED_TABLE_NAME IS NOT NULL ORDER BY CONSTRAINT_NAME, ORDINAL_POSITION"
)

# The columns of each index on whole columns, the primary key first. A part that is an expression, which MySQL
# allows, has no column.
INDEXES = (
    "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND INDEX_TYPE = 'BTREE'"
    " ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX"
)
PREFIXES = (
    "SELECT DISTINCT INDEX_NAME FROM information_schema.STATISTICS"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND SUB_PART IS NOT NULL"
)


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key that refers to a table.

    Attributes:
        table: name of the table that has it.
        schema: its database.
        is_here: whether that is the database of the connection.
        columns: names of its columns.
        referenced: names of the columns that they refer to.
        on_delete: what the server does with its rows when the row that they refer to is deleted.
        on_update: the same, when one of the columns that they refer to is changed.
    """

    table: str
    schema: str
    is_here: bool
    columns: tuple[str, ...]
    referenced: tuple[str, ...]
    on_delete: str
    on_update: str

    @property
    def shown(self) -> str:
        """The table and the columns, for messages."""
        table = self.table if self.is_here else f"{self.schema}.{self.table}"
        return f"{table} ({', '.join(self.columns)})"

    @property
    def quoted_table(self) -> str:
        """The name of its table for an SQL text."""
        return quoted(self.table) if self.is_here else f"{quoted(self.schema)}.{quoted(self.table)}"


def references_to(db: Transactions, table: str, database: str | None = None) -> list[ForeignKey]:
    """Return the foreign keys that refer to a table.

    An account sees the foreign keys of tables on which it has a privilege. On MariaDB, a privilege on single
    columns is not enough.

    Args:
        db: where.
        table: name of the table.
        database: of the table; None for that of the connection.
    """

    def ask() -> list[ForeignKey]:
        rows = db.read(REFERENCES, {"table": table, "database": database})
        db.commit()
        found = []
        for (schema, name, constraint, here, *shown), parts in groupby(rows, key=lambda row: row[:6]):
            columns, referenced = zip(*(part[6:] for part in parts), strict=True)
            rules = shown if shown[0] else _defined_rules(db, schema, name, constraint)
            found.append(ForeignKey(name, schema, bool(here), columns, referenced, *rules))
        return found

    return db.run(ask, what=f"foreign keys to {table}")


def _defined_rules(db: Transactions, schema: str, table: str, constraint: str) -> list[str]:
    """Return ON DELETE and ON UPDATE of a foreign key, from the definition of its table."""
    try:
        ((_, text),) = db.read(DEFINITION.format(table=f"{quoted(schema)}.{quoted(table)}"))
    except db.error as error:
        if code_of(error) not in DENIED:
            raise
        logger.warning(
            "The account can't see what the server does with rows of %s.%s when the rows that they refer to "
            "are deleted or changed. Grant it SELECT on this table",
            schema,
            table,
        )
        return [NO_RULE, NO_RULE]
    begin = tuple(f"CONSTRAINT {name} " for name in (f"`{constraint.replace('`', '``')}`", constraint))
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith(begin)]
    rules = RULES.search(line)
    return [(rules and rules[event]) or NO_RULE for event in ("delete", "update")]


def references_of(db: Transactions, table: str) -> list[tuple[str, dict[str, str]]]:
    """Return the foreign keys of a table: the table that each refers to, and column → referenced column.

    A table of another database is named with it.
    """

    def ask() -> list[tuple[str, dict[str, str]]]:
        rows = db.read(REFERRED, {"table": table})
        db.commit()
        return [
            (to, {column: referenced for *_, column, referenced in parts})
            for (_, to), parts in groupby(rows, key=lambda row: row[:2])
        ]

    return db.run(ask, what=f"foreign keys of {table}")


def index_columns(db: Transactions, table: str, *, whole: bool = True) -> dict[str, list[str]]:
    """Return name of an index → its columns; the primary key comes first.

    Args:
        db: where.
        table: name of the table.
        whole: leave out the indexes that have only the first characters of a column.
    """

    def ask() -> dict[str, list[str]]:
        rows = db.read(INDEXES, {"table": table})
        prefixes = {name for (name,) in db.read(PREFIXES, {"table": table})} if whole else set()
        db.commit()
        indexes = {name: [column for _, column in parts] for name, parts in groupby(rows, key=lambda r: r[0])}
        return {name: columns for name, columns in indexes.items() if name not in prefixes}

    return db.run(ask, what=f"indexes of {table}")
