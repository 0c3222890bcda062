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
"""The columns that an archive leaves out by default, of whatever table."""

TRIGGERS = (
    "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS"
    " WHERE EVENT_OBJECT_SCHEMA = DATABASE() AND EVENT_OBJECT_TABLE = %(table)s"
    " AND EVENT_MANIPULATION = %(event)s ORDER BY TRIGGER_NAME"
)
MOVING = (
    "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()"
    " AND TABLE_NAME = %(table)s AND EXTRA LIKE '%%on update%%' ORDER BY ORDINAL_POSITION"
)


def warn_of_side_effects(
    db: Transactions,
    table: Table,
    columns: Collection[str] | None,
    apart_from: Collection[tuple[str, Sequence[str]]] = (),
) -> list[str]:
    """Log and return what the server does to other rows when rows of the table are changed.

    Args:
        db: where.
        table: of the rows.
        columns: names of the columns that the job sets; None if it deletes rows.
        apart_from: tables whose rows the job itself deletes before, each with the columns that refer to the
            table.

    An account sees the foreign keys of tables on which it has a privilege, and needs the privilege TRIGGER to
    see triggers.
    """
    event = "DELETE" if columns is None else "UPDATE"
    found = _references(db, table, columns, apart_from)
    found += [f"trigger {name}" for name in _triggers(db, table.name, event)]
    if found:
        logger.warning(
            "The %s on %s changes more than these rows. The job neither counts nor archives it: %s",
            event,
            table.name,
            ", ".join(found),
        )
    return found


def warn_of_triggers(db: Transactions, table: str, event: str) -> None:
    """Log the triggers that an undo runs, as far as the account sees them.

    Args:
        db: where.
        table: name of the table.
        event: INSERT or UPDATE.
    """
    if found := _triggers(db, table, event):
        logger.warning(
            "An %s %s %s runs %s %s, which may change more than these rows",
            event,
            "into" if event == "INSERT" else "of",
            table,
            "the triggers" if found[1:] else "the trigger",
            ", ".join(found),
        )


def _triggers(db: Transactions, table: str, event: str) -> list[str]:
    def ask() -> list[str]:
        found = [name for (name,) in db.read(TRIGGERS, {"table": table, "event": event})]
        db.commit()
        return found

    return db.run(ask, what=f"triggers of {table}")


def _references(
    db: Transactions,
    table: Table,
    columns: Collection[str] | None,
    apart_from: Collection[tuple[str, Sequence[str]]],
) -> list[str]:
    """Return the foreign keys by which the server deletes or changes other rows, each with its rule.

    A CASCADE can cause another one. So the search goes on from the rows that the server deletes, and from the
    columns that it changes.
    """
    from iam_watcher.database.foreign_keys import DELETES_WITH_IT, REFUSES, references_to

    ours = {(name, frozenset(own)) for name, own in apart_from}
    changed = None if columns is None else frozenset(name.lower() for name in columns)
    # Tables whose rows are deleted (None), or whose columns are changed.
    writes = [(table.database, table.name, changed)]
    found = {}
    for write in writes:  # grows meanwhile
        schema, name, changed = write
        for key in references_to(db, name, schema):
            if changed is None:
                is_ours = write == writes[0] and key.is_here and (key.table, frozenset(key.columns)) in ours
                event, rule = "DELETE", None if is_ours else key.on_delete
            else:
                is_changed = changed & {column.lower() for column in key.referenced}
                event, rule = "UPDATE", key.on_update if is_changed else None
            if rule is None or rule in REFUSES:
                continue
            found[f"ON {event} {rule} of {key.schema}.{key.table} ({', '.join(key.columns)})"] = True
            is_deleted = (event, rule) == ("DELETE", DELETES_WITH_IT)
            of_key = None if is_deleted else frozenset(column.lower() for column in key.columns)
            if (next_write := (key.schema, key.table, of_key)) not in writes:
                writes.append(next_write)
    return list(found)


def warn_of_on_update(
    db: Transactions, table: Table, columns: Collection[str], *, restorable: bool = True
) -> None:
    """Log which columns the server sets to the current time whenever a row is changed.

    Args:
        db: where.
        table: of the rows.
        columns: names of the columns that the job sets: in them, the job's value counts.
        restorable: whether rows of this job are restored. If not, only columns with the wrong time are named.
    """

    def ask() -> dict[str, str]:
        found = db.read(MOVING, {"table": table.name})
        db.commit()
        return {name: data_type for name, data_type in found if name not in columns}

    found = db.run(ask, what=f"columns of {table.name}")
    if found and restorable:
        logger.warning(
            "The server sets %s of %s to the current time in each row that is changed (ON UPDATE). The "
            "archive does not have the old time, and a restore sets the column to its own time",
            ", ".join(found),
            table.name,
        )
    if without_zone := [name for name, data_type in found.items() if data_type == "datetime"]:
        logger.warning(
            "In each row that is changed, the server sets %s of %s, a DATETIME, to the current time in UTC "
            "(ON UPDATE). If your applications write the time of another zone into it, a search for rows "
            "changed since a time can miss these rows",
            ", ".join(without_zone),
            table.name,
        )
