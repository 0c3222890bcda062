"""Warnings of what an archive leaves out: names that are no columns, and rows that can't be restored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.database.catalogue import KEYS
from iam_watcher.database.checks import checks_of
from iam_watcher.database.foreign_keys import references_of
from iam_watcher.jobs.table_job.check_constraints import IS_JSON, columns_in
from iam_watcher.jobs.table_job.side_effects import REDACTED
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

# The columns that get a value in a row that does not name them. MariaDB has the text NULL for no such value.
DEFAULTED = (
    "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()"
    " AND TABLE_NAME = %(table)s AND COLUMN_DEFAULT <> 'NULL'"
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


def warn_of_redaction(db: Transactions, table: Table, redact: Collection[str]) -> None:
    """Log which columns the archive leaves out without which its rows, or some of them, can't be restored."""
    left_out = {name.lower() for name in redact}
    redacted = [
        column
        for column in table.columns.values()
        if column.name.lower() in left_out and not column.generated
    ]
    needed = [column.name for column in redacted if not (column.nullable or column.has_default)]
    if needed:
        logger.warning(
            "The archive of %s can't be restored: redact leaves out %s, which must have a value and has no "
            "default. Remove it from redact, or give the column a default",
            table.name,
            ", ".join(needed),
        )
    constraints = _constraints_on_defaults(db, table, [column for column in redacted if not column.own_id])
    refusing = [f"{name} ({', '.join(found)})" for name, found in constraints.items()]
    if refusing:
        logger.warning(
            "A restore of %s can skip rows: redact leaves out %s. In its place, a restore sets the "
            "column's default, which the server can refuse. Remove the column from redact",
            table.name,
            ", ".join(refusing),
        )


def _constraints_on_defaults(
    db: Transactions, table: Table, columns: Sequence[Column]
) -> dict[str, list[str]]:
    """Return name of a column → the constraints that can refuse its default, of columns that have one."""
    if not columns:
        return {}

    def ask() -> tuple[set[str], list[tuple[str, str]], list[tuple[str, str]]]:
        values = {"table": table.name}
        defaulted = {name for (name,) in db.read(DEFAULTED, values)}
        unique = [(index, name) for index, name, *_ in db.read(KEYS, values)]
        clauses = checks_of(db, table.name)
        db.commit()
        return defaulted, unique, clauses

    defaulted, unique, clauses = db.run(ask, what=f"constraints of {table.name}")
    foreign = references_of(db, table.name)
    checks = [(name, columns_in(clause)) for name, clause in clauses if not IS_JSON.fullmatch(clause)]
    found = {
        column.name: [
            *(f"unique key {index}" for index, name in unique if name == column.name),
            *(f"foreign key to {to}" for to, names in foreign if column.name in names),
            *(f"CHECK {check}" for check, names in checks if column.name in names),
        ]
        for column in columns
        if column.name in defaulted
    }
    return {name: constraints for name, constraints in found.items() if constraints}
