"""Tries new values on the CHECK constraints of a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from iam_watcher.database.checks import checks_of
from iam_watcher.database.column import quoted
from iam_watcher.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.jobs.table_job.value_trial import ValueTrial

# Names of columns in a clause.
NAMES = re.compile(r"`((?:[^`]|``)+)`")
# What MariaDB itself checks in a column of the type JSON.
IS_JSON = re.compile(r"json_valid\(`(?:[^`]|``)+`\)")

BY_VALUES = "SELECT COUNT(*) FROM (SELECT {columns}) AS {table} WHERE NOT ({clause})"
# Rows of a sample that are to be changed, with the new values.
BY_ROWS = (
    "SELECT COUNT(*) FROM (SELECT {columns} FROM"
    " (SELECT {read} FROM {table} FORCE INDEX ({index}) ORDER BY {order} LIMIT 500) AS {table}"
    " WHERE {predicate}) AS {table} WHERE NOT ({clause})"
)


def check_constraints(trial: ValueTrial, used: Sequence[str] | None) -> None:
    """Check that no CHECK constraint refuses the new values.

    Args:
        trial: the new values.
        used: names of the columns in the condition for rows to be changed. Constraints that are on other
            columns too are tried on a sample of these rows. None: such constraints are not tried.

    Raises:
        TableError: one does.
    """
    new, columns = trial.new, trial.table.columns
    given = {*new.bound, *new.null}
    for name, clause in checks_of(trial.db, trial.table.name):
        names = [one for one in columns_in(clause) if one in columns]
        unknown = any(one in new.hashed or columns[one].generated for one in names)
        if unknown or not given & set(names):
            continue
        for query in _broken(trial, clause, names, used):
            rows = trial.tried(query, f"the CHECK constraint {name}")
            if rows and rows[0][0]:
                shown = ", ".join(trial.shown(one) for one in names if one in given)
                raise TableError(
                    f"{new.argument} has {shown}, which the CHECK constraint {name} of "
                    f"{trial.table.name} refuses: {clause}"
                )


def columns_in(clause: str) -> list[str]:
    """Return the names in a clause: of columns, and of whatever else it names in this way."""
    return [name.replace("``", "`") for name in dict.fromkeys(NAMES.findall(clause))]


def _broken(trial: ValueTrial, clause: str, names: Sequence[str], used: Sequence[str] | None) -> list[str]:
    """Return queries that count where the new values break a clause on these columns."""
    table = trial.table
    parts = ", ".join(f"{trial.new_value(one)} AS {quoted(one)}" for one in names)
    clause = clause.replace("%", "%%")
    if all(one in trial.new.bound or one in trial.new.null for one in names):
        return [BY_VALUES.format(columns=parts, table=table.quoted, clause=clause)]
    if used is None:
        return []
    read = ", ".join(quoted(one) for one in dict.fromkeys((*names, *used)))
    return [
        BY_ROWS.format(
            columns=parts,
            read=read,
            table=table.quoted,
            index=table.key.index,
            order=order,
            predicate=trial.plan.change.predicate,
            clause=clause,
        )
        for order in (table.key.ordered, table.key.reversed)
    ]
