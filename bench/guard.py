"""What the lock costs a run, in a whole Airflow: a Watcher compared with a DAG of the same one task.

A Watcher's `acquire` and `release` are processes of their own. Airflow can also begin and end a task in the
triggerer (`start_from_trigger`). The third DAG does that with the cheapest guard there can be, see
`triggered_guard`. If it gets faster than a Watcher, the lock should move to the triggerer.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from bench.harness import Result, interleaved
from dev.airflow import ROOT, Airflow
from dev.servers import Redis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROUNDS = 5
WINDOW = 14.0  # seconds of a measurement: longer than a run, the same for all, so that idle time cancels out
WITHIN = 120.0  # seconds for anything to happen
DAGS = ("bare", "watcher", "triggered")
ENDED = {"success", "failed"}


@dataclass(frozen=True)
class Cost:
    """What one run cost.

    Args:
        cpu: seconds of all processes of Airflow.
        start: seconds from the request to the first line of the work.
        end: seconds from the request to the end of the run.
    """

    cpu: float
    start: float = 0.0
    end: float = 0.0


def measure(folder: Path) -> list[Result]:
    """Return processor time and delays of a Watcher."""
    starts = folder / "starts"
    starts.mkdir(parents=True)
    with (
        Redis(folder / "redis") as redis,
        guarded(folder / "airflow", redis, ROOT / "bench" / "dags", starts) as airflow,
    ):
        start_airflow(airflow, len(DAGS), WITHIN)
        runs = {name: partial(_run, airflow, starts, name) for name in DAGS}
        for run in runs.values():
            run()  # the first run of each imports and compiles
        costs = interleaved({**runs, "idle": partial(_idle, airflow)}, ROUNDS)
    idle = statistics.median(cost.cpu for cost in costs["idle"])
    cpu = {name: statistics.median(cost.cpu for cost in costs[name]) - idle for name in DAGS}
    start = {name: statistics.median(cost.start for cost in costs[name]) for name in DAGS}
    end = {name: statistics.median(cost.end for cost in costs[name]) for name in DAGS}
    figures = {
        name: f"CPU {cpu[name]:.2f} s, first line after {start[name]:.1f} s, end after {end[name]:.1f} s"
        for name in DAGS
    }
    detail = f"bare: {figures['bare']}; Watcher: {figures['watcher']}; triggerer: {figures['triggered']}"
    return [
        Result("CPU of a run: Watcher / bare DAG", cpu["watcher"] / cpu["bare"], at_most=3.5, detail=detail),
        # Above 1, the lock should move to the triggerer.
        Result(
            "CPU of a run: Watcher / guard in the triggerer", cpu["watcher"] / cpu["triggered"], at_most=1
        ),
        Result("first line of work, the same", start["watcher"] / start["triggered"], at_most=1),
        Result("end of the run, the same", end["watcher"] / end["triggered"], at_most=1),
    ]


def guarded(home: Path, redis: Redis, dags: Path, starts: Path, **options: str) -> Airflow:
    """Return an Airflow for DAGs of bench/guarded_dags.py, whose runs write a file each in `starts`."""
    return Airflow(
        home,
        deployment_id="bench",
        connections={"iam_redis": redis.airflow_uri},
        dags_folders=[dags],
        options={"BENCH_STARTS": str(starts), "PYTHONPATH": str(ROOT), **options},
    )


def start_airflow(airflow: Airflow, dags: int, seconds: float) -> None:
    """Start an Airflow and wait until it knows so many DAGs."""
    airflow.run("db", "migrate")
    airflow.start()
    airflow.wait_healthy()
    until(lambda: airflow.api("/dags?limit=1")["total_entries"] == dags, seconds)


def _run(airflow: Airflow, starts: Path, dag_id: str) -> Cost:
    used, asked = cpu_seconds(airflow), time.time()
    run_id = airflow.api(f"/dags/{dag_id}/dagRuns", {"logical_date": None})["dag_run_id"]
    time.sleep(max(0.0, asked + WINDOW - time.time()))
    used = cpu_seconds(airflow) - used
    path = f"/dags/{dag_id}/dagRuns/{run_id}"
    until(lambda: airflow.api(path)["state"] in ENDED, WITHIN)
    run = airflow.api(path)
    if run["state"] != "success":
        raise AssertionError(f"{dag_id}: the run is {run['state']}")
    began = float((starts / run_id).read_text())
    return Cost(used, began - asked, datetime.fromisoformat(run["end_date"]).timestamp() - asked)


def _idle(airflow: Airflow) -> Cost:
    used = cpu_seconds(airflow)
    time.sleep(WINDOW)
    return Cost(cpu_seconds(airflow) - used)


def cpu_seconds(airflow: Airflow) -> float:
    """Return the CPU seconds of all processes of an Airflow, those that have ended included."""
    seconds = 0.0
    for component in airflow.processes.values():
        parent = psutil.Process(component.pid)
        for process in [parent, *parent.children(recursive=True)]:
            try:
                seconds += sum(process.cpu_times()[:4])  # its own, and of its children that have ended
            except psutil.NoSuchProcess:
                continue
    return seconds


def until(true: Callable[[], object], seconds: float, *, every: float = 0.5) -> None:
    """Wait until something is true.

    Raises:
        AssertionError: It is not true in time.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing happened within {seconds:g} s")
        time.sleep(every)
