"""Ticks that are done once, by whichever deployment comes first.

A tick is a scheduled time: the same DAG and `run_after` in every deployment. Manual runs, asset runs, runs of
`dags test` and dry runs have no tick. With `@after` each deployment has other times, so the whole interval
after a run is one tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from iam_watcher.job_tasks import dry_run_argument, is_job
from iam_watcher.schedule import Schedule

if TYPE_CHECKING:
    from airflow.sdk import Context

SHORTEST_MEMORY = timedelta(days=1)
MARGIN = timedelta(seconds=1)  # the next `@after` run of the same deployment must find its last tick expired


@dataclass(frozen=True)
class Tick:
    """A scheduled time that is to be done once.

    Args:
        name: the same in every deployment.
        kept: for how many seconds Redis stores that it is done.
    """

    name: str
    kept: float


def tick_of(context: Context) -> Tick | None:
    """Return the tick of this run, or None if the run has none."""
    run = context["dag_run"]
    if run.run_type != "scheduled" or _is_dry_run(context):
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


def _is_dry_run(context: Context) -> bool:
    """Return whether the param `dry_run` is set, or a job of the DAG has `dry_run=True`.

    Such a run does not do the work, so another deployment must still do it.
    """
    given = (dry_run_argument(task) for task in context["dag"].tasks if is_job(task))
    return any(str(value).strip().lower() == "true" for value in (context["params"].get("dry_run"), *given))
