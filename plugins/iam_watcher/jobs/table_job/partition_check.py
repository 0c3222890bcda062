"""Checks whether partitions of a table can be dropped, before the first write; in a dry run too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.database.detached_table import detached_name, left_behind
from iam_watcher.database.partitions import EXPECTED, read_partitions
from iam_watcher.errors import TableError
from iam_watcher.jobs.table_job.age_column import DateColumn
from iam_watcher.jobs.table_job.side_effects import TRIGGERS
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.age_column import AgeColumn

logger = get_logger(__name__)

# MariaDB lets a table refer to a partitioned one, if it is created while foreign_key_checks is off.
CHILDREN = (
    "SELECT DISTINCT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.KEY_COLUMN_USAGE"
    " WHERE REFERENCED_TABLE_SCHEMA = DATABASE() AND REFERENCED_TABLE_NAME = %(table)s ORDER BY 1"
)
CLUSTER = "SHOW VARIABLES LIKE 'wsrep_on'"

INSTEAD = "Leave drop_partitions out: then the rows are deleted one by one"


def check_partitions(db: Transactions, table: Table, age: AgeColumn, cut_off: object) -> None:
    """Check that partitions of a table can be dropped, before the first write.

    An account needs the privilege TRIGGER to see triggers.

    Raises:
        TableError: they can't.
    """

    def check() -> None:
        found = read_partitions(db, table.name)
        if "/" in table.name:
            # After the error 1049, the table is gone.
            raise TableError(
                f"the name of the table {table.name} has a slash; MariaDB damages such a table when a "
                f"partition is dropped. {INSTEAD}"
            )
        column = age.column.name
        if found.column.lower() != column.lower():
            raise TableError(
                f"{table.name} is partitioned by {found.column!r}, and age_column is {column!r}; expected "
                f"{EXPECTED}. " + INSTEAD
            )
        if not isinstance(age, DateColumn) and not isinstance(cut_off, int):
            raise TableError(
                f"drop_partitions expects an age column of dates or whole numbers; {column!r} of "
                f"{table.name} has {age.form}. {INSTEAD}"
            )
        if triggers := [name for (name,) in db.read(TRIGGERS, {"table": table.name, "event": "DELETE"})]:
            raise TableError(
                f"{table.name} has the trigger {', '.join(triggers)} for DELETE, which the server does not "
                f"run when a partition is dropped. {INSTEAD}"
            )
        if children := [name for (name,) in db.read(CHILDREN, {"table": table.name})]:
            raise TableError(
                f"{', '.join(children)} refers to {table.name} by a foreign key, which the server does not "
                f"check when a partition is dropped. {INSTEAD}"
            )
        if dict(db.read(CLUSTER)).get("wsrep_on") == "ON":
            raise TableError(
                "the server is a node of a Galera cluster, in which ALTER TABLE ends the transactions of "
                f"others and LOCK TABLES does not work. {INSTEAD}"
            )
        db.commit()

    db.run(check, what=f"partitions of {table.name}")


def warn_of_detached(db: Transactions, table: Table) -> None:
    """Log that an interrupted run has left rows of a partition detached, if it has."""
    partition = db.run(lambda: left_behind(db, table.name), what="a look for a detached partition")
    if partition is not None:
        logger.warning(
            "An interrupted run with drop_partitions has left rows of the partition %s of %s in the table "
            "%s. Run with drop_partitions=True once: that run continues with them",
            partition,
            table.name,
            detached_name(table.name),
        )
