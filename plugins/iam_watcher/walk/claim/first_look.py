"""Looks at a table before the first row is claimed: are columns, index and server as they must be?

What is missing is said with the statement that adds it, and nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.database.catalogue import read_columns
from iam_watcher.database.column import INTEGER_BITS, quoted
from iam_watcher.database.server_errors import code_of
from iam_watcher.errors import TableError
from iam_watcher.log_lines import get_logger
from iam_watcher.walk.claim.claims import PROBE, RETRIES
from iam_watcher.walk.claim.row_states import RowStates, behind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

KEY = (
    "SELECT COLUMN_NAME FROM information_schema.STATISTICS"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND INDEX_NAME = 'PRIMARY'"
    " ORDER BY SEQ_IN_INDEX"
)

# The columns of each index that can be read in the order of its whole columns.
INDEXES = (
    "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART IS NULL AND INDEX_TYPE = 'BTREE' AND COLLATION = 'A'"
    " FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s"
    " AND INDEX_NAME <> 'PRIMARY' ORDER BY INDEX_NAME, SEQ_IN_INDEX"
)

# Runs the checks of the account's rights and changes nothing.
REHEARSAL = "UPDATE {table} SET {assignments} WHERE FALSE"

# Fails on a server that does not know SKIP LOCKED.
SKIP_LOCKED = "SELECT 1 FROM {table} WHERE FALSE FOR UPDATE SKIP LOCKED"

BINARY_LOG = "SHOW SESSION VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format')"

# A row that no worker will take over.
WITHOUT_TIME = (
    "SELECT {key} FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(working)s AND {claimed_at} IS NULL LIMIT 1"
)

# What tells the first row that is due from others; NULL if none is. The schedule asks every second.
FIRST = (
    "(SELECT CONCAT_WS(',', {key}) FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(pending)s{fresh} ORDER BY {key} LIMIT 1)"
)
FIRST_RETRY = (
    "(SELECT CONCAT_WS(',', {retry_at}, {key}) FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(pending)s AND {retry_at} <= NOW(6) ORDER BY {retry_at}, {key} LIMIT 1)"
)
FIRST_EXPIRED = (
    "(SELECT CONCAT_WS(',', {claimed_at}, {key}) FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(working)s AND {claimed_at} < NOW(6) - INTERVAL %(timeout)s SECOND LIMIT 1)"
)

TIMES = frozenset({"datetime", "timestamp"})
TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
NO_KEYS = frozenset({"enum", "set", "float", "double", "bit", "json"})
SHORTEST_CLAIMANT = 32  # characters of the column of the claimant
SYNTAX_ERROR = 1064

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


def find(db: Transactions, names: Names) -> RowStates:
    """Return the rows and their states, as the catalogue has them.

    Raises:
        TableError: the table, a column or an index is not there or has another type, or a state does not fit
            its column. It says which statement adds what is missing.
    """
    columns, key, indexes = _read(db, names.table)
    state = _column(columns, names.table, "state_column", names.state_column)
    for argument in ("pending", "working", "done", "failed"):
        value = getattr(names, argument)
        if argument != "working" or value is not None:
            _check_state(names, state, argument, value)
    ours = _our_columns(columns, names)
    retry_at = ours.get("retry_at_column")
    taken = {column.name for column in (*key, state, *ours.values())}
    age = None if names.age_column is None else _column(columns, names.table, "age_column", names.age_column)
    if age is not None and age.data_type not in TIMES:
        raise TableError(
            f"column {age.name!r} of {names.table} (age_column) is {age.column_type}; expected a DATETIME or "
            "TIMESTAMP"
        )
    read = [*columns] if names.read is None else [*names.read]
    for name in read:
        _column(columns, names.table, "columns", name)
    needed = [column.name for column in (*key, state, *ours.values()) if column.name not in read]
    return RowStates(
        name=names.table,
        table=quoted(names.table),
        key=key,
        by_key="PRIMARY",
        index=quoted(_index(indexes, names.table, key, state, retry_at)),
        columns=tuple(columns[name] for name in (*read, *needed)),
        writable={n: c for n, c in columns.items() if n not in taken and not c.generated},
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


def due_query(
    db: Transactions,
    *,
    table: str,
    state_column: str,
    claim: object,
    working: object,
    claimed_at_column: str | None,
    retry_at_column: str | None,
    claim_timeout: float,
) -> tuple[str, dict[str, object]]:
    """Return SQL for the first row that is due, NULL if none is, and its values; see `Names`.

    Raises:
        TableError: as `find`.
    """
    columns, key, indexes = _read(db, table)
    state = _column(columns, table, "state_column", state_column)
    names = {"key": ", ".join(one.quoted for one in key), "table": quoted(table), "state": state.quoted}
    retry_at = None
    if retry_at_column is not None:
        retry_at = _column(columns, table, "retry_at_column", retry_at_column)
        names["retry_at"] = retry_at.quoted
    names["index"] = quoted(_index(indexes, table, key, state, retry_at))
    names["fresh"] = "" if retry_at is None else f" AND {retry_at.quoted} IS NULL"
    parts = [FIRST] if retry_at is None else [FIRST, FIRST_RETRY]
    if claimed_at_column is not None:
        names["claimed_at"] = _column(columns, table, "claimed_at_column", claimed_at_column).quoted
        parts.append(FIRST_EXPIRED)
    query = f"COALESCE({', '.join(part.format(**names) for part in parts)})"
    return query, {"pending": claim, "working": working, "timeout": claim_timeout}


def check(db: Transactions, states: RowStates) -> None:
    """Check rights, server and plans; warn of claimed rows that nobody would take over.

    Raises:
        TableError: a right is missing, the server can't skip locked rows or logs statements, or it would not
            read the rows by the index.
    """
    ours = (
        states.state,
        states.claimed_at,
        states.claimed_by,
        states.attempts,
        states.retry_at,
        states.error,
    )
    same = ", ".join(f"{column.quoted} = {column.quoted}" for column in ours if column is not None)

    def look() -> None:
        db.change(REHEARSAL.format(table=states.table, assignments=same))
        try:
            db.read(SKIP_LOCKED.format(table=states.table))
        except db.error as error:
            if code_of(error) != SYNTAX_ERROR:
                raise
            raise TableError(
                f"{states.name}: this server does not know SKIP LOCKED; expected MariaDB 10.6, MySQL 8.0.1 "
                "or later"
            ) from error
        variables = {name: value for name, value in db.read(BINARY_LOG)}  # noqa: C416  rows are tuples
        if variables.get("log_bin") == "ON" and variables.get("binlog_format") == "STATEMENT":
            raise TableError(
                f"{states.name}: the server's binlog_format is STATEMENT, in which SKIP LOCKED is not safe "
                "for replicas. Set binlog_format=ROW"
            )
        for query, values in _probes(states):
            _check_plan(db, states, query, values)
        if not states.holds and (found := db.read(WITHOUT_TIME.format(**states.names), states.values)):
            logger.warning(
                "Rows of %s have the state %r without a time of claim, such as that with the key %r. No run "
                "takes them over: set them to %r",
                states.name,
                states.working,
                found[0],
                states.pending,
            )
        db.commit()

    db.run(look, what=f"a first look at {states.name}", before_retry=lambda: None)


def _column(columns: Mapping[str, Column], table: str, argument: str, name: str) -> Column:
    if name not in columns:
        raise TableError(
            f"{table} has no column {name!r} ({argument}); it has {', '.join(columns)}. The server "
            "hides columns on which the account has no right"
        )
    return columns[name]


def _read(db: Transactions, table: str) -> tuple[dict[str, Column], tuple[Column, ...], dict[str, list[str]]]:
    """Return the columns, those of the key, and those of each index; "" for one that has no use here."""
    columns = read_columns(db, table)
    key = tuple(columns[row[0]] for row in db.read(KEY, {"table": table}))
    indexes: dict[str, list[str]] = {}
    for index, column, usable in db.read(INDEXES, {"table": table}):
        indexes.setdefault(index, []).append(column if usable else "")
    db.commit()
    if not key:
        raise TableError(f"{table} has no primary key; expected one, by which rows are claimed")
    for column in key:
        if column.data_type in NO_KEYS:
            # Values of these are not sorted as they are compared, or have no exact text.
            raise TableError(
                f"the primary key of {table} has the column {column.name!r}, {column.column_type}; expected "
                "integers, decimals, texts, binaries, dates or times"
            )
    return columns, key, indexes


def _our_columns(columns: Mapping[str, Column], names: Names) -> dict[str, Column]:
    missing = {argument: name for argument, name in names.columns.items() if name not in columns}
    if missing:
        adds = ", ".join(f"ADD COLUMN {quoted(name)} {DEFINITIONS[one]}" for one, name in missing.items())
        raise TableError(
            f"{names.table} has no column {', '.join(map(repr, missing.values()))}. Run ALTER TABLE "
            f"{quoted(names.table)} {adds}; or, if it is there, grant the account its rights on it"
        )
    ours = {argument: columns[name] for argument, name in names.columns.items()}
    for argument, column in ours.items():
        short = argument == "claimed_by_column" and column.sizes and column.sizes[0] < SHORTEST_CLAIMANT
        must_be_null = argument in {"retry_at_column", "error_column"} and not column.nullable
        if column.data_type not in TYPES[argument] or short or must_be_null or column.generated:
            raise TableError(
                f"column {column.name!r} of {names.table} ({argument}) is {column.column_type}"
                f"{'' if column.nullable else ' NOT NULL'}; run ALTER TABLE {quoted(names.table)} "
                f"MODIFY {column.quoted} {DEFINITIONS[argument]}"
            )
    return ours


def _check_state(names: Names, column: Column, argument: str, value: object) -> None:
    """Check that a state is a value that its column can hold as it is."""
    if column.data_type in INTEGER_BITS:
        bits = INTEGER_BITS[column.data_type]
        least, most = (0, 2**bits - 1) if column.unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        fits = type(value) is int and least <= value <= most
        expected = f"a whole number from {least} to {most}"
    elif column.data_type == "enum":
        fits = value in column.members
        expected = f"one of {', '.join(map(repr, column.members))}"
    elif column.data_type in TEXTS:
        longest = column.sizes[0] if column.sizes else 63
        fits = isinstance(value, str) and len(value) <= longest
        expected = f"a text of at most {longest} characters"
    else:
        raise TableError(
            f"column {column.name!r} of {names.table} (state_column) is {column.column_type}; "
            "expected a text, an ENUM or an integer"
        )
    if not fits:
        raise TableError(
            f"{argument}={value!r} does not fit the column {column.name!r} of {names.table}, "
            f"{column.column_type}; expected {expected}"
        )


def _index(
    indexes: Mapping[str, Sequence[str]],
    table: str,
    key: Sequence[Column],
    state: Column,
    retry_at: Column | None,
) -> str:
    """Return the name of an index that has the rows of a state in the order in which they are claimed."""
    first = [state.name] if retry_at is None else [state.name, retry_at.name]
    whole = [*first, *(column.name for column in key)]
    for name, columns in indexes.items():
        if len(columns) >= len(first) and list(columns) == whole[: len(columns)]:
            return name
    listed = ", ".join(map(quoted, first))
    new = quoted("_".join(first)[:64])
    raise TableError(
        f"{table} has no index on ({', '.join(first)}): to find pending rows, the server would read or "
        f"lock the whole table. Run CREATE INDEX {new} ON {quoted(table)} ({listed})"
    )


def _claimant(claimant: str, column: Column | None) -> str:
    """Return the claimant as its column can hold it: what is unique stands first."""
    longest = (column.sizes if column is not None else ()) or (63,)
    return claimant.encode("ascii", "replace").decode()[: min(255, longest[0])].rstrip()


def _probes(states: RowStates) -> list[tuple[str, dict[str, object]]]:
    after = [0] * len(states.key)  # any value: the plan is the same
    condition, values = behind(states.key, after)
    names = states.names
    if states.retry_at is None:
        return [(PROBE.format(**names, fresh="", behind=condition), dict(values))]
    retry_at = states.retry_at.quoted
    return [
        (PROBE.format(**names, fresh=f" AND {retry_at} IS NULL", behind=condition), dict(values)),
        (RETRIES.format(**names, retry_at=retry_at, behind="TRUE"), {}),
    ]


def _check_plan(db: Transactions, states: RowStates, query: str, values: Mapping[str, object]) -> None:
    plan = db.read(f"EXPLAIN FORMAT=TRADITIONAL {query}", {**states.values, **values, "limit": 1})
    index = states.index.strip("`").replace("``", "`").replace("%%", "%")
    steps = [str(cell) for row in plan for cell in row]
    if index not in steps or any("filesort" in step or "temporary" in step for step in steps):
        raise TableError(
            f"{states.name}: the server would not read pending rows in the order of the index "
            f"{states.index} (EXPLAIN: {' '.join(steps)}). Run ANALYZE TABLE {states.table}"
        )
