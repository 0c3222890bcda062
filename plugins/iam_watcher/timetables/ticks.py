"""The timetable of cron, fixed rate and once: a run at each tick, or the reason for none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.timetables.base import TimeRestriction

from iam_watcher.errors import TickDropped
from iam_watcher.timetables.history import History
from iam_watcher.timetables.next_tick import store_at_commit
from iam_watcher.timetables.schedule_timetable import LastRun, ScheduleTimetable

if TYPE_CHECKING:
    from airflow.models.dag import DagModel
    from airflow.timetables.base import DagRunInfo

    from iam_watcher.schedule import Schedule

Overlap = Literal["skip", "delay", "allow"]

_LONGEST_GRACE = timedelta(hours=1)
# A tick of a DAG without runs stays due for this long, because the file can be parsed between the tick and
# the moment at which the scheduler handles it.
_SETTLING = timedelta(minutes=1)
_INSTANT = timedelta(microseconds=1)
_ANY_TIME = TimeRestriction(earliest=None, latest=None, catchup=False)


class TickTimetable(ScheduleTimetable):
    """A run at each tick of a schedule.

    Airflow stores one tick for each DAG (`DagModel.next_dagrun_create_after`). It computes this tick when it
    creates a run, and at each parse. When the tick is due and the DAG may have one more run, the scheduler
    calls `next_run_info_from_dag_model`, which decides.
    """

    def __init__(
        self, schedule: Schedule, *, overlap: Overlap = "skip", missed_grace: timedelta | None = None
    ) -> None:
        super().__init__(schedule)
        self.overlap = overlap
        self.missed_grace = missed_grace
        self.periodic = schedule.kind != "at"

    def serialize(self) -> dict[str, Any]:
        """Return the data from which `deserialize` makes this timetable."""
        grace = None if self.missed_grace is None else self.missed_grace.total_seconds()
        return {**super().serialize(), "overlap": self.overlap, "missed_grace": grace}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> TickTimetable:
        """Return the timetable that `serialize` wrote."""
        grace = data["missed_grace"]
        return cls(
            cls.stored_schedule(data),
            overlap=data["overlap"],
            missed_grace=None if grace is None else timedelta(seconds=grace),
        )

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the run of the tick that is due, or of the next tick.

        With `restriction.catchup` (the command line, backfills), return the tick after that of the last run.
        """
        now = datetime.now(UTC)
        floor = [last_dagrun_info.run_after] if last_dagrun_info else []
        if restriction.earliest is not None:
            floor.append(restriction.earliest - _INSTANT)
        if restriction.catchup:
            return self.restricted(self.schedule.next(max(floor, default=now)), restriction)
        due = self._due(last_dagrun_info, now)
        if due is None or (restriction.earliest is not None and due < restriction.earliest):
            due = self.schedule.next(max([now, *floor]))
        return self.restricted(due, restriction)

    def next_run_info_from_dag_model(self, *, dag_model: DagModel) -> DagRunInfo | None:
        """Return the run that the scheduler is about to create.

        Raises:
            TickDropped: the tick gets no run. The scheduler's commit stores the next tick.
        """
        info = super().next_run_info_from_dag_model(dag_model=dag_model)
        history = History.of(dag_model)
        now = datetime.now(UTC)
        if info is None or history is None or info.run_after > now:
            return info
        tick = self.schedule.latest(after=info.run_after - _INSTANT, until=now) or info.run_after
        reason = self._refusal(tick, history, now)
        if reason is None:
            return self.restricted(tick, _ANY_TIME)
        following = self.restricted(self.schedule.next(now), _ANY_TIME)
        store_at_commit(history.session, dag_model, following)
        raise TickDropped(
            f"the run of {dag_model.dag_id!r} at {tick.isoformat()}: {reason}; "
            f"the next is at {following.run_after.isoformat() if following else 'no time'}"
        )

    def _due(self, last: DagRunInfo | None, now: datetime) -> datetime | None:
        """Return the tick that is due and not decided yet, or None."""
        if last is None:
            tick = self.schedule.latest(after=now - _SETTLING, until=now)
            return tick if tick and now - tick < _half_interval(self.schedule, tick) else None
        if not isinstance(last, LastRun):
            return None
        tick = self.schedule.latest(after=last.run_after, until=now)
        return None if tick is None or self._is_settled(tick, last, now) else tick

    def _is_settled(self, tick: datetime, last: LastRun, now: datetime) -> bool:
        """Return whether a tick after that of the last run is already decided."""
        dag_model = last.dag_run.dag_model
        stored = dag_model.next_dagrun_create_after
        if stored is None or stored > now:
            # The scheduler or an earlier parse has decided, or the file had another schedule until now.
            return True
        history = History.of(last.dag_run)
        if self.overlap == "skip" and history is not None and history.going_at(tick):
            return True
        return dag_model.is_paused and now - tick >= self._grace(tick)

    def _refusal(self, tick: datetime, history: History, now: datetime) -> str | None:
        """Return why a due tick gets no run, or None if it gets a run."""
        going = history.going_at(tick)
        if going and self.overlap == "skip":
            return "another run was active then"
        # If it had to wait for active runs, it could not start before they ended.
        startable = max((end for end in going if end), default=tick)
        if history.was_up_at(startable):
            return None
        if not history.has_automated_run() and history.was_off_at(startable):
            return "it was before the DAG was added or unpaused, and a DAG without runs has missed nothing"
        late = now - tick
        if late < self._grace(tick):
            return None
        return f"it was missed, and was {late} ago, which is more than missed_grace"

    def _grace(self, tick: datetime) -> timedelta:
        if self.missed_grace is not None:
            return self.missed_grace
        return min(_half_interval(self.schedule, tick), _LONGEST_GRACE)


def _half_interval(schedule: Schedule, tick: datetime) -> timedelta:
    following = schedule.next(tick)
    return (following - tick) / 2 if following else timedelta.max
