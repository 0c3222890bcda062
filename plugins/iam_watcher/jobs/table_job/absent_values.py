"""Values of arguments that decide which rows stay, and that no row has: one of them may be misspelt.

Such are the kinds of `older_than` and, in `where`, the texts after "<>", "not in" and "not like". A misspelt
text after "=" is no danger: then the job changes no row for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iam_watcher.database.column import TEXTS
from iam_watcher.database.server_errors import STATEMENT_TIMEOUTS, code_of
from iam_watcher.jobs.table_job import conditions
from iam_watcher.jobs.table_job.condition_syntax import simple_conditions
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import tzinfo

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.conditions import Condition
    from iam_watcher.jobs.table_job.periods import Periods

logger = get_logger(__name__)

# One statement, so that its time limit is that of the whole search. The first answer is: has the table a row?
FOUND = "SELECT {found}"
IS_THERE = "EXISTS(SELECT 1 FROM {table} WHERE {condition})"

# Operator of `where` that leaves rows alone → the operator that finds these rows.
LEAVES_ALONE = {"<>": "=", "not in": "=", "not like": "like"}

# Argument → what follows if no row has one of its values; the same as the end of "The real run would …".
NO_EFFECT = {
    "older_than": "no row has the period that older_than names for it",
    "where": "where leaves no row alone for it",
}
REAL_RUN = {
    "older_than": "give no row the period that older_than names for {value}",
    "where": "leave no row alone for {value} of where",
}

MOST_LOGGED = 10  # values


@dataclass(frozen=True)
class Deciding:
    """A value that decides which rows stay.

    Attributes:
        column: name of the column that has it.
        operator: that finds the rows with it.
        value: of the DAG file.
    """

    column: str
    operator: str
    value: Any


def kinds(periods: Periods, table: Table) -> list[Deciding]:
    """Return the kinds of `older_than`. The members of an ENUM or a SET are checked before."""
    if not periods.kinds or table.column(periods.column_name).data_type in {"enum", "set"}:
        return []
    return [Deciding(periods.column_name, "=", kind) for kind in periods.kinds]


def left_alone(where: Sequence[Condition], table: Table) -> list[Deciding]:
    """Return the texts of `where` that leave rows alone; not the empty text, which nobody misspells."""
    return [
        Deciding(condition.column, LEAVES_ALONE[condition.operator], value)
        for condition in simple_conditions(where)
        if condition.operator in LEAVES_ALONE and table.column(condition.column).data_type in TEXTS
        for value in condition.values
        if value
    ]


def warn_of_absent(  # noqa: PLR0917
    db: Transactions,
    table: Table,
    zone: tzinfo,
    argument: str,
    wanted: Iterable[Deciding],
    throttler: Throttler,
) -> list[str]:
    """Log the values that no row of a table has; none if the table is empty.

    Args:
        db: where.
        table: of the rows.
        zone: of times that name none.
        argument: that has the values: "older_than" or "where".
        wanted: the values; the server can compare them with their columns.
        throttler: waits before the search while the server is busy.

    Returns:
        What this means for the real run: ends of "The real run would …".
    """
    wanted = list(dict.fromkeys(wanted))
    if not wanted:
        return []
    found, values = [IS_THERE.format(table=table.quoted, condition="TRUE")], dict[str, object]()
    for number, one in enumerate(wanted):
        condition, more = conditions.as_sql(
            [(one.column, one.operator, one.value)], table, zone, f"wanted{number}_"
        )
        found.append(IS_THERE.format(table=table.quoted, condition=condition))
        values |= more

    def ask() -> list[bool] | None:
        answers = None
        try:
            (row,) = db.read(FOUND.format(found=", ".join(found)), values)
            answers = list(map(bool, row))
        except db.error as error:
            if code_of(error) not in STATEMENT_TIMEOUTS:
                raise
        db.commit()
        return answers

    throttler.wait()
    answers = db.run(ask, what=f"the values of {argument} in {table.name}")
    if answers is None:
        columns = ", ".join(dict.fromkeys(one.column for one in wanted))
        logger.warning(
            "The server could not say within its time limit for a statement whether rows of %s have the "
            "values that %s names for %s. Check the spelling, or add an index on %s",
            table.name,
            argument,
            columns,
            columns,
        )
        return []
    has_rows, *are_there = answers
    absent = [one for one, is_there in zip(wanted, are_there, strict=True) if has_rows and not is_there]
    for one in absent[:MOST_LOGGED]:
        logger.warning(
            "No row of %s has %r in %s, so %s. Check the spelling",
            table.name,
            one.value,
            one.column,
            NO_EFFECT[argument],
        )
    if len(absent) > MOST_LOGGED:
        logger.warning(
            "No row of %s has %d more values of %s. Check the spelling",
            table.name,
            len(absent) - MOST_LOGGED,
            argument,
        )
    return [
        f"{REAL_RUN[argument].format(value=repr(one.value))}: no row of {table.name} has it in {one.column}"
        for one in absent
    ]
