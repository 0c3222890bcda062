"""Reads a DAG's past from Airflow's database: active runs, and whether the deployment was up.

Only the scheduler and the dag-processor use this module, with their own session. It writes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from iam_watcher.airflow_internals import runs

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

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
        session = runs.session_of(row)
        return None if session is None else cls(session, row.dag_id)

    def going_at(self, tick: datetime) -> list[datetime | None]:
        """Return the end of each run that was active at `tick`, or None for a run that is still active."""
        return runs.ends_of_runs_going_at(self.session, self._dag_id, tick)

    def has_automated_run(self) -> bool:
        """Return whether the schedule ever started a run."""
        return runs.last_scheduled_run(self.session, self._dag_id) is not None

    def was_up_at(self, moment: datetime) -> bool:
        """Return whether this process was running, and the DAG known and not paused, since `moment`.

        This distinguishes a slow scheduler from one that was down.
        """
        if datetime.now(UTC) - moment > _SLOWEST or moment < _process_start():
            return False
        return not self.was_off_at(moment)

    def was_off_at(self, moment: datetime) -> bool:
        """Return whether the DAG was not known or paused at `moment`.

        Airflow stores the time of an unpause in its audit log only, so an unpause that is not in the log is
        not noticed.
        """
        if runs.was_unpaused_after(self.session, self._dag_id, moment):
            return True
        known = runs.known_since(self.session, self._dag_id)
        return known is not None and known > moment


def _process_start() -> datetime:
    from psutil import Process  # type: ignore[import-untyped]

    return datetime.fromtimestamp(Process().create_time(), UTC)
