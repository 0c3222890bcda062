"""Warnings of what an archive leaves out: names that are no columns, and rows that can't be restored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.jobs.table_job.side_effects import REDACTED
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from iam_watcher.database.catalogue import Table

logger = get_logger(__name__)


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
