"""The newest rows, which a purge keeps: of the table, or of each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.database.column import alias
from iam_watcher.errors import TableError

if TYPE_CHECKING:
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.age_column import AgeColumn

# Before the oldest row that is kept, of the table or of the row's group. The server reads that row at the end
# of an index: of a group for each row, of the table once for each statement. If there are fewer rows than are
# kept, the subquery is NULL, and no row matches.
BEHIND = (
    "({table}.{age}, {mine}) < (SELECT {newest}.{age}, {theirs} FROM {table} AS {newest}"
    " WHERE {within}{counts} ORDER BY {by_group}{newest}.{age} DESC, {newest_first} LIMIT 1 OFFSET {before})"
)
SAME_GROUP = "{newest}.{group} = {table}.{group} AND "
NO_GROUP = "{newest}.{group} IS NULL AND "

# The same in all of these rows. Without it, MySQL sorts them all instead of reading the end of the index.
BY_GROUP = "{newest}.{group} DESC, "

# The columns of each index. A part that is not a whole column keeps its place, without a name: the columns
# behind it are in order only among rows with the same part.
INDEXES = (
    "SELECT GROUP_CONCAT(IF(SUB_PART IS NULL, COALESCE(COLUMN_NAME, ''), '') ORDER BY SEQ_IN_INDEX"
    " SEPARATOR '`') FROM information_schema.STATISTICS"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND INDEX_TYPE = 'BTREE' GROUP BY INDEX_NAME"
)

# The unique index on this column alone, if it is unique as a whole.
UNIQUE = (
    "SELECT MIN(INDEX_NAME) FROM information_schema.STATISTICS"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND NON_UNIQUE = 0 GROUP BY INDEX_NAME"
    " HAVING COUNT(*) = 1 AND MAX(SUB_PART) IS NULL AND MIN(COLUMN_NAME) = %(column)s"
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
        if not age.is_ordered:
            collation = f" of collation {age.column.collation}" if age.column.collation else ""
            raise TableError(
                f"keep_last needs ages whose order is that of their times, but column {age.column.name!r} of "
                f"{table.name} has {age.form}{collation}. Name another column, or add a generated one"
            )
        newest = alias("newest", table.name)
        counts = " AND ".join(filter(None, (age.present, age.valid, where)))

        def before(within: str, by_group: str) -> str:
            return BEHIND.format(
                table=table.quoted,
                mine=", ".join(_key(table.quoted, table)),
                theirs=", ".join(_key(newest, table)),
                newest=newest,
                newest_first=", ".join(f"{column} DESC" for column in _key(newest, table)),
                age=age.column.quoted,
                within=within,
                by_group=by_group,
                counts=counts,
                before=self.rows - 1,
            )

        if self.per is None:
            return before("", "")
        column = table.column(self.per)
        by_group = BY_GROUP.format(newest=newest, group=column.quoted)
        same = before(SAME_GROUP.format(newest=newest, group=column.quoted, table=table.quoted), by_group)
        if not column.nullable:
            return same
        none = before(NO_GROUP.format(newest=newest, group=column.quoted), by_group)
        return f"({same} OR {table.quoted}.{column.quoted} IS NULL AND {none})"

    def check(self, db: Transactions, table: Table, age: AgeColumn) -> None:
        """Check that `per` can group rows, and that an index makes the search for the newest rows quick.

        Raises:
            TableError: each row would be a group of its own. Or there is no such index; each search would
                read all rows of a group, or the whole table.
        """
        if self.per is not None and not table.column(self.per).nullable:  # Rows with a NULL are a group.
            self._check_groups(db, table, self.per)
        wanted = [name for name in (self.per, age.column.name) if name is not None]
        # InnoDB keeps the primary key behind the columns of each index.
        key = table.key.names if table.key.index == "PRIMARY" else ()
        if any(part.descending for part in table.key.columns):
            # Without the key's columns in the index, the server would sort all rows of a group.
            wanted, key = [*wanted, *table.key.names], ()

        def ask() -> bool:
            indexes = [columns.split("`") for (columns,) in db.read(INDEXES, {"table": table.name})]
            db.commit()
            return any([*columns, *key][: len(wanted)] == wanted for columns in indexes)

        if not db.run(ask, what=f"indexes of {table.name}"):
            columns = ", ".join(wanted)
            raise TableError(
                f"keep_last needs an index of {table.name} that begins with ({columns}); otherwise each "
                "search for the newest rows reads all of them. Create one"
            )

    def _check_groups(self, db: Transactions, table: Table, per: str) -> None:
        def ask() -> list[str]:
            found = [index for (index,) in db.read(UNIQUE, {"table": table.name, "column": per})]
            db.commit()
            return found

        if unique := db.run(ask, what=f"unique indexes of {table.name}"):
            raise TableError(
                f"per is {per!r}, but the index {unique[0]} of {table.name} makes {per} unique, so each row "
                f"is a group of its own, and keep_last={self.rows} would keep all of them. Name a column "
                "that the rows of a group have in common"
            )


def _key(row: str, table: Table) -> list[str]:
    """Return the columns of the key of a row; of an ENUM its number, by which the server sorts."""
    return [
        f"{row}.{part.column.quoted}{' + 0' if part.column.data_type == 'enum' else ''}"
        for part in table.key.columns
    ]
