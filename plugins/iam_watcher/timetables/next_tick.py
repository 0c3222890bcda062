"""Stores a DAG's next tick when the scheduler's transaction commits.

The timetable drops a tick by raising an exception. If the scheduler creates each run in a savepoint
(Airflow's pull request 71287), the exception also discards what was written to the session before. The
scheduler would then handle the same tick in each of its loops, until the file is parsed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.models.dag import DagModel
    from airflow.timetables.base import DagRunInfo
    from sqlalchemy.orm import Session

_PENDING = "iam_watcher.next_ticks"


def store_at_commit(session: Session, dag_model: DagModel, following: DagRunInfo | None) -> None:
    """Store `following` as the DAG's next run when the session commits."""
    from sqlalchemy import event

    interval = following and following.data_interval
    columns = {
        "next_dagrun": following and following.logical_date,
        "next_dagrun_data_interval_start": interval and interval.start,
        "next_dagrun_data_interval_end": interval and interval.end,
        "next_dagrun_create_after": following and following.run_after,
    }
    pending = session.info.setdefault(_PENDING, {})
    pending[dag_model.dag_id] = (dag_model.next_dagrun_create_after, columns)
    if not event.contains(session, "before_commit", _store):
        event.listen(session, "before_commit", _store)


def _store(session: Session) -> None:
    from airflow.models.dag import DagModel
    from sqlalchemy import update

    if session.in_nested_transaction():  # SQLAlchemy sends this event for the release of a savepoint too.
        return
    pending: dict[str, tuple[Any, dict[str, Any]]] = session.info.pop(_PENDING, {})
    for dag_id, (dropped, columns) in pending.items():
        ours = DagModel.dag_id == dag_id, DagModel.next_dagrun_create_after == dropped
        session.execute(update(DagModel).where(*ours).values(**columns))
