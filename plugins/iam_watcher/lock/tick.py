"""Ticks that are done once, by whichever deployment comes first.

A tick is one time of a schedule: the same DAG and `run_after` in every deployment. Manual and asset runs
and those of `dags test` are none. With `@after`, where every deployment has times of its own, the whole
interval after a run is one tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from iam_watcher.schedule import Schedule

if TYPE_CHECKING:
    from airflow.sdk import Context

SHORTEST_MEMORY = timedelta(days=1)
MARGIN = timedelta(seconds=1)  # the next `@after` run of the same deployment must not meet its own mark


@dataclass(frozen=True)
class Tick:
    """One time of a schedule.

    Args:
        name: the same in every deployment.
        kept: seconds that Redis remembers that it is done.
    """

    name: str
    kept: float


def tick_of(context: Context) -> Tick | None:
    """Return the tick that this run is for, or None if it is for none."""
    run = context["dag_run"]
    if run.run_type != "scheduled":
        return None
    schedule = getattr(context["dag"].timetable, "schedule", None)
    after = run.run_after.astimezone(UTC)
    interval = timedelta(0)
    if isinstance(schedule, Schedule):
        if schedule.kind == "after" and schedule.interval is not None:
            return Tick(run.dag_id, max(schedule.interval - MARGIN, timedelta(0)).total_seconds())
        following = schedule.next(after)
        interval = following - after if following else interval
    name = f"{run.dag_id}:{after:%Y-%m-%dT%H:%M:%S.%f}Z"
    return Tick(name, max(2 * interval, SHORTEST_MEMORY).total_seconds())
