"""Moves a DAG on to its next tick when the scheduler's transaction commits.

A tick is dropped by an exception, and what was written to the session before an exception is lost where
the scheduler creates each run within a savepoint (Airflow's pull request 71287). The scheduler would come
to the same tick in each of its loops, until the file is parsed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.models.dag import DagModel
    from airflow.timetables.base import DagRunInfo
    from sqlalchemy.orm import Session

_PENDING = "iam_watcher.next_ticks"


def store_at_commit(session: Session, dag_model: DagModel, following: DagRunInfo | None) -> None:
    """Have `following` stored as the DAG's next run, instead of the one that is stored now."""
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

    if session.in_nested_transaction():  # The release of a savepoint is announced as a commit, too.
        return
    pending: dict[str, tuple[Any, dict[str, Any]]] = session.info.pop(_PENDING, {})
    for dag_id, (dropped, columns) in pending.items():
        ours = DagModel.dag_id == dag_id, DagModel.next_dagrun_create_after == dropped
        session.execute(update(DagModel).where(*ours).values(**columns))
