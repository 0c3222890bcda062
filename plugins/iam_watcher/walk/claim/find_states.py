"""Finds the rows and their states in the catalogue: the columns, the key and the index that a job names.

What is missing is said with the statement that adds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.database.catalogue import read_table
from iam_watcher.database.column import INTEGER_BITS, TEXTS, quoted
from iam_watcher.errors import TableError
from iam_watcher.walk.claim import state_values
from iam_watcher.walk.claim.row_states import RowStates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions

# The columns of each index that can be read in the order of its whole columns.
INDEXES = (
    "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART IS NULL AND INDEX_TYPE = 'BTREE' AND COLLATION = 'A'"
    " FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s"
    " AND INDEX_NAME <> 'PRIMARY' ORDER BY INDEX_NAME, SEQ_IN_INDEX"
)

TIMES = frozenset({"datetime", "timestamp"})
SHORTEST_CLAIMANT = 32  # characters of the column of the claimant

# What to add to a table, by the argument that names the column.
DEFINITIONS = {
    "claimed_at_column": "DATETIME(6) NULL",
    "claimed_by_column": "VARCHAR(255) NULL",
    "attempts_column": "INT UNSIGNED NOT NULL DEFAULT 0",
    "retry_at_column": "DATETIME(6) NULL",
    "error_column": "TEXT NULL",
}
TYPES = {
    "claimed_at_column": TIMES,
    "claimed_by_column": TEXTS,
    "attempts_column": frozenset(INTEGER_BITS),
    "retry_at_column": TIMES,
    "error_column": TEXTS,
}


@dataclass(frozen=True)
class Names:
    """What a job says of a table; for the attributes that are not described here see `RowStates`.

    Attributes:
        table: its name.
        state_column: name of the column of the state.
        columns: name of each further column, by the argument that gives it, such as "attempts_column".
        read: names of the columns that the function gets; None for all.
        age_column: name of the column of the time at which a row became pending.
    """

    table: str
    state_column: str
    pending: object
    done: object
    failed: object
    working: object
    columns: Mapping[str, str]
    read: Sequence[str] | None
    age_column: str | None
    claimant: str
    claim_timeout: float
    max_attempts: int | None
    backoff: float

    @property
    def states(self) -> dict[str, object]:
        """The states, by the arguments that give them."""
        working = {} if self.working is None else {"working": self.working}
        return {"claim": self.pending, **working, "done": self.done, "failed": self.failed}


def find(db: Transactions, names: Names) -> RowStates:
    """Return the rows and their states, as the catalogue has them.

    Raises:
        TableError: the table, a column or an index is not there or has another type, a column must not be
            written, a state does not fit its column, or two states are equal for it. It says which statement
            adds what is missing.
    """
    table, indexes = read_shape(db, names.table)
    columns = table.columns
    state = column_of(columns, names.table, "state_column", names.state_column)
    _check_writable(table, "state_column", state)
    state_values.check(db, table, state, names.states)
    ours = _our_columns(table, names)
    retry_at = ours.get("retry_at_column")
    ours_too = [state.name, *(column.name for column in ours.values())]
    taken = {*table.key.names, *ours_too}
    age = (
        None if names.age_column is None else column_of(columns, names.table, "age_column", names.age_column)
    )
    if age is not None and age.data_type not in TIMES:
        raise TableError(
            f"column {age.name!r} of {names.table} (age_column) is {age.column_type}; expected a DATETIME or "
            "TIMESTAMP"
        )
    read = [*columns] if names.read is None else [*names.read]
    for name in read:
        column_of(columns, names.table, "columns", name)
    needed = [name for name in (*table.key.names, *ours_too) if name not in read]
    return RowStates(
        name=names.table,
        table=table.quoted,
        key=table.key,
        index=quoted(index_of(indexes, table, state, retry_at)),
        columns=tuple(columns[name] for name in (*read, *needed)),
        writable={
            name: column
            for name, column in columns.items()
            if name not in taken and not column.generated and not column.auto_increment
        },
        state=state,
        pending=names.pending,
        done=names.done,
        failed=names.failed,
        working=names.working,
        claimed_at=ours.get("claimed_at_column"),
        claimed_by=ours.get("claimed_by_column"),
        attempts=ours.get("attempts_column"),
        retry_at=retry_at,
        error=ours.get("error_column"),
        age=age,
        claimant=_claimant(names.claimant, ours.get("claimed_by_column")),
        claim_timeout=names.claim_timeout,
        max_attempts=names.max_attempts,
        backoff=names.backoff,
    )


def column_of(columns: Mapping[str, Column], table: str, argument: str, name: str) -> Column:
    """Return a column that an argument names.

    Raises:
        TableError: it is not there.
    """
    if name not in columns:
        raise TableError(
            f"{table} has no column {name!r} ({argument}); it has {', '.join(columns)}. The server "
            "hides columns on which the account has no right"
        )
    return columns[name]


def read_shape(db: Transactions, name: str) -> tuple[Table, dict[str, list[str]]]:
    """Return a table, and the columns of each of its indexes; "" for one that has no use here."""
    table = read_table(db, name)
    indexes: dict[str, list[str]] = {}
    for index, column, usable in db.read(INDEXES, {"table": name}):
        indexes.setdefault(index, []).append(column if usable else "")
    db.commit()
    return table, indexes


def _our_columns(table: Table, names: Names) -> dict[str, Column]:
    columns = table.columns
    missing = {argument: name for argument, name in names.columns.items() if name not in columns}
    if missing:
        adds = ", ".join(f"ADD COLUMN {quoted(name)} {DEFINITIONS[one]}" for one, name in missing.items())
        raise TableError(
            f"{names.table} has no column {', '.join(map(repr, missing.values()))}. Run ALTER TABLE "
            f"{quoted(names.table)} {adds}; or, if it is there, grant the account its rights on it"
        )
    ours = {argument: columns[name] for argument, name in names.columns.items()}
    for argument, column in ours.items():
        _check_writable(table, argument, column)
        short = argument == "claimed_by_column" and column.sizes and column.sizes[0] < SHORTEST_CLAIMANT
        must_be_null = argument in {"retry_at_column", "error_column"} and not column.nullable
        if column.data_type not in TYPES[argument] or short or must_be_null:
            raise TableError(
                f"column {column.name!r} of {names.table} ({argument}) is {column.column_type}"
                f"{'' if column.nullable else ' NOT NULL'}; run ALTER TABLE {quoted(names.table)} "
                f"MODIFY {column.quoted} {DEFINITIONS[argument]}"
            )
    attempts = ours.get("attempts_column")
    if attempts is not None and (names.max_attempts or 0) > attempts.integers[1]:
        raise TableError(
            f"column {attempts.name!r} of {names.table} (attempts_column) is {attempts.column_type}, and "
            f"max_attempts is {names.max_attempts}; expected at most {attempts.integers[1]}"
        )
    return ours


def _check_writable(table: Table, argument: str, column: Column) -> None:
    """Check that the job may write to a column that an argument names."""
    if column.name in table.key.names:
        why = f"is in the key {table.key.index}, by which the job finds its rows"
    elif column.generated:
        why = "is computed from other columns"
    elif column.auto_increment:
        why = "is AUTO_INCREMENT: its values are the numbers of the rows"
    elif column.on_update:
        # An update by any client would renew the claim of a worker that is dead.
        why = "has ON UPDATE: the server changes it in each update of its row"
    else:
        return
    add = ""
    if argument in DEFINITIONS:
        name = argument.removesuffix("_column")
        add = f", such as one that ALTER TABLE {table.quoted} ADD COLUMN {name} {DEFINITIONS[argument]} adds"
    raise TableError(
        f"{argument} is {column.name!r}, but this column of {table.name} {why}. The job writes to "
        f"{argument}. Name a column that only the job writes{add}"
    )


def index_of(
    indexes: Mapping[str, Sequence[str]], table: Table, state: Column, retry_at: Column | None
) -> str:
    """Return the name of an index that has the rows of a state in the order in which they are claimed."""
    first = [state.name] if retry_at is None else [state.name, retry_at.name]
    whole = [*first, *table.key.names]
    for name, columns in indexes.items():
        if len(columns) >= len(first) and list(columns) == whole[: len(columns)]:
            return name
    listed = ", ".join(map(quoted, first))
    new = quoted("_".join(first)[:64])
    raise TableError(
        f"{table.name} has no index on ({', '.join(first)}): to find pending rows, the server would read or "
        f"lock the whole table. Run CREATE INDEX {new} ON {table.quoted} ({listed})"
    )


def _claimant(claimant: str, column: Column | None) -> str:
    """Return the claimant as its column can hold it: what is unique stands first."""
    longest = (column.sizes if column is not None else ()) or (63,)
    return claimant.encode("ascii", "replace").decode()[: min(255, longest[0])].rstrip()
