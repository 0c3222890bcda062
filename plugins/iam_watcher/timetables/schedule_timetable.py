"""The base class of both timetables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, Timetable

from iam_watcher.schedule import Cron, Schedule, describe, parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow.models.dagrun import DagRun
    from airflow.timetables.base import TimeRestriction


class LastRun(DagRunInfo):
    """The last automated run: its tick, and also the run itself."""

    dag_run: DagRun

    @classmethod
    def of(cls, info: DagRunInfo, dag_run: DagRun) -> LastRun:
        """Return Airflow's info of a run together with the run."""
        last = cls(*info)
        last.dag_run = dag_run
        return last


class ScheduleTimetable(Timetable):
    """A timetable that gets its ticks from a `Schedule`."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.description = describe(schedule)

    @property
    def summary(self) -> str:
        """The spec, which Airflow's list of DAGs shows: with `~` where the file has it."""
        return self.schedule.shown

    def serialize(self) -> dict[str, Any]:
        """Return the data from which `deserialize` makes this timetable."""
        data = {"spec": str(self.schedule)}
        if isinstance(self.schedule, Cron):
            data["dst"] = self.schedule.dst
            if self.schedule.splay:
                data["splay"] = self.schedule.splay
        return data

    @staticmethod
    def stored_schedule(data: Mapping[str, Any]) -> Schedule:
        """Return the schedule that `serialize` wrote. Its spec has the values of `~`, so no id is needed.

        Raises:
            InvalidSpec: `serialize` did not write the spec.
        """
        schedule = parse(str(data["spec"]), dst=data.get("dst", "robfig"))
        return replace(schedule, splay=data.get("splay", "")) if isinstance(schedule, Cron) else schedule

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        """Return an interval of one moment: these runs work on "now", not on a period."""
        return DataInterval.exact(run_after)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the next run, for callers of Airflow's older interface that only know a data interval."""
        last = last_automated_data_interval and DagRunInfo.exact(last_automated_data_interval.end)
        return self.next_dagrun_info_v2(last_dagrun_info=last, restriction=restriction)

    def run_info_from_dag_run(self, *, dag_run: DagRun) -> DagRunInfo:
        """Return the last automated run as a `LastRun`."""
        return LastRun.of(super().run_info_from_dag_run(dag_run=dag_run), dag_run)

    @staticmethod
    def restricted(moment: datetime | None, restriction: TimeRestriction) -> DagRunInfo | None:
        """Return the run at `moment`, or None if the DAG ends before it."""
        if moment is None or (restriction.latest is not None and moment > restriction.latest):
            return None
        return DagRunInfo.exact(pendulum.instance(moment))
