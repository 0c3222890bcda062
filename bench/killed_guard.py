"""What a fault does to guards, in a whole Airflow: Watchers compared with guards in the triggerer.

Both kinds are those of bench/guarded_dags.py. There are RUNS DAGs of each kind, and each gets a run at about
the same moment. First nothing happens. Then the process in which a guard is at work is killed: the process of
one task `acquire`, or the triggerer, which starts again at once.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.guard import ENDED, guarded, start_airflow, until
from bench.harness import Result
from dev.servers import Redis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dev.airflow import Airflow

RUNS = 8
KINDS = ("watcher", "triggered")
LATE = 5.0  # seconds: a run whose work begins so much later than usual was hit by the fault
WITHIN = 300.0  # seconds for anything to happen

FILE = '''"""The Airflow DAGs of bench/killed_guard.py."""
from bench.guarded_dags import triggered, watcher
for number in range({runs}):
    watcher(f"watcher-{{number}}")
    triggered(f"triggered-{{number}}")
'''


@dataclass(frozen=True)
class Begun:
    """When the work of RUNS runs began.

    Args:
        seconds: from a run's request to the first line of its work, for each run.
    """

    seconds: list[float]

    @property
    def usual(self) -> float:
        """The median."""
        return statistics.median(self.seconds)

    @property
    def last(self) -> float:
        """The last run's seconds."""
        return max(self.seconds)


def measure(folder: Path) -> list[Result]:
    """Return how many runs a fault delays, and for how long."""
    files, starts = folder / "dags", folder / "starts"
    files.mkdir(parents=True)
    starts.mkdir()
    (files / "dags.py").write_text(FILE.format(runs=RUNS))
    options = {"AIRFLOW__CORE__PARALLELISM": str(RUNS)}
    with (
        Redis(folder / "redis") as redis,
        guarded(folder / "airflow", redis, files, starts, **options) as airflow,
    ):
        start_airflow(airflow, RUNS * len(KINDS), WITHIN)
        begun = partial(_begun, airflow, starts)
        for kind in KINDS:
            begun(kind)  # the first run of each imports and compiles
        quiet = {kind: begun(kind) for kind in KINDS}
        killed = {
            "watcher": begun("watcher", lambda: _kill_acquire(airflow)),
            "triggered": begun("triggered", lambda: _kill_triggerer(airflow)),
        }
        _check_tried_again(airflow)
    return _results("the process of a guard is killed", quiet, killed)


def _begun(airflow: Airflow, starts: Path, kind: str, fault: Callable[[], None] = lambda: None) -> Begun:
    asked: dict[str, float] = {}
    for dag_id in (f"{kind}-{number}" for number in range(RUNS)):
        now = time.time()
        run_id = airflow.api(f"/dags/{dag_id}/dagRuns", {"logical_date": None})["dag_run_id"]
        asked[f"/dags/{dag_id}/dagRuns/{run_id}"] = now
    fault()
    for run in asked:
        until(lambda run=run: airflow.api(run)["state"] in ENDED, WITHIN)  # type: ignore[misc]
        if (state := airflow.api(run)["state"]) != "success":
            raise AssertionError(f"{run}: the run is {state}")
    return Begun([float((starts / run.rpartition("/")[2]).read_text()) - at for run, at in asked.items()])


def _kill_acquire(airflow: Airflow) -> None:
    """Kill the process of one task `acquire` while it runs."""

    def killed() -> bool:
        running = airflow.api("/dags/~/dagRuns/~/taskInstances?state=running")["task_instances"]
        for task in running:
            if task["task_id"] == "acquire" and task["pid"]:
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(task["pid"], signal.SIGKILL)
                    return True
        return False

    until(killed, WITHIN, every=0.05)


def _check_tried_again(airflow: Airflow) -> None:
    """Raise AssertionError if the signal came too late: no task `acquire` had to be tried again."""
    paths = (f"/dags/watcher-{number}/dagRuns/~/taskInstances" for number in range(RUNS))
    tasks = [task for path in paths for task in airflow.api(path)["task_instances"]]
    if not any(task["task_id"] == "acquire" and task["try_number"] > 1 for task in tasks):
        raise AssertionError("the process that was killed had already done its work")


def _kill_triggerer(airflow: Airflow) -> None:
    """Kill the triggerer while guards are with it, and start it again."""
    deferred = "/dags/~/dagRuns/~/taskInstances?state=deferred&limit=1"
    until(lambda: airflow.api(deferred)["total_entries"], WITHIN, every=0.05)
    airflow.processes["triggerer"].kill()
    airflow.start(["triggerer"])


def _results(fault: str, quiet: dict[str, Begun], hit: dict[str, Begun]) -> list[Result]:
    late = {kind: sum(seconds > quiet[kind].usual + LATE for seconds in hit[kind].seconds) for kind in KINDS}
    detail = "; ".join(
        f"{kind}: usually {quiet[kind].usual:.1f} s, last {quiet[kind].last:.1f} s; with the fault"
        f" {hit[kind].usual:.1f} s, last {hit[kind].last:.1f} s, {late[kind]} of {RUNS} runs are late"
        for kind in KINDS
    )
    return [
        Result(f"{fault}: Watchers that are late", late["watcher"], at_most=1, detail=detail),
        # Above 1, guards in the triggerer are the safer ones.
        Result(
            "the last run's delay: Watcher / guard in the triggerer",
            max(0.0, hit["watcher"].last - quiet["watcher"].last)
            / max(0.1, hit["triggered"].last - quiet["triggered"].last),
            at_most=1,
        ),
    ]
