"""Airflow timetables for schedules, with rules for ticks during an active run and for missed ticks.

* Cron, fixed rate and once (`TickTimetable`): a run at each tick. For a tick during an active run, `overlap`
  says whether it is skipped, delayed, or gets a run beside the active one. A tick is missed if the deployment
  was down or the DAG was paused. If it is the latest missed tick and younger than `missed_grace`, it gets a
  run.
* Interval after completion (`AfterTimetable`): a run at a fixed time after the end of the last automated run.

The scheduler does all of this itself: no task and no trigger waits for a tick.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args

import pendulum
from airflow.configuration import conf

from iam_watcher.errors import InvalidSpec, WatcherError
from iam_watcher.schedule import After, Dst, parse
from iam_watcher.timetables import listener
from iam_watcher.timetables.after import AfterTimetable
from iam_watcher.timetables.ticks import Overlap, TickTimetable

if TYPE_CHECKING:
    from airflow.timetables.base import Timetable

__all__ = ["LISTENERS", "TIMETABLES", "AfterTimetable", "Overlap", "TickTimetable", "timetable"]

TIMETABLES: list[type[Timetable]] = [TickTimetable, AfterTimetable]
LISTENERS: list[object] = [listener]


def timetable(
    spec: str,
    *,
    overlap: Overlap = "skip",
    missed_grace: timedelta | None = None,
    dst: Dst = "robfig",
    dag_id: str | None = None,
) -> Timetable:
    """Return the timetable of a spec. Without a prefix, its time zone is `[core] default_timezone`.

    Args:
        spec: see iam_watcher.schedule.
        overlap: what happens to a tick during an active run: "skip" it, "delay" it until the run ends (one
            run for all delayed ticks), or "allow" a run at its time.
        missed_grace: the latest missed tick gets a run if it is less than this time ago. Zero: missed
            ticks never get a run. Default: half the time to the next tick, at most an hour.
        dst: what a cron spec does when clocks change, see iam_watcher.schedule.parse.
        dag_id: decides the values of `~`.

    Raises:
        InvalidSpec: the spec is not valid, or it is a cron spec that never fires.
        WatcherError: `overlap` is unknown, or `missed_grace` is not a timedelta or is below zero.
    """
    if overlap not in get_args(Overlap):
        raise WatcherError(f"overlap={overlap!r}; expected one of {', '.join(get_args(Overlap))}")
    if missed_grace is not None and not (
        isinstance(missed_grace, timedelta) and missed_grace >= timedelta(0)
    ):
        raise WatcherError(f"missed_grace={missed_grace!r}; expected a timedelta of zero or more, or None")
    schedule = parse(spec, timezone=default_timezone(), dst=dst, dag_id=dag_id)
    if isinstance(schedule, After):
        return AfterTimetable(schedule)
    if schedule.kind == "cron" and schedule.next(datetime.now(UTC)) is None:
        raise InvalidSpec(spec, field="cron", part=str(schedule), expected="a date that comes")
    return TickTimetable(schedule, overlap=overlap, missed_grace=missed_grace)


def default_timezone() -> str:
    """Return the time zone of a cron spec without a prefix: `[core] default_timezone`."""
    name: str = conf.get("core", "default_timezone")
    if name == "system":
        name = pendulum.now().timezone_name or name
    return "UTC" if name.lower() == "utc" else name
