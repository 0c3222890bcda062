"""Orphans: rows whose parent is gone, where no foreign key keeps that from happening."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.database.catalogue import read_table
from iam_watcher.database.column import alias
from iam_watcher.errors import TableError
from iam_watcher.jobs.table_job.reference import why_not_equal

if TYPE_CHECKING:
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions

# A row that refers to nothing is no orphan.
IS_ORPHAN = (
    "{table}.{key} IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM {parents} AS {parent} WHERE {parent}.{parent_key} = {table}.{key})"
)
ANY = "SELECT 1 FROM {parents} LIMIT 1"


@dataclass(frozen=True)
class Orphans:
    """Rows whose parent is gone.

    Attributes:
        parents: name of the table of the parents.
        key: name of the column that has the parent's primary key.
    """

    parents: str
    key: str

    def read_parents(self, db: Transactions) -> Table:
        """Return the table of the parents.

        Raises:
            TableError: there is none, or it is empty: then every row would be an orphan.
        """
        parents = read_table(db, self.parents)

        def ask() -> bool:
            found = bool(db.read(ANY.format(parents=parents.quoted)))
            db.commit()
            return found

        if not db.run(ask, what=f"SELECT on {self.parents}"):
            raise TableError(
                f"orphans_of is {self.parents!r}, but that table has no row, so every row would be an "
                "orphan. Check the table and the connection"
            )
        return parents

    def condition(self, table: Table, parents: Table) -> str:
        """Return the condition for orphans.

        Raises:
            TableError: there is no such column, or the server would convert types to compare the keys.
        """
        column, key = parent_key("orphans_of", table, self.key, parents)
        return IS_ORPHAN.format(
            table=table.quoted,
            key=column.quoted,
            parents=parents.quoted,
            parent=alias("parent", table.name),
            parent_key=key.quoted,
        )


def parent_key(argument: str, table: Table, name: str, parents: Table) -> tuple[Column, Column]:
    """Return the column of a table that has the parent's primary key, and that primary key.

    Args:
        argument: that names the parents.
        table: of the children.
        name: of the column.
        parents: their table.

    Raises:
        TableError: there is no such column, or the server would convert types to compare the keys.
    """
    column, (part, *more) = table.column(name), parents.key.columns
    if more or parents.key.index != "PRIMARY":
        raise TableError(
            f"{argument} is {parents.name!r}, which has the key {parents.key.signature}; expected "
            "a primary key of one column"
        )
    key = part.column
    if parents.name == table.name:
        raise TableError(f"{argument} is {parents.name!r}, the table itself; expected another table")
    if (why := why_not_equal(column, key, parents.name)) is not None:
        raise TableError(f"{argument} names the parents {parents.name}. In {table.name}, {why}")
    return column, key
