"""What a job changes besides its rows, or leaves out: logged before its first write, in a dry run too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

REDACTED = ("secretKey", "password")
"""The columns that a purge leaves out of the archive by default, of whatever table."""

CASCADES = (
    "SELECT DELETE_RULE, CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_SCHEMA = DATABASE()"
    " FROM information_schema.REFERENTIAL_CONSTRAINTS"
    " WHERE UNIQUE_CONSTRAINT_SCHEMA = DATABASE() AND REFERENCED_TABLE_NAME = %(table)s"
    " AND DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT') ORDER BY CONSTRAINT_SCHEMA, TABLE_NAME"
)
TRIGGERS = (
    "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS"
    " WHERE EVENT_OBJECT_SCHEMA = DATABASE() AND EVENT_OBJECT_TABLE = %(table)s"
    " AND EVENT_MANIPULATION = %(event)s ORDER BY TRIGGER_NAME"
)
MOVING = (
    "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()"
    " AND TABLE_NAME = %(table)s AND EXTRA LIKE '%%on update%%' ORDER BY ORDINAL_POSITION"
)


def warn_of_side_effects(
    db: Transactions, table: Table, event: str, apart_from: Collection[str] = ()
) -> None:
    """Log what the server does to other rows when rows of the table are changed, as far as it tells.

    Args:
        db: where.
        table: of the rows.
        event: "DELETE", or "UPDATE" of columns that no foreign key refers to.
        apart_from: names of tables whose rows the job itself deletes before.

    An account sees the foreign keys of tables on which it has a privilege, and needs the privilege TRIGGER to
    see triggers.
    """

    def ask() -> list[str]:
        values = {"table": table.name, "event": event}
        cascades = db.read(CASCADES, values) if event == "DELETE" else ()
        found = [
            f"ON DELETE {rule} in {schema}.{name}"
            for rule, schema, name, here in cascades
            if not (here and name in apart_from)
        ]
        found += [f"trigger {name}" for (name,) in db.read(TRIGGERS, values)]
        db.commit()
        return found

    if found := db.run(ask, what=f"foreign keys and triggers of {table.name}"):
        logger.warning(
            "The %s on %s changes more than these rows. The job neither counts nor archives it: %s",
            event,
            table.name,
            ", ".join(found),
        )


def warn_of_on_update(db: Transactions, table: Table, columns: Collection[str]) -> None:
    """Log which columns the server sets to the current time whenever a row is changed.

    Args:
        db: where.
        table: of the rows.
        columns: names of the columns that the job sets: in them, the job's value counts.
    """

    def ask() -> list[str]:
        found = [name for (name,) in db.read(MOVING, {"table": table.name}) if name not in columns]
        db.commit()
        return found

    if found := db.run(ask, what=f"columns of {table.name}"):
        logger.warning(
            "The server sets %s of %s to the current time in each row that is changed (ON UPDATE). The "
            "archive does not have the old time, and a restore sets the column to its own time",
            ", ".join(found),
            table.name,
        )


def warn_of_absent(tables: Sequence[Table], redact: Collection[str]) -> None:
    """Log which names of `redact` are no columns: a misspelt one leaves its column in the archive."""
    columns = [name for table in tables for name in table.columns]
    known = {name.lower() for name in [*columns, *REDACTED]}
    if absent := sorted(name for name in redact if name.lower() not in known):
        logger.warning(
            "redact names %s, and %s has no such column: the archive leaves nothing out for it. It has %s",
            ", ".join(absent),
            " or ".join(table.name for table in tables),
            ", ".join(columns),
        )


def warn_of_redaction(table: Table, redact: Collection[str]) -> None:
    """Log which columns the archive leaves out without which its rows can't be restored."""
    left_out = {name.lower() for name in redact}
    needed = [
        column.name
        for column in table.columns.values()
        if column.name.lower() in left_out and not (column.nullable or column.has_default or column.generated)
    ]
    if needed:
        logger.warning(
            "The archive of %s can't be restored: redact leaves out %s, which must have a value and has no "
            "default. Leave it in, or give the column a default",
            table.name,
            ", ".join(needed),
        )
