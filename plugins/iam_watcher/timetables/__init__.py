"""Schedules as Airflow timetables, and what becomes of a tick that comes at a bad moment.

* Cron, fixed rate and once (`TickTimetable`): a run at each tick. A tick that comes while a run is
  going is skipped, delayed or allowed beside it, as `overlap` says. A tick that was missed, because the
  deployment was down or the DAG paused, is made up for if it is the latest and younger than
  `missed_grace`.
* Interval after completion (`AfterTimetable`): a run so long after the last automated one ended.

No task and no trigger waits for a tick; all of it is the scheduler's own work.
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
) -> Timetable:
    """Return the timetable of a spec, by the clock of `[core] default_timezone` unless it names a zone.

    Args:
        spec: see iam_watcher.schedule.
        overlap: for a tick that comes while a run is going: "skip" it, "delay" it until the run has
            ended (one run, however many ticks came), or "allow" it at its time.
        missed_grace: how long after its time the latest missed tick is made up for; zero: never.
            Default: half the time to the next tick, at most an hour.
        dst: what a cron spec does when clocks change, see iam_watcher.schedule.parse.

    Raises:
        InvalidSpec: for a spec that is none, or a cron spec that never fires.
        WatcherError: for another `overlap`, or a `missed_grace` that is no timedelta or below zero.
    """
    if overlap not in get_args(Overlap):
        raise WatcherError(f"overlap={overlap!r}; expected one of {', '.join(get_args(Overlap))}")
    if missed_grace is not None and not (
        isinstance(missed_grace, timedelta) and missed_grace >= timedelta(0)
    ):
        raise WatcherError(f"missed_grace={missed_grace!r}; expected a timedelta of zero or more, or None")
    schedule = parse(spec, timezone=_default_timezone(), dst=dst)
    if isinstance(schedule, After):
        return AfterTimetable(schedule)
    if schedule.kind == "cron" and schedule.next(datetime.now(UTC)) is None:
        raise InvalidSpec(
            spec, field="cron", part=str(schedule), expected="a date that comes within five years"
        )
    return TickTimetable(schedule, overlap=overlap, missed_grace=missed_grace)


def _default_timezone() -> str:
    name: str = conf.get("core", "default_timezone")
    if name == "system":
        name = pendulum.now().timezone_name or name
    return "UTC" if name.lower() == "utc" else name
