"""Interval after completion: `@after 5m`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from iam_watcher.timetables.schedule_timetable import LastRun, ScheduleTimetable

if TYPE_CHECKING:
    from airflow.timetables.base import DagRunInfo, TimeRestriction


class AfterTimetable(ScheduleTimetable):
    """A run so long after the last automated run ended, whether it succeeded or not.

    The first run starts at once. Manual runs don't wait and don't count. While a run is going there is
    no next run: it is known when the run has ended, at that moment or at the next parse of the file.
    """

    # The distance of two runs isn't known beforehand: nothing to backfill, nothing to draw in a calendar.
    periodic = False

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> AfterTimetable:
        """Make the timetable that `serialize` wrote."""
        return cls(cls.stored_schedule(data))

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the run after the last one, or None while that is going."""
        if last_dagrun_info is None:
            now = datetime.now(UTC)
            return self.restricted(max(now, restriction.earliest or now), restriction)
        ended: datetime | None = last_dagrun_info.run_after
        if isinstance(last_dagrun_info, LastRun):
            ended = last_dagrun_info.dag_run.end_date
        if ended is None:
            return None
        return self.restricted(self.schedule.next(ended), restriction)
