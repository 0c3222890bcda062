"""Names of Airflow that are used in the scheduler and the dag-processor: tables of the metadata database.

Airflow documents none of its tables for plugins. But a custom timetable is public, and Airflow hands it rows
of these tables in a session; only these tables say whether a run was active at some moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.timetables.base import DagRunInfo
    from sqlalchemy.orm import Session

# Audit entries of an unpause. The one of the page for many DAGs at once names no DAG.
UNPAUSES = ("patch_dag", "patch_dags", "cli_dag_unpause")


def session_of(row: Any) -> Session | None:
    """Return the session that a row belongs to."""
    from sqlalchemy.orm import object_session

    return object_session(row)


def ends_of_runs_going_at(session: Session, dag_id: str, tick: datetime) -> list[datetime | None]:
    """Return the ends of the runs that were going at `tick`; None for one that still is.

    Manual runs count, backfills don't, as for `max_active_runs`.
    """
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunType
    from sqlalchemy import or_, select

    going = select(DagRun.end_date).where(
        DagRun.dag_id == dag_id,
        DagRun.run_type != DagRunType.BACKFILL_JOB,
        DagRun.run_after < tick,
        or_(DagRun.end_date.is_(None), DagRun.end_date > tick),
    )
    return list(session.scalars(going))


def last_scheduled_run(session: Session, dag_id: str) -> DagRun | None:
    """Return the last run that the schedule started."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunType
    from sqlalchemy import select

    scheduled = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_type == DagRunType.SCHEDULED)
    return session.scalar(scheduled.order_by(DagRun.logical_date.desc()).limit(1))


def was_unpaused_after(session: Session, dag_id: str, moment: datetime) -> bool:
    """Return whether the audit log has an unpause of the DAG after `moment`.

    Airflow keeps no other time of an unpause.
    """
    from airflow.models.log import Log
    from sqlalchemy import or_, select

    unpaused = select(Log.id).where(
        Log.event.in_(UNPAUSES), Log.dttm > moment, or_(Log.dag_id == dag_id, Log.dag_id.is_(None))
    )
    return session.scalar(unpaused.limit(1)) is not None


def known_since(session: Session, dag_id: str) -> datetime | None:
    """Return when Airflow first parsed the DAG."""
    from airflow.models.dag_version import DagVersion
    from sqlalchemy import func, select

    return session.scalar(select(func.min(DagVersion.created_at)).where(DagVersion.dag_id == dag_id))


def model_of(session: Session, dag_id: str) -> DagModel | None:
    """Return the row that keeps when the next run of the DAG is due."""
    from airflow.models.dag import DagModel

    return session.get(DagModel, dag_id)


def update_room_for_runs(session: Session, dag_model: DagModel) -> None:
    """Store whether the DAG has as many runs as it may have.

    `DagRun.active_runs_of_dags` and `DagModel.exceeds_max_non_backfill`. Airflow stores it when it creates a
    run, and so too late for one that a person started.
    """
    from airflow.models.dagrun import DagRun

    dag_id = dag_model.dag_id
    runs = DagRun.active_runs_of_dags(dag_ids=[dag_id], exclude_backfill=True, session=session)
    dag_model.exceeds_max_non_backfill = runs.get(dag_id, 0) >= (dag_model.max_active_runs or 0)


def compute_next_run(dag_model: DagModel, dag: Any, last: DagRun) -> None:
    """Store the DAG's next run.

    `DagModel.calculate_dagrun_date_fields`, which the scheduler itself calls when it creates a run.
    """
    dag_model.calculate_dagrun_date_fields(dag, reference_run=last)


def next_run_columns(following: DagRunInfo | None) -> dict[str, datetime | None]:
    """Return what the columns of a DagModel are when `following` is the DAG's next run."""
    interval = following and following.data_interval
    return {
        "next_dagrun": following and following.logical_date,
        "next_dagrun_data_interval_start": interval and interval.start,
        "next_dagrun_data_interval_end": interval and interval.end,
        "next_dagrun_create_after": following and following.run_after,
    }


def replace_next_run(
    session: Session, dag_id: str, *, stored: datetime | None, columns: Mapping[str, Any]
) -> None:
    """Update the columns of a DagModel, if its next run is still the one at `stored`."""
    from airflow.models.dag import DagModel
    from sqlalchemy import update

    ours = DagModel.dag_id == dag_id, DagModel.next_dagrun_create_after == stored
    session.execute(update(DagModel).where(*ours).values(**columns))
