"""A schedule that starts a run when a table has rows to process, for Watchers of `process_rows`.

The triggerer asks the database once a second: one statement for all watchers that use the same Airflow
connection. It looks at the level, not at the change: rows exist, or they don't. So no row is forgotten if a
DAG was paused, a run failed or the triggerer was restarted. A run every ten minutes is the net below.
"""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import Asset, AssetOrTimeSchedule, AssetWatcher, DeltaTriggerTimetable

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError
from iam_watcher.job_tasks import MYSQL_CONN_ID
from iam_watcher.jobs.process_rows import ProcessRowsOperator, process_rows
from iam_watcher.jobs.row_processing.arguments import (
    CLAIMED_AT,
    OF_A_CLAIM,
    RowProcessing,
    check_claim_timeout,
    check_columns,
    check_holding,
    check_states,
)
from iam_watcher.jobs.rows_in_state_trigger import RowsInStateTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk.bases.timetable import BaseTimetable

EVERY = timedelta(minutes=10)
NO_NAMES = {"others", "operator_arguments"}


def rows_in_state(
    table: str,
    *,
    state_column: str,
    claim: str | int,
    working: str | int | None = None,
    claimed_at_column: str | None = None,
    retry_at_column: str | None = None,
    claim_timeout: timedelta = RowProcessing.claim_timeout,
    mysql_conn_id: str = MYSQL_CONN_ID,
    every: timedelta = EVERY,
    **others: Any,
) -> BaseTimetable:
    """Return a schedule for a Watcher: Airflow creates a run within about 3 s after a row becomes due.

    A row is due if it is pending and its retry time is over, or if its claim was not renewed. While rows are
    due, one run follows another. The triggerer must be running.

    Args:
        table: see `ProcessRowsOperator`.
        state_column: see `ProcessRowsOperator`.
        claim: see `ProcessRowsOperator`.
        working: see `ProcessRowsOperator`.
        claimed_at_column: see `ProcessRowsOperator`.
        retry_at_column: see `ProcessRowsOperator`.
        claim_timeout: see `ProcessRowsOperator`.
        mysql_conn_id: see `ProcessRowsOperator`.
        every: a run starts at least once in this time, even if the trigger found no row.
        others: other arguments of `process_rows`. The schedule ignores them, so both can get the same
            arguments.

    Raises:
        JobArgumentError: an argument is not valid, or neither `process_rows` nor this function has it.
    """
    _check_names(others)
    arguments.identifier("table", table)
    arguments.connection_id("mysql_conn_id", mysql_conn_id)
    check_claim_timeout(claim_timeout)
    arguments.duration("every", every)
    states = {"claim": claim, **({} if working is None else {"working": working})}
    check_states(states | {name: others[name] for name in ("done", "failed") if name in others})
    further = {name: others.get(name) for name in (*OF_A_CLAIM, "attempts_column", "error_column")}
    further |= {"claimed_at_column": claimed_at_column, "retry_at_column": retry_at_column}
    if working is None:
        check_holding({name: further[name] for name in OF_A_CLAIM})
    else:
        claimed_at_column = further["claimed_at_column"] = claimed_at_column or CLAIMED_AT
    check_columns(state_column, {name: column for name, column in further.items() if column is not None})
    trigger = RowsInStateTrigger(
        mysql_conn_id=mysql_conn_id,
        table=table,
        state_column=state_column,
        claim=claim,
        working=working,
        claimed_at_column=claimed_at_column,
        retry_at_column=retry_at_column,
        claim_timeout=claim_timeout.total_seconds(),
    )
    place = "/".join(quote(str(part), safe="") for part in (mysql_conn_id, table, state_column, claim))
    name = f"{claim} rows of {table} ({mysql_conn_id})"
    asset = Asset(
        name=name, uri=f"iam-watcher://{place}", watchers=[AssetWatcher(name=name, trigger=trigger)]
    )
    return AssetOrTimeSchedule(timetable=DeltaTriggerTimetable(every), assets=asset)


def _check_names(others: Mapping[str, object]) -> None:
    """Check that `process_rows` has each of these arguments: a misspelt one would be ignored."""
    functions = (rows_in_state, process_rows)
    known = {name for function in functions for name in inspect.signature(function).parameters} - NO_NAMES
    known |= arguments.names_of(ProcessRowsOperator)
    if unknown := sorted(others.keys() - known):
        near = arguments.nearest(unknown, known)
        meant = f"; did you mean {', '.join(map(repr, near))}?" if near else "."
        raise JobArgumentError(
            f"rows_in_state has {', '.join(map(repr, unknown))}, which is no argument of rows_in_state or "
            f"process_rows{meant} Correct the name or remove it"
        )
