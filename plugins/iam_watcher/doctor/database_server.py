"""The databases of the jobs: connection, clock, tables, the rights on them, and what row processing needs."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from iam_watcher.database import rights
from iam_watcher.database.catalogue import read_table
from iam_watcher.database.hook import connect
from iam_watcher.database.server_errors import DENIED, RETRIED
from iam_watcher.database.session import clocks
from iam_watcher.database.transactions import Transactions
from iam_watcher.doctor.clocks import check_clock
from iam_watcher.doctor.finding import Finding
from iam_watcher.errors import DatabaseUnavailable, TableError, WalkError
from iam_watcher.jobs.anonymize_rows import AnonymizeRowsOperator
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.process_rows import ProcessRowsOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iam_watcher.database.connection import Connection
    from iam_watcher.doctor.watchers import Watchers
    from iam_watcher.jobs.rows_in_state_trigger import RowsInStateTrigger


def check_database(conn_id: str, watchers: Watchers) -> Iterator[Finding]:
    """Check the database behind an Airflow connection for the jobs and the schedules that use it.

    Args:
        conn_id: the connection.
        watchers: all watchers.
    """
    try:
        with closing(connect(conn_id)) as connection:
            now, here = clocks(connection)
            yield from check_clock(f"the database of {conn_id!r}", now - here)
            for job in watchers.jobs:
                if job.mysql_conn_id == conn_id:
                    yield from _faults(connection, job)
            for dag_id, trigger in watchers.row_triggers:
                if trigger.mysql_conn_id == conn_id:
                    yield from _faults_of_schedule(connection, dag_id, trigger)
    except DatabaseUnavailable as error:
        yield Finding(f"{error}. Correct the connection {conn_id!r} in Airflow, or the server")


def _faults(connection: Connection, job: Any) -> Iterator[Finding]:
    """Check what a job needs of its table. A name that is a template is known only in a run."""
    table, statements = _needs(job)
    if not table or "{{" in table:
        return
    user = f"The task {job.dag_id}.{job.task_id}"
    name = f"{user} can't use the table {table}"
    fault = _fault_of_table(connection, name, table, job.mysql_conn_id)
    if fault is not None:
        yield fault
    for statement, column in statements:
        found = rights.refusal(connection, statement, table, column)
        # The first line says why the server refuses a statement for another reason than a right.
        if found is None or (fault is not None and found[0] not in DENIED):
            continue
        if statement is rights.SKIPS_LOCKED and found[0] == rights.SYNTAX_ERROR:
            yield Finding(f"{name}: {rights.NO_SKIP_LOCKED}")
            continue
        right = statement.partition(" ")[0] + (f" ({column})" if column else "")
        yield _refused(name, found, right, job.mysql_conn_id)
    if isinstance(job, ProcessRowsOperator) and rights.is_statement_based(connection):
        yield Finding(f"{user} can't claim rows: {rights.STATEMENT_BASED}")


def _faults_of_schedule(
    connection: Connection, dag_id: str, trigger: RowsInStateTrigger
) -> Iterator[Finding]:
    """Check that the trigger of a schedule `rows_in_state` can read its table."""
    table = trigger.watched.table
    name = f"The schedule of {dag_id} can't read the table {table}"
    if (fault := _fault_of_table(connection, name, table, trigger.mysql_conn_id)) is not None:
        yield fault


def _fault_of_table(connection: Connection, name: str, table: str, conn_id: str) -> Finding | None:
    """Check that the account may read a table, and that a walk can go along one of its keys."""
    if (found := rights.refusal(connection, rights.READS, table)) is not None:
        return _refused(name, found, "SELECT", conn_id)
    try:
        read_table(Transactions(connection, tries=1), table)
    except TableError as error:
        return Finding(f"{name}: {error.facts}")
    except WalkError as error:
        return _not_checked(name, error.facts)
    return None


def _refused(name: str, found: tuple[int, str], right: str, conn_id: str) -> Finding:
    code, text = found
    if code in RETRIED:
        return _not_checked(name, f"error {code}, {text}")
    return Finding(
        f"{name}: error {code}, {text}. Grant the right {right} on the table to the account of the "
        f"connection {conn_id!r} (include/sql/grants.sql has IAM's), or correct the name"
    )


def _not_checked(name: str, error: str) -> Finding:
    return Finding(f"{name} at the moment: {error}. Run the doctor again", unknown=True)


def _needs(job: Any) -> tuple[str, list[tuple[str, str]]]:
    """Return the table of a job, and the statements (with a column) that change it."""
    if isinstance(job, DisableInactiveUsersOperator):
        return job.accounts.table, [(rights.UPDATES, job.accounts.status)]
    if isinstance(job, PurgeRowsOperator):
        return job.table, [(rights.DELETES, "")]
    if isinstance(job, AnonymizeRowsOperator):
        return job.table, [*((rights.UPDATES, column) for column in job.set)]
    if isinstance(job, ProcessRowsOperator):
        column = job.processing.state_column
        return job.processing.table, [(rights.UPDATES, column), (rights.SKIPS_LOCKED, "")]
    # The jobs that undo a run are triggered by hand, and their rights may be granted only then.
    return "", []
