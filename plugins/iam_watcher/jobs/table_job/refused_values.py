"""New values that the server would refuse at the first write, found in its catalogue before.

A trigger, a CHECK on values of rows outside of the sample, and a unique key of which only a part is set can
refuse a value too: only the write can tell that.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from iam_watcher.database.column import quoted
from iam_watcher.errors import TableError
from iam_watcher.jobs.table_job.check_constraints import check_constraints
from iam_watcher.jobs.table_job.value_trial import ValueTrial

if TYPE_CHECKING:
    from collections.abc import Iterable

    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.jobs.table_job.value_trial import NewValues

# Bytes of the types whose length is none of characters. The length of others is part of the type.
MOST_BYTES = {
    **dict.fromkeys(("tinytext", "tinyblob"), 2**8 - 1),
    **dict.fromkeys(("text", "blob"), 2**16 - 1),
    **dict.fromkeys(("mediumtext", "mediumblob"), 2**24 - 1),
}
LENGTH = "SELECT LENGTH({value})"

UNIQUE = (
    "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND NON_UNIQUE = 0"
    " ORDER BY INDEX_NAME, SEQ_IN_INDEX"
)
FEWEST_DIGITS = 16  # of hashes, that a unique key must hold

FOREIGN = (
    "SELECT CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME,"
    " REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND REFERENCED_TABLE_NAME IS NOT NULL"
    " ORDER BY CONSTRAINT_NAME, ORDINAL_POSITION"
)
PARENT = "SELECT 1 FROM {schema}.{table} WHERE {condition} LIMIT 1"


def check_new_values(
    db: Transactions, plan: Plan, new: NewValues, used: Iterable[str], *, sample: bool = True
) -> None:
    """Check that the server takes the new values, as far as its catalogue tells.

    Args:
        db: where.
        plan: the table, the rows to be changed, and the values of the placeholders.
        new: the new values.
        used: names of the columns that the condition for these rows uses.
        sample: whether CHECK constraints on several columns are tried on rows of the table as well.

    Raises:
        TableError: it would refuse one.
    """
    trial = ValueTrial(db, plan, new)

    def look() -> None:
        _lengths(trial)
        _unique_keys(trial)
        _foreign_keys(trial)
        check_constraints(trial, list(used) if sample else None)
        db.commit()

    db.run(look, what=f"a look at the constraints of {plan.table.name}")


def _lengths(trial: ValueTrial) -> None:
    for name in trial.new.bound:
        column, value = trial.table.columns[name], trial.value(name)
        most = MOST_BYTES.get(column.data_type)
        if most is None or not isinstance(value, (str, bytes)):
            continue
        ((length,),) = trial.read(LENGTH.format(value=trial.typed(column)))
        if length > most:
            raise TableError(
                f"column {name!r} of {trial.table.name} is {column.column_type}; {trial.new.argument} "
                f"has a value of {length} bytes for it, expected at most {most}"
            )


def _unique_keys(trial: ValueTrial) -> None:
    new = trial.new
    for index, parts in groupby(trial.read(UNIQUE, table=trial.table.name), key=itemgetter(0)):
        columns = [(name, prefix) for _, name, prefix in parts]
        unknown = [name for name, _ in columns if name not in new.bound]
        short = [name for name, prefix in columns if name in new.hashed and 0 < (prefix or 0) < FEWEST_DIGITS]
        if not unknown or (short and set(unknown) <= set(short)):
            given = ", ".join(map(trial.shown, dict(columns)))
            raise TableError(
                f"{new.argument} has {given}, but the index {index} of {trial.table.name} takes each "
                "value once. Use None or Hashed() for this column"
            )


def _foreign_keys(trial: ValueTrial) -> None:
    for name, parts in groupby(trial.read(FOREIGN, table=trial.table.name), key=itemgetter(0)):
        columns = [(mine, schema, table, theirs) for _, mine, schema, table, theirs in parts]
        if any(mine not in trial.new.bound for mine, *_ in columns):
            continue
        condition = " AND ".join(
            f"{quoted(theirs)} = {trial.typed(trial.table.columns[mine])}" for mine, _, _, theirs in columns
        )
        _, schema, table, _ = columns[0]
        query = PARENT.format(schema=quoted(schema), table=quoted(table), condition=condition)
        given = ", ".join(trial.shown(mine) for mine, *_ in columns)
        found = trial.tried(query, f"the foreign key {name}")
        if found is not None and not found:
            raise TableError(
                f"{trial.new.argument} has {given}, but the foreign key {name} of {trial.table.name} "
                f"takes only values that are in {table}, and this is none"
            )
