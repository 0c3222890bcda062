"""Looks at a table before the first row is claimed: are columns, index and server as they must be?

What is missing is said with the statement that adds it, and nothing is claimed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.database.rights import NO_SKIP_LOCKED, SKIPS_LOCKED, STATEMENT_BASED, SYNTAX_ERROR
from iam_watcher.database.server_errors import code_of
from iam_watcher.database.session import BINARY_LOG_VARIABLES, logs_statements
from iam_watcher.errors import TableError
from iam_watcher.log_lines import get_logger
from iam_watcher.walk.claim.claims import PROBE, RETRIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.claim.row_states import RowStates

logger = get_logger(__name__)

# Runs the checks of the account's rights and changes nothing.
REHEARSAL = "UPDATE {table} SET {assignments} WHERE FALSE"

# The plan for rows behind a key depends on no key in particular.
ANY_KEY = "SELECT {key_values} FROM {table} FORCE INDEX ({by_key}) LIMIT 1"

# A row that has one of the states of the job; any state of a row.
WITH_A_STATE = (
    "SELECT 1 FROM {table} FORCE INDEX ({index})"
    " WHERE {state} IN (%(pending)s, %(working)s, %(done)s, %(failed)s) LIMIT 1"
)
ANY_STATE = "SELECT {state} FROM {table} FORCE INDEX ({index}) LIMIT 1"

# A row that no worker will take over.
WITHOUT_TIME = (
    "SELECT {key} FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(working)s AND {claimed_at} IS NULL LIMIT 1"
)


def check(db: Transactions, states: RowStates) -> None:
    """Check rights, server and plans; warn of states that no row has, and of claims that nobody takes over.

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
            db.read(SKIPS_LOCKED.format(table=states.table))
        except db.error as error:
            if code_of(error) != SYNTAX_ERROR:
                raise
            raise TableError(f"{states.name}: {NO_SKIP_LOCKED}") from error
        if logs_statements(dict(db.read(BINARY_LOG_VARIABLES))):
            raise TableError(f"{states.name}: {STATEMENT_BASED}")
        for query in _probes(db, states):
            _check_plan(db, states, query)
        if not db.read(WITH_A_STATE.format(**states.names), states.values):
            _warn_of_states(states, db.read(ANY_STATE.format(**states.names)))
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

    db.run(look, what=f"a first look at {states.name}")


def _warn_of_states(states: RowStates, found: Sequence[Sequence[object]]) -> None:
    """Warn that no row has a state of the job. A state may be misspelt, and then no run does anything."""
    if found:
        given = [states.pending, states.working, states.done, states.failed]
        logger.warning(
            "No row of %s has one of the states %s. There are rows in other states, such as %r. Check the "
            "arguments claim, working, done and failed",
            states.name,
            ", ".join(repr(state) for state in given if state is not None),
            found[0][0],
        )


def _probes(db: Transactions, states: RowStates) -> list[str]:
    found = db.read(ANY_KEY.format(**states.names))
    names, behind = states.names, states.behind(tuple(found[0]) if found else None)
    if states.retry_at is None:
        return [PROBE.format(**names, fresh="", behind=behind)]
    retry_at = states.retry_at.quoted
    return [
        PROBE.format(**names, fresh=f" AND {retry_at} IS NULL", behind=behind),
        RETRIES.format(**names, retry_at=retry_at, behind="TRUE"),
    ]


def _check_plan(db: Transactions, states: RowStates, query: str) -> None:
    plan = db.read(f"EXPLAIN FORMAT=TRADITIONAL {query}", {**states.values, "limit": 1})
    index = states.index.strip("`").replace("``", "`").replace("%%", "%")
    steps = [str(cell) for row in plan for cell in row]
    if index not in steps or any("filesort" in step or "temporary" in step for step in steps):
        raise TableError(
            f"{states.name}: the server would not read pending rows in the order of the index "
            f"{states.index} (EXPLAIN: {' '.join(steps)}). Run ANALYZE TABLE {states.table}"
        )
