"""Computes the next run when a run ends: Airflow itself does so only when it creates one or parses the file.

So a tick that came while the run was going is settled at once, and the interval after completion counts
from the completion, however short it is. Without this listener both happen at the next parse, or when
the scheduler comes to the tick. It runs in the scheduler (and in the API server, when a person sets the
state of a run), within the transaction that ends the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.listeners import hookimpl

from iam_watcher.timetables.base import ScheduleTimetable

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:  # noqa: ARG001  pluggy passes by name
    """Compute the next run."""
    _compute_next_run(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:  # noqa: ARG001  pluggy passes by name
    """Compute the next run: a failure never stops a schedule."""
    _compute_next_run(dag_run)


def _compute_next_run(dag_run: DagRun) -> None:
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunType
    from sqlalchemy import select
    from sqlalchemy.orm import object_session

    dag, session = dag_run.dag, object_session(dag_run)
    if dag is None or session is None or not isinstance(dag.timetable, ScheduleTimetable):
        return
    dag_model = session.get(DagModel, dag_run.dag_id)
    if dag_model is None:
        return
    last = session.scalar(
        select(DagRun)
        .where(DagRun.dag_id == dag_run.dag_id, DagRun.run_type == DagRunType.SCHEDULED)
        .order_by(DagRun.logical_date.desc())
        .limit(1)
    )
    if last is not None:
        dag_model.calculate_dagrun_date_fields(dag, reference_run=last)
