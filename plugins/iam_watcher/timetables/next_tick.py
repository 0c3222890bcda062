"""Stores a DAG's next tick when the scheduler's transaction commits.

The timetable drops a tick by raising an exception. If the scheduler creates each run in a savepoint
(Airflow's pull request 71287), the exception also discards what was written to the session before. The
scheduler would then handle the same tick in each of its loops, until the file is parsed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iam_watcher.airflow_internals.runs import next_run_columns, replace_next_run

if TYPE_CHECKING:
    from airflow.models.dag import DagModel
    from airflow.timetables.base import DagRunInfo
    from sqlalchemy.orm import Session

_PENDING = "iam_watcher.next_ticks"


def store_at_commit(session: Session, dag_model: DagModel, following: DagRunInfo | None) -> None:
    """Store `following` as the DAG's next run when the session commits."""
    from sqlalchemy import event

    columns = next_run_columns(following)
    pending = session.info.setdefault(_PENDING, {})
    pending[dag_model.dag_id] = (dag_model.next_dagrun_create_after, columns)
    if not event.contains(session, "before_commit", _store):
        event.listen(session, "before_commit", _store)


def _store(session: Session) -> None:
    if session.in_nested_transaction():  # SQLAlchemy sends this event for the release of a savepoint too.
        return
    pending: dict[str, tuple[Any, dict[str, Any]]] = session.info.pop(_PENDING, {})
    for dag_id, (dropped, columns) in pending.items():
        replace_next_run(session, dag_id, stored=dropped, columns=columns)
