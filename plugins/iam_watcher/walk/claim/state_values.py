"""Checks the states that a job gives against their column: can it hold them, and does it tell them apart?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.database.column import INTEGER_BITS, TEXTS
from iam_watcher.database.server_errors import NOT_COMPARABLE, code_of
from iam_watcher.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions

# The server compares the states as it compares the column, since its collation goes before that of a value.
# It refuses states that it can't compare with the column, and reads no row.
EQUAL = (
    "SELECT MIN(number), MAX(number) FROM"
    " (SELECT -1 AS number, {column} AS state FROM {table} WHERE FALSE {selects}) AS states"
    " GROUP BY state HAVING COUNT(*) > 1 LIMIT 1"
)


def check(db: Transactions, table: Table, column: Column, states: Mapping[str, object]) -> None:
    """Check that the column can hold each state as it is, and that no two of them are equal for it.

    If "pending" and "Pending" were equal, a row that is done would be pending again.

    Args:
        db: where.
        table: that has the column.
        column: of the state.
        states: argument → its state.

    Raises:
        TableError: a state does not fit the column, or two are equal in its type and collation.
    """
    for argument, value in states.items():
        _check_type(table.name, column, argument, value)
    values = {f"state{number}": value for number, value in enumerate(states.values())}
    names = {
        "table": table.quoted,
        "column": column.quoted,
        "selects": " ".join(f"UNION ALL SELECT {n}, %({name})s" for n, name in enumerate(values)),
    }

    def ask() -> tuple[int, int] | None:
        try:
            found = db.read(EQUAL.format(**names), values)
        except db.error as error:
            if code_of(error) not in NOT_COMPARABLE:
                raise
            raise TableError(
                f"column {column.name!r} of {table.name} has the character set {column.charset} and can't "
                f"hold one of {_listed(states)}: {error}. Use other states"
            ) from error
        db.commit()
        return found[0] if found else None

    if equal := db.run(ask, what=f"the states in {column.name} of {table.name}"):
        given = list(states)
        one, other = (given[number] for number in equal)
        raise TableError(
            f"{one}={states[one]!r} and {other}={states[other]!r} are equal for the column {column.name!r} "
            f"of {table.name}, {column.column_type}{_collated(column)}, so the server can't tell such rows "
            "apart. Give each argument a state of its own"
        )


def _check_type(table: str, column: Column, argument: str, value: object) -> None:
    """Check that a state is a value that its column can hold as it is."""
    if column.data_type in INTEGER_BITS:
        least, most = column.integers
        fits = type(value) is int and least <= value <= most
        expected = f"a whole number from {least} to {most}"
    elif column.data_type == "enum":
        fits = value in column.members
        expected = f"one of {', '.join(map(repr, column.members))}"
    elif column.data_type in TEXTS:
        longest = column.sizes[0] if column.sizes else 63
        fits = isinstance(value, str) and len(value) <= longest
        expected = f"a text of at most {longest} characters"
        if column.data_type == "char" and isinstance(value, str) and value.endswith(" "):
            fits, expected = False, f"{expected} without spaces at its end, which a CHAR does not keep"
    else:
        raise TableError(
            f"column {column.name!r} of {table} (state_column) is {column.column_type}; "
            "expected a text, an ENUM or an integer"
        )
    if not fits:
        raise TableError(
            f"{argument}={value!r} does not fit the column {column.name!r} of {table}, "
            f"{column.column_type}; expected {expected}"
        )


def _collated(column: Column) -> str:
    return "" if column.collation is None else f" COLLATE {column.collation}"


def _listed(states: Mapping[str, object]) -> str:
    return ", ".join(f"{argument}={value!r}" for argument, value in states.items())
