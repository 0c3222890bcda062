"""Updates the next run that Airflow stores, when a run starts and when it ends.

Airflow computes the next run only when it creates a run and when it parses the file, and only then counts a
manual run against `max_active_runs`. With this listener, ticks during an active run are decided when the run
ends, and an interval after completion begins when the run ends. Without it, both happen at the next parse, or
when the scheduler handles the tick.

Airflow calls the listener in the scheduler (and in the API server, when a person sets the state of a run),
inside the transaction that starts or ends the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.listeners import hookimpl

from iam_watcher.airflow_internals import runs
from iam_watcher.timetables.schedule_timetable import ScheduleTimetable

if TYPE_CHECKING:
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from sqlalchemy.orm import Session


@hookimpl
def on_dag_run_running(dag_run: DagRun, msg: str) -> None:  # noqa: ARG001  pluggy passes by name
    """Store whether the DAG has as many active runs as it may have."""
    if found := _session_and_model(dag_run):
        session, dag_model = found
        runs.update_room_for_runs(session, dag_model)


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:  # noqa: ARG001  pluggy passes by name
    """Compute and store the next run."""
    _compute_next_run(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:  # noqa: ARG001  pluggy passes by name
    """Compute and store the next run: a failure never stops a schedule."""
    _compute_next_run(dag_run)


def _compute_next_run(dag_run: DagRun) -> None:
    if found := _session_and_model(dag_run):
        session, dag_model = found
        last = runs.last_scheduled_run(session, dag_run.dag_id)
        if last is not None:
            runs.compute_next_run(dag_model, dag_run.get_dag(), last)


def _session_and_model(dag_run: DagRun) -> tuple[Session, DagModel] | None:
    """Return the session and the DagModel, or None if the run's DAG has another timetable."""
    session = runs.session_of(dag_run)
    if session is None or dag_run.dag is None:
        return None
    if not isinstance(dag_run.dag.timetable, ScheduleTimetable):
        return None
    dag_model = runs.model_of(session, dag_run.dag_id)
    return (session, dag_model) if dag_model else None
