"""Many watchers in one deployment: what they cost while none is due, and how long it takes when all are due.

For each number of BENCH_WATCHERS, a private Airflow (LocalExecutor, SQLite, Airflow's own parallelism) has so
many watchers with the default lock, 25 in a file. Their task does nothing. First no watcher is due, and the
components are measured. If the number is at most BENCH_DRAINED, all watchers are then due at one moment. The
time counts from this moment until the last run has ended. Each watcher must then have exactly one run.

The splay needs no Airflow: the DAG ids decide the scheduled times.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from bench.harness import Result, interleaved
from bench.imports import import_seconds
from bench.many_watchers import PER_FILE, airflow_of_many, memory, parsed, rows, until, write_watchers
from dev.servers import Redis

if TYPE_CHECKING:
    from pathlib import Path

    from dev.airflow import Airflow

WATCHERS = tuple(int(number) for number in os.environ.get("BENCH_WATCHERS", "50 500 2000").split())
DRAINED = int(os.environ.get("BENCH_DRAINED", "500"))  # more watchers are only measured while none is due
ROUNDS = 5
NEVER = "0 0 1 1 *"  # not due while we look
WINDOW = 30.0  # seconds for which the components are watched
SPLAYED = 500  # watchers whose scheduled times with @daily~ are counted
PARSED_WITHIN = 900.0
LEAD = 60.0  # seconds at least from the measurement without runs until all watchers are due
SECONDS_PER_RUN = 10.0  # after so many for each watcher, the rest is counted as missed
MEASURED = ("scheduler", "dag-processor")

_RUNS = "SELECT dag_id, state, end_date FROM dag_run WHERE run_type = 'scheduled'"
_WORKED = "SELECT dag_id FROM task_instance WHERE task_id = 'work' AND state = 'success'"


@dataclass(frozen=True)
class Idle:
    """What the components need while no watcher is due.

    Args:
        parse: Milliseconds that Airflow takes to read all files, for each watcher.
        cpu: Share of a core that the scheduler uses.
        memory: MB of each component of MEASURED.
    """

    parse: float
    cpu: float
    memory: dict[str, float]


@dataclass(frozen=True)
class Drain:
    """What became of the runs that were due at one moment.

    Args:
        seconds: From that moment until the last run had ended.
        missed: Watchers that have not exactly one run whose work succeeded.
    """

    seconds: float
    missed: int


def measure(folder: Path) -> list[Result]:
    """Return the costs for each number of watchers, and the time until all have run."""
    idle: dict[int, Idle] = {}
    further = _further(folder)
    results = []
    for number in WATCHERS:
        idle[number], drain = _deployment(folder / str(number), number)
        print(f"many: {number} watchers: {idle[number]}, {drain}", file=sys.stderr, flush=True)
        name = f"{number} watchers"
        if drain is not None:
            detail = f"the last run ended {drain.seconds:.0f} s after the scheduled time of all"
            results.append(
                Result(f"{name}, due at one moment: missed", drain.missed, at_most=0, detail=detail)
            )
    few, many = min(WATCHERS), max(WATCHERS)
    if few < many:
        # A part of the cost is the same for any number, so a cost that grows linearly is below 1.
        growth = many / few
        cpu = ", ".join(f"{idle[number].cpu:.1%} of a core" for number in WATCHERS)
        results.append(
            Result(
                f"CPU of the idle scheduler, {few} to {many} watchers: its growth / theirs",
                idle[many].cpu / idle[few].cpu / growth,
                at_most=1,
                detail=cpu,
            )
        )
        for component in MEASURED:
            sizes = {number: idle[number].memory[component] for number in WATCHERS}
            results.append(
                Result(
                    f"memory of the {component}, {few} to {many} watchers: its growth / theirs",
                    sizes[many] / sizes[few] / growth,
                    at_most=1,
                    detail=", ".join(f"{size:.0f} MB" for size in sizes.values()),
                )
            )
    busiest = max(splay(SPLAYED).values())
    parse = ", ".join(f"{idle[number].parse:.0f} ms" for number in WATCHERS)
    return [
        *results,
        Result(
            "each further watcher of a file, ms",
            further,
            at_most=1,
            detail=f"the dag-processor, which imports and stores too: {parse} for each watcher",
        ),
        Result(
            f"{SPLAYED} watchers with @daily~: scheduled times in the busiest minute / all",
            busiest / SPLAYED,
            at_most=0.02,
            detail=f"{busiest} in one minute",
        ),
    ]


def _further(folder: Path) -> float:
    """Return the milliseconds that each watcher after the first adds to the import of a file."""
    files = {}
    for count in (1, PER_FILE):
        path = folder / "imports" / str(count)
        path.mkdir(parents=True)
        write_watchers(path, count, NEVER)
        files[str(count)] = partial(import_seconds, path / "many_0.py")
    found = interleaved(files, ROUNDS)
    one, all_of_them = (statistics.median(found[str(count)]) * 1000 for count in (1, PER_FILE))
    return (all_of_them - one) / (PER_FILE - 1)


def splay(watchers: int, spec: str = "@daily~") -> Counter[datetime]:
    """Return how many watchers are due in each minute of a day."""
    from iam_watcher.schedule import parse

    midnight = datetime(2026, 1, 1, tzinfo=UTC)
    ticks = (
        parse(spec, dag_id=f"many_{number}").next(midnight - timedelta(seconds=1))
        for number in range(watchers)
    )
    return Counter(tick.replace(second=0) for tick in ticks if tick is not None)


def _deployment(folder: Path, watchers: int) -> tuple[Idle, Drain | None]:
    """Measure one Airflow with so many watchers."""
    dags = folder / "dags"
    dags.mkdir(parents=True)
    write_watchers(dags, watchers, NEVER)
    with Redis(folder / "redis") as redis, airflow_of_many(folder / "airflow", redis, dags) as airflow:
        airflow.run("db", "migrate")
        airflow.start()
        airflow.wait_healthy()
        until(lambda: parsed(airflow, NEVER) == watchers, PARSED_WITHIN)
        idle = _idle(airflow, watchers)
        return idle, _drain(airflow, dags, watchers) if watchers <= DRAINED else None


def _idle(airflow: Airflow, watchers: int) -> Idle:
    took = rows(airflow, "SELECT fileloc, MAX(last_parse_duration) FROM dag GROUP BY fileloc")
    scheduler = psutil.Process(airflow.processes["scheduler"].pid)
    used = sum(scheduler.cpu_times()[:4])
    time.sleep(WINDOW)
    used = sum(scheduler.cpu_times()[:4]) - used
    sizes = {name: memory(airflow, name) for name in MEASURED}
    return Idle(sum(float(seconds) for _, seconds in took) * 1000 / watchers, used / WINDOW, sizes)


def _drain(airflow: Airflow, dags: Path, watchers: int) -> Drain:
    """Let all watchers be due at one moment, and wait until they have run."""
    lead = timedelta(seconds=LEAD + watchers / 2)
    due = (datetime.now(UTC) + lead).replace(second=0, microsecond=0) + timedelta(minutes=1)
    schedule = f"{due.minute} {due.hour} {due.day} {due.month} *"
    write_watchers(dags, watchers, schedule)
    until(lambda: parsed(airflow, schedule) == watchers, PARSED_WITHIN)
    if datetime.now(UTC) >= due:
        raise AssertionError(f"the files were read too late for {due}; a machine with less load is needed")

    def over() -> bool:
        states = Counter(state for _, state, _ in rows(airflow, _RUNS))
        return states["success"] + states["failed"] >= watchers

    patience = (due - datetime.now(UTC)).total_seconds() + SECONDS_PER_RUN * watchers
    deadline = time.monotonic() + patience
    while not over() and time.monotonic() < deadline:
        time.sleep(2)
    runs = rows(airflow, _RUNS)
    number = Counter(dag_id for dag_id, _, _ in runs)
    worked = Counter(dag_id for (dag_id,) in rows(airflow, _WORKED))
    right = sum(number[dag_id] == worked[dag_id] == 1 for dag_id in number)
    ended = [datetime.fromisoformat(end).replace(tzinfo=UTC) for _, _, end in runs if end]
    seconds = (max(ended) - due).total_seconds() if ended else 0.0
    return Drain(seconds, watchers - right)
