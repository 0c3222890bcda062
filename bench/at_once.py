"""What the lock costs when many runs are due at one moment, in a whole Airflow.

There are MANY DAGs of each kind of bench/guarded_dags.py, each in its own file. Each has a run that waits
because the DAG is paused. One request unpauses all DAGs of a kind, and the time counts until the last of
these runs has ended.

Then one run of each kind is requested while no triggerer is there.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

from bench.guard import DAGS, ENDED, cpu_seconds, guarded, start_airflow, until
from bench.harness import Result, interleaved, ratio
from dev.servers import Redis

if TYPE_CHECKING:
    from pathlib import Path

    from dev.airflow import Airflow

MANY = 100
ROUNDS = 2
WITHIN = 900.0  # seconds for MANY runs
ALONE_WITHIN = 60.0  # seconds for one run without a triggerer

FILE = '''"""An Airflow DAG of bench/at_once.py."""
from bench.guarded_dags import {kind}
{kind}({dag_id!r})
'''


def measure(folder: Path) -> list[Result]:
    """Return the time of many runs, and which runs end without a triggerer."""
    files = folder / "dags"
    files.mkdir(parents=True)
    for kind in DAGS:
        for number in range(MANY):
            dag_id = f"{kind}-{number}"
            (files / f"{dag_id}.py").write_text(FILE.format(kind=kind, dag_id=dag_id))
    starts = folder / "starts"
    starts.mkdir()
    options = {
        "AIRFLOW__CORE__PARALLELISM": "8",  # SQLite refuses more at once
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        # Each file is read once: reading them again and again would be part of the time.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "36000",
    }
    with (
        Redis(folder / "redis") as redis,
        guarded(folder / "airflow", redis, files, starts, **options) as airflow,
    ):
        start_airflow(airflow, MANY * len(DAGS), WITHIN)
        costs = interleaved({kind: partial(_drain, airflow, kind) for kind in DAGS}, ROUNDS)
        airflow.processes.pop("triggerer").stop()
        ended = {kind: _ends(airflow, f"{kind}-0") for kind in DAGS}
    seconds = {kind: [took for took, _ in found] for kind, found in costs.items()}
    cpu = {kind: statistics.median(used for _, used in found) / MANY for kind, found in costs.items()}
    detail = ", ".join(
        f"{kind} {statistics.median(seconds[kind]):.0f} s, CPU of a run {cpu[kind]:.2f} s" for kind in DAGS
    )
    return [
        Result(
            f"{MANY} runs at once: Watchers / bare DAGs",
            ratio(seconds["watcher"], seconds["bare"]),
            at_most=2.5,
            detail=detail,
        ),
        # Above 1, the lock should move to the triggerer.
        Result(
            f"{MANY} runs at once: Watchers / guards in the triggerer",
            ratio(seconds["watcher"], seconds["triggered"]),
            at_most=1,
        ),
        Result(
            "runs that end without a triggerer: Watcher",
            ended["watcher"],
            at_least=1,
            detail=f"of a run of each kind, within {ALONE_WITHIN:g} s: {ended}",
        ),
    ]


def _drain(airflow: Airflow, kind: str) -> tuple[float, float]:
    """Return the seconds until the last run of a kind has ended, and the CPU seconds of Airflow meanwhile."""
    runs = {
        dag_id: airflow.api(f"/dags/{dag_id}/dagRuns", {"logical_date": None})["dag_run_id"]
        for dag_id in (f"{kind}-{number}" for number in range(MANY))
    }
    began, used = time.monotonic(), cpu_seconds(airflow)
    _pause(airflow, kind, paused=False)
    active = f"/dags/~/dagRuns?state=queued&state=running&dag_id_pattern={kind}-&limit=1"
    until(lambda: not airflow.api(active)["total_entries"], WITHIN)
    took, used = time.monotonic() - began, cpu_seconds(airflow) - used
    _pause(airflow, kind, paused=True)
    for dag_id, run_id in runs.items():
        if (state := airflow.api(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]) != "success":
            raise AssertionError(f"{dag_id}: the run is {state}")
    return took, used


def _ends(airflow: Airflow, dag_id: str) -> bool:
    """Return whether a run ends in time."""
    airflow.api(f"/dags/{dag_id}", {"is_paused": False}, method="PATCH")
    run_id = airflow.api(f"/dags/{dag_id}/dagRuns", {"logical_date": None})["dag_run_id"]
    deadline = time.monotonic() + ALONE_WITHIN
    while time.monotonic() < deadline:
        if airflow.api(f"/dags/{dag_id}/dagRuns/{run_id}")["state"] in ENDED:
            return True
        time.sleep(0.5)
    return False


def _pause(airflow: Airflow, kind: str, *, paused: bool) -> None:
    """Pause or unpause all DAGs of a kind with one request."""
    changed = airflow.api(f"/dags?dag_id_pattern={kind}-&limit={MANY}", {"is_paused": paused}, method="PATCH")
    if len(changed["dags"]) != MANY:
        raise AssertionError(f"{kind}: {len(changed['dags'])} DAGs were changed; expected {MANY}")
