"""Runs as a scheduler would have left them, written into Airflow's own database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import DAG
    from sqlalchemy.orm import Session

BUNDLE = "dags-folder"


def store(dag: DAG, session: Session) -> None:
    """Store a DAG as the dag-processor does."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    stored = LazyDeserializedDAG.from_dag(dag)
    SerializedDAG.bulk_write_to_db(BUNDLE, None, [stored], session=session)
    session.commit()
    SerializedDagModel.write_dag(stored, bundle_name=BUNDLE, session=session)
    session.commit()


def add_run(
    session: Session,
    dag_id: str,
    *,
    at: datetime,
    state: str,
    acquire: str = "success",
    seconds: float = 0.2,
    user: str | None = None,
    xcoms: dict[tuple[str, str], Any] | None = None,
) -> str:
    """Write one run and return its id.

    Args:
        session: of Airflow's database.
        dag_id: of a watcher that is stored.
        at: the moment that it is for.
        state: of the run.
        acquire: state of its first task.
        seconds: how long it took.
        user: who triggered it.
        xcoms: (task, key) -> value.
    """
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.xcom import XComModel
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    kind = DagRunType.MANUAL if user else DagRunType.SCHEDULED
    stored: Any = SerializedDagModel.get_dag(dag_id, session=session)
    run = stored.create_dagrun(
        run_id=f"{kind}__{at.isoformat()}",
        logical_date=at,
        data_interval=(at, at),
        run_after=at,
        run_type=kind,
        triggered_by=DagRunTriggeredByType.UI if user else DagRunTriggeredByType.TIMETABLE,
        triggering_user_name=user,
        state=state,
        session=session,
    )
    run.start_date = run.queued_at = at
    run.end_date = None if state in ("running", "queued") else at + timedelta(seconds=seconds)
    for ti in run.get_task_instances(session=session):
        ti.state = acquire if ti.task_id == "acquire" else state
    session.flush()
    session.add_all(
        XComModel(dag_run_id=run.id, dag_id=dag_id, run_id=run.run_id, task_id=task, key=key, value=value)
        for (task, key), value in (xcoms or {}).items()
    )
    session.flush()
    run_id: str = run.run_id
    return run_id


def report(table: str, *, examined: int, changed: int, **facts: Any) -> dict[str, Any]:
    """Return a run report as a table job returns it."""
    return {
        "table": table,
        "dry_run": False,
        "examined": examined,
        "matched": changed,
        "changed": changed,
        "skipped": {},
        "longest_chunk_seconds": 0.081,
        "duration_seconds": 0.23,
        "cut_off": "2026-08-25T00:00:00+00:00",
        "error": None,
        "archive": None,
        **facts,
    }
