"""Interval after completion: `@after 5m`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from iam_watcher.timetables.schedule_timetable import LastRun, ScheduleTimetable

if TYPE_CHECKING:
    from airflow.timetables.base import DagRunInfo, TimeRestriction


class AfterTimetable(ScheduleTimetable):
    """A run at a fixed time after the end of the last automated run, whether that run succeeded or failed.

    The first run starts at once. Manual runs don't wait, and don't change the schedule. During an active run
    there is no next run: it is known when the active run ends, or at the next parse of the file.
    """

    # The time between two runs is not known in advance, so Airflow can't backfill or draw a calendar.
    periodic = False

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> AfterTimetable:
        """Return the timetable that `serialize` wrote."""
        return cls(cls.stored_schedule(data))

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the run after the last one, or None while the last one is active."""
        if last_dagrun_info is None:
            now = datetime.now(UTC)
            return self.restricted(max(now, restriction.earliest or now), restriction)
        ended: datetime | None = last_dagrun_info.run_after
        if isinstance(last_dagrun_info, LastRun):
            ended = last_dagrun_info.dag_run.end_date
        if ended is None:
            return None
        return self.restricted(self.schedule.next(ended), restriction)
