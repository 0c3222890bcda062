"""The newest rows, which a purge keeps: of the table, or of each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.errors import TableError

if TYPE_CHECKING:
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.age_column import AgeColumn

# Whether a row's group has a newer row beside the first so many. The condition on the age comes twice, so
# that the server reads a range of an index on the group and the age.
BEHIND = (
    "(SELECT 1 FROM {table} AS newer WHERE newer.{group} <=> {table}.{group} AND newer.{age} >= {table}.{age}"
    " AND (newer.{age} > {table}.{age} OR {larger}) AND {counts}"
    " LIMIT 1 OFFSET {before}) IS NOT NULL"
)

# The oldest row that is kept. The server finds it once for each statement.
OLDEST_KEPT = (
    "({table}.{age}, {mine}) < (SELECT newest.{age}, {theirs} FROM {table} AS newest"
    " WHERE {counts} ORDER BY newest.{age} DESC, {newest_first} LIMIT 1 OFFSET {before})"
)

INDEXES = (
    "SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE()"
    " AND TABLE_NAME = %(table)s AND COLUMN_NAME = %(column)s AND SEQ_IN_INDEX = 1 AND SUB_PART IS NULL"
    " AND INDEX_TYPE = 'BTREE'"
)


@dataclass(frozen=True)
class Newest:
    """The newest rows by their age and, of the same age, by their key.

    Only rows that have an age and meet `where` are counted as newest rows. So a row without an age never
    takes the place of another one.

    Attributes:
        rows: how many are kept, over 0.
        per: name of the column that groups the rows; None for one group.
    """

    rows: int
    per: str | None

    def behind(self, table: Table, age: AgeColumn, where: str) -> str:
        """Return the condition for rows that are not among the newest. It reads the table.

        Raises:
            TableError: the ages are in no order, or there is no such column.
        """
        if not age.has_index:
            raise TableError(
                f"keep_last needs ages whose order is that of their times, but column {age.column.name!r} of "
                f"{table.name} has {age.form}. Name another column, or add a generated one"
            )
        counts = " AND ".join(filter(None, (age.present, age.valid, where)))
        return (OLDEST_KEPT if self.per is None else BEHIND).format(
            table=table.quoted,
            larger=_larger("newer", table),
            mine=", ".join(_key(table.quoted, table)),
            theirs=", ".join(_key("newest", table)),
            newest_first=", ".join(f"{column} DESC" for column in _key("newest", table)),
            age=age.column.quoted,
            group="" if self.per is None else table.column(self.per).quoted,
            counts=counts,
            before=self.rows - 1,
        )

    def check(self, db: Transactions, table: Table, age: AgeColumn) -> None:
        """Check that an index makes the search for newer rows quick.

        Raises:
            TableError: there is none; each search would read the whole table.
        """
        first = self.per or age.column.name
        if first == table.key.names[0]:
            return

        def ask() -> bool:
            found = db.read(INDEXES, {"table": table.name, "column": first})
            db.commit()
            return bool(found)

        if not db.run(ask, what=f"indexes of {table.name}", before_retry=lambda: None):
            columns = ", ".join(filter(None, (self.per, age.column.name)))
            raise TableError(
                f"keep_last needs an index of {table.name} that begins with {first!r}; otherwise each search "
                f"for newer rows reads the whole table. Create an index on ({columns})"
            )


def _key(row: str, table: Table) -> list[str]:
    """Return the columns of the key of a row; of an ENUM its number, by which the server sorts."""
    return [
        f"{row}.{part.column.quoted}{' + 0' if part.column.data_type == 'enum' else ''}"
        for part in table.key.columns
    ]


def _larger(row: str, table: Table) -> str:
    """Return the condition that the key of a row is larger than that of the table's row."""
    pairs = list(zip(_key(row, table), _key(table.quoted, table), strict=True))
    alternatives = [
        " AND ".join([*(f"{theirs} = {mine}" for theirs, mine in pairs[:at]), "{} > {}".format(*pairs[at])])
        for at in range(len(pairs))
    ]
    return " OR ".join(f"({alternative})" for alternative in alternatives)
