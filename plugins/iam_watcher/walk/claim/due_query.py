"""The question whether rows of a table are due: one statement, with one row of an index for each part.

The schedule `rows_in_state` asks it every second, and so does a run that waits for rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.database.column import quoted
from iam_watcher.walk.claim import state_values
from iam_watcher.walk.claim.find_states import column_of, index_of, read_shape
from iam_watcher.walk.claim.row_states import IS_EXPIRED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.claim.row_states import RowStates

# A text that identifies the first row that is due; NULL if no row is due.
FIRST = (
    "(SELECT CONCAT_WS(',', {key}) FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(pending)s{fresh} ORDER BY {in_order} LIMIT 1)"
)
FIRST_RETRY = (
    "(SELECT CONCAT_WS(',', {retry_at}, {key}) FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(pending)s AND {retry_at} <= NOW(6) ORDER BY {retry_at}, {in_order} LIMIT 1)"
)
FIRST_EXPIRED = (
    "(SELECT CONCAT_WS(',', {claimed_at}, {key}) FROM {table} FORCE INDEX ({index}) WHERE {expired} LIMIT 1)"
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
    found, indexes = read_shape(db, table)
    columns = found.columns
    state = column_of(columns, table, "state_column", state_column)
    given = {"claim": claim} if working is None else {"claim": claim, "working": working}
    state_values.check(db, found, state, given)
    names = {
        "key": found.key.quoted,
        "in_order": found.key.ordered,
        "table": found.quoted,
        "state": state.quoted,
    }
    retry_at = None
    if retry_at_column is not None:
        retry_at = column_of(columns, table, "retry_at_column", retry_at_column)
    names["index"] = quoted(index_of(indexes, found, state, retry_at))
    if claimed_at_column is not None:
        names["claimed_at"] = column_of(columns, table, "claimed_at_column", claimed_at_column).quoted
    return _first_due(names, retry_at), {"pending": claim, "working": working, "timeout": claim_timeout}


def is_due(db: Transactions, states: RowStates) -> bool:
    """Return whether a row is due, and end the transaction."""
    ((first,),) = db.read(f"SELECT {_first_due(states.names, states.retry_at)}", states.values)
    db.commit()
    return first is not None


def _first_due(names: Mapping[str, str], retry_at: Column | None) -> str:
    parts, more = [FIRST], {"fresh": ""}
    if retry_at is not None:
        parts.append(FIRST_RETRY)
        more = {"fresh": f" AND {retry_at.quoted} IS NULL", "retry_at": retry_at.quoted}
    if "claimed_at" in names:
        parts.append(FIRST_EXPIRED)
        more["expired"] = IS_EXPIRED.format(**names)
    return f"COALESCE({', '.join(part.format(**names, **more) for part in parts)})"
