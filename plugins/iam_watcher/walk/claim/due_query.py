"""The question whether rows of a table are due, which the schedule `rows_in_state` asks every second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.database.column import quoted
from iam_watcher.walk.claim.find_states import column_of, index_of, read_shape

if TYPE_CHECKING:
    from iam_watcher.database.transactions import Transactions

# What tells the first row that is due from others; NULL if none is.
FIRST = (
    "(SELECT CONCAT_WS(',', {key}) FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(pending)s{fresh} ORDER BY {in_order} LIMIT 1)"
)
FIRST_RETRY = (
    "(SELECT CONCAT_WS(',', {retry_at}, {key}) FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(pending)s AND {retry_at} <= NOW(6) ORDER BY {retry_at}, {in_order} LIMIT 1)"
)
FIRST_EXPIRED = (
    "(SELECT CONCAT_WS(',', {claimed_at}, {key}) FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(working)s AND {claimed_at} < NOW(6) - INTERVAL %(timeout)s SECOND LIMIT 1)"
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
    names = {
        "key": found.key.quoted,
        "in_order": found.key.ordered,
        "table": found.quoted,
        "state": state.quoted,
    }
    retry_at = None
    if retry_at_column is not None:
        retry_at = column_of(columns, table, "retry_at_column", retry_at_column)
        names["retry_at"] = retry_at.quoted
    names["index"] = quoted(index_of(indexes, found, state, retry_at))
    names["fresh"] = "" if retry_at is None else f" AND {retry_at.quoted} IS NULL"
    parts = [FIRST] if retry_at is None else [FIRST, FIRST_RETRY]
    if claimed_at_column is not None:
        names["claimed_at"] = column_of(columns, table, "claimed_at_column", claimed_at_column).quoted
        parts.append(FIRST_EXPIRED)
    query = f"COALESCE({', '.join(part.format(**names) for part in parts)})"
    return query, {"pending": claim, "working": working, "timeout": claim_timeout}
