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
        runs = type(dag_run).active_runs_of_dags(
            dag_ids=[dag_run.dag_id], exclude_backfill=True, session=session
        )
        dag_model.exceeds_max_non_backfill = runs.get(dag_run.dag_id, 0) >= (dag_model.max_active_runs or 0)


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:  # noqa: ARG001  pluggy passes by name
    """Compute and store the next run."""
    _compute_next_run(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:  # noqa: ARG001  pluggy passes by name
    """Compute and store the next run: a failure never stops a schedule."""
    _compute_next_run(dag_run)


def _compute_next_run(dag_run: DagRun) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunType
    from sqlalchemy import select

    if found := _session_and_model(dag_run):
        session, dag_model = found
        last = session.scalar(
            select(DagRun)
            .where(DagRun.dag_id == dag_run.dag_id, DagRun.run_type == DagRunType.SCHEDULED)
            .order_by(DagRun.logical_date.desc())
            .limit(1)
        )
        if last is not None:
            dag_model.calculate_dagrun_date_fields(dag_run.get_dag(), reference_run=last)


def _session_and_model(dag_run: DagRun) -> tuple[Session, DagModel] | None:
    """Return the session and the DagModel, or None if the run's DAG has another timetable."""
    from airflow.models.dag import DagModel
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None or dag_run.dag is None:
        return None
    if not isinstance(dag_run.dag.timetable, ScheduleTimetable):
        return None
    dag_model = session.get(DagModel, dag_run.dag_id)
    return (session, dag_model) if dag_model else None
