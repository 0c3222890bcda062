"""Archived rows whose place another row has now: rows that belonged to them must not be restored.

A name or a number can be given again after a purge. The restored secrets of the old user "anna" would then
belong to a stranger who is called "anna" too.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from iam_watcher.archive.row_keys import hashable
from iam_watcher.database.foreign_keys import references_of
from iam_watcher.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping

    from iam_watcher.archive.reader import Row
    from iam_watcher.archive.row_keys import RowKey
    from iam_watcher.database.transactions import Transactions

    Columns = tuple[str, ...]
    Manifest = Mapping[str, Any]

MOST_ROWS = 100_000  # that are remembered


class ReplacedRows:
    """The rows of an archive whose place another row has, and the rows that refer to them.

    Args:
        db: where.
        tables: names of the tables of the archive.
        manifests: of the archive. They say how the rows belong to each other, also without foreign keys.
            Those of an earlier version don't, so the foreign keys of the tables count as well.
    """

    def __init__(self, db: Transactions, tables: Collection[str], manifests: Iterable[Manifest]) -> None:
        found = [(table, to, columns) for table in tables for to, columns in references_of(db, table)]
        for manifest in manifests:
            belongs_to = manifest.get("belongs_to", [])
            found += [(one["table"], one["to"], one["columns"]) for one in belongs_to]
        self._references: dict[str, set[tuple[str, Columns, Columns]]] = {table: set() for table in tables}
        for table, to, columns in found:
            if table in tables and to in tables and to != table:
                self._references[table].add((to, tuple(columns), tuple(columns.values())))
        self._values: dict[tuple[str, Columns], set[tuple[Hashable, ...] | None]] = {
            (to, columns): set() for found in self._references.values() for to, _, columns in found
        }

    def are_referred_to(self, table: str) -> bool:
        """Return whether rows of another table of the archive refer to those of this one."""
        return any(to == table for to, _ in self._values)

    def refers(self, table: str, row: Row) -> bool:
        """Return whether a row belongs to a replaced one."""
        return any(
            (values := _values(row, columns)) is not None and values in self._values[to, referenced]
            for to, columns, referenced in self._references[table]
        )

    def add(self, table: str, keys: Collection[RowKey], rows: Iterable[Row]) -> None:
        """Remember rows that the table has in no version of the archive.

        Args:
            table: of the rows.
            keys: of the rows that are not as the archive has them, or whose unique value another row has.
            rows: those of them that the table has in no version. They are read if they are not too many.

        Raises:
            TableError: they are more than are remembered.
        """
        if len(keys) > MOST_ROWS:
            raise TableError(
                f"{len(keys):,} rows of {table} are not as the archive has them, so the job restores no rows "
                f"that belong to rows of this table. The limit is {MOST_ROWS:,}"
            )
        for row in rows:
            for (to, columns), values in self._values.items():
                if to == table:
                    values.add(_values(row, columns))


def _values(row: Row, columns: Columns) -> tuple[Hashable, ...] | None:
    """Return values as a foreign key compares them; None if one of them is NULL or not in the archive."""
    values = [row.get(name) for name in columns]
    return None if None in values else tuple(map(_folded, values))


def _folded(value: Any) -> Hashable:
    """Return a text without case, accents and trailing spaces, which many collations ignore."""
    if not isinstance(value, str):
        return hashable(value)
    letters = unicodedata.normalize("NFKD", value.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).rstrip(" ")
