"""A private Airflow with many watchers, for bench/many.py: its files, its database, its memory."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from dev.airflow import ROOT, Airflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.servers import Redis

PER_FILE = 25

FILE = '''"""Airflow DAGs of bench/many.py."""
from airflow.sdk import task
from iam_watcher import Watcher


@task
def work():
    """Do nothing."""


for number in range({first}, {end}):
    with Watcher(f"many_{{number}}", schedule={schedule!r}):
        work()
'''


def airflow_of_many(home: Path, redis: Redis, dags: Path) -> Airflow:
    """Return an Airflow with the files of a folder; its watchers are not paused."""
    return Airflow(
        home,
        deployment_id="bench",
        connections={"iam_redis": redis.airflow_uri},
        dags_folders=[dags],
        options={
            "AIRFLOW__CORE__PARALLELISM": "32",  # Airflow's default
            # A changed file is read at once; files without a change are not read again.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "36000",
            "PYTHONPATH": str(ROOT),
        },
    )


def write_watchers(dags: Path, watchers: int, schedule: str) -> None:
    """Write the files of so many watchers, or replace them: all have one schedule."""
    for first in range(0, watchers, PER_FILE):
        text = FILE.format(first=first, end=min(first + PER_FILE, watchers), schedule=schedule)
        (dags / f"many_{first}.py").write_text(text)


def memory(airflow: Airflow, component: str) -> float:
    """Return the MB of a component's processes; what they share counts once."""
    total = 0
    for pid in airflow.processes[component].members():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def parsed(airflow: Airflow, schedule: str) -> int:
    """Return how many watchers Airflow knows with this schedule."""
    text = f"%{schedule}%"
    return len(rows(airflow, "SELECT dag_id FROM dag WHERE timetable_summary LIKE ?", text))


def rows(airflow: Airflow, query: str, *values: str) -> list[tuple[str, ...]]:
    """Return the rows of a query on Airflow's database."""
    with closing(
        sqlite3.connect(f"file:{airflow.home}/airflow.db?mode=ro", uri=True, timeout=60)
    ) as database:
        return list(database.execute(query, values))


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait until something is true.

    Raises:
        AssertionError: It was not true in time.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing happened within {seconds:g} s")
        time.sleep(1)
