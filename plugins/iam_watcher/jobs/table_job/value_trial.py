"""New values of columns as SQL, to be tried on the server before the first write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.database.server_errors import code_of
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.plan import Plan

logger = get_logger(__name__)

# Why the server can't answer such a query, whatever is in the tables.
REFUSED = frozenset({
    1142,  # the account has no right to read the table
    1143,  # nor the column
    1054,  # unknown column
    1064,  # syntax
    1267,  # illegal mix of collations
    1292,  # a text that is no time
    1305,  # no such function
    1690,  # a number out of range
    3141,  # a text that is no JSON
    4038,  # the same on MariaDB
})  # fmt: skip


@dataclass(frozen=True)
class NewValues:
    """What columns are set to.

    Attributes:
        argument: of the operator that has the values.
        bound: column → name of the placeholder of its new value, whose value is in the plan.
        null: columns that are set to NULL.
        hashed: columns that are set to a hash of a value.
    """

    argument: str
    bound: Mapping[str, str]
    null: Collection[str] = field(default=())
    hashed: Collection[str] = field(default=())


class ValueTrial:
    """Tries new values in one transaction.

    Args:
        db: where.
        plan: the table, the rows to be changed, and the values of the placeholders.
        new: the new values.

    Attributes:
        db: as given.
        table: of the plan.
    """

    def __init__(self, db: Transactions, plan: Plan, new: NewValues) -> None:
        self.db = db
        self.plan = plan
        self.new = new
        self.table = plan.table

    def tried(self, query: str, what: str) -> Any:
        """Return the rows of a query, or None, with a warning, if the server does not take it."""
        try:
            return self.read(query)
        except self.db.error as error:
            if code_of(error) not in REFUSED:
                raise
            logger.warning(
                "Only the first write will tell whether %s of %s takes the new values: %s",
                what,
                self.table.name,
                error,
            )
            return None

    def new_value(self, name: str) -> str:
        """Return SQL for the value that a column has after the write."""
        column = self.table.columns[name]
        if name in self.new.null:
            return "NULL"
        return self.typed(column) if name in self.new.bound else column.quoted

    def typed(self, column: Column) -> str:
        """Return the new value as SQL that the server compares as it compares the column."""
        value = f"%({self.new.bound[column.name]})s"
        if column.charset is not None:
            return f"CONVERT({value} USING {column.charset}) COLLATE {column.collation}"
        if column.data_type in {"datetime", "timestamp"}:
            return f"CAST({value} AS DATETIME(6))"
        return f"CAST({value} AS DATE)" if column.data_type == "date" else value

    def value(self, name: str) -> object:
        """Return the new value of a column in `new.bound`."""
        return self.plan.change.values[self.new.bound[name]]

    def shown(self, name: str) -> str:
        """Return the new value of a column for a message."""
        if name in self.new.hashed:
            return f"{name}=Hashed()"
        return f"{name}={self.value(name)!r}" if name in self.new.bound else f"{name}=None"

    def read(self, query: str, **values: object) -> Any:
        """Return the rows of a query, whose placeholders are those of the plan and these."""
        return self.db.read(query, {**self.plan.change.values, **values})
