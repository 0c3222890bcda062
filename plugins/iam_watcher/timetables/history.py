"""Reads a DAG's past from Airflow's database: active runs, and whether the deployment was up.

Only the scheduler and the dag-processor use this module, with their own session. It writes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# Audit entries of an unpause. The entry of the UI for many DAGs at once names no DAG.
_UNPAUSES = ("patch_dag", "patch_dags", "cli_dag_unpause")
# If the scheduler handles a tick later than this, the deployment counts as down.
_SLOWEST = timedelta(minutes=5)


class History:
    """The past of one DAG.

    Args:
        session: the database session of the scheduler or the dag-processor.
        dag_id: the id of the DAG.
    """

    def __init__(self, session: Session, dag_id: str) -> None:
        self.session = session
        self._dag_id = dag_id

    @classmethod
    def of(cls, row: Any) -> History | None:
        """Return the history of a DagModel's or DagRun's DAG, or None if the row is in no session."""
        from sqlalchemy.orm import object_session

        session = object_session(row)
        return None if session is None else cls(session, row.dag_id)

    def going_at(self, tick: datetime) -> list[datetime | None]:
        """Return the end of each run that was active at `tick`, or None for a run that is still active.

        As for `max_active_runs`, manual runs count and backfills don't.
        """
        from airflow.models.dagrun import DagRun
        from airflow.utils.types import DagRunType
        from sqlalchemy import or_, select

        going = select(DagRun.end_date).where(
            DagRun.dag_id == self._dag_id,
            DagRun.run_type != DagRunType.BACKFILL_JOB,
            DagRun.run_after < tick,
            or_(DagRun.end_date.is_(None), DagRun.end_date > tick),
        )
        return list(self.session.scalars(going))

    def has_automated_run(self) -> bool:
        """Return whether the schedule ever started a run."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.types import DagRunType
        from sqlalchemy import select

        return (
            self.session.scalar(
                select(DagRun.id)
                .where(DagRun.dag_id == self._dag_id, DagRun.run_type == DagRunType.SCHEDULED)
                .limit(1)
            )
            is not None
        )

    def was_up_at(self, moment: datetime) -> bool:
        """Return whether this process was running, and the DAG known and not paused, since `moment`.

        This distinguishes a slow scheduler from one that was down. Airflow stores the time of an unpause in
        its audit log only, so an unpause that is not in the log is not noticed.
        """
        if datetime.now(UTC) - moment > _SLOWEST or moment < _process_start():
            return False
        from airflow.models.dag_version import DagVersion
        from airflow.models.log import Log
        from sqlalchemy import func, or_, select

        unpaused = select(Log.id).where(
            Log.event.in_(_UNPAUSES),
            Log.dttm > moment,
            or_(Log.dag_id == self._dag_id, Log.dag_id.is_(None)),
        )
        if self.session.scalar(unpaused.limit(1)) is not None:
            return False
        known = self.session.scalar(
            select(func.min(DagVersion.created_at)).where(DagVersion.dag_id == self._dag_id)
        )
        return known is None or known <= moment


def _process_start() -> datetime:
    from psutil import Process  # type: ignore[import-untyped]

    return datetime.fromtimestamp(Process().create_time(), UTC)
