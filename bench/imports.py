"""The time to import our DAG files, compared with the time to import plain DAGs.

A file with one Watcher is compared with one of a DAG with one task. In longer files a hundred further
Watchers are compared with a hundred further DAGs of three empty tasks: a Watcher's job, `acquire` and
`release` are three as well. Each file runs in its own process that has already imported airflow.sdk.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from bench.harness import Result, interleaved
from dev.airflow import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 9
FURTHER = 100

CHILD = """
import runpy, sys, time
import airflow.sdk
airflow.sdk.DAG, airflow.sdk.task
began = time.perf_counter()
runpy.run_path(sys.argv[1])
print(time.perf_counter() - began)
"""

BARE = """
from airflow.sdk import DAG, task
with DAG("bare", schedule=None):
    @task
    def work():
        pass
    work()
"""

PLAIN = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
for number in range({dags}):
    with DAG(f"plain_{{number}}", schedule="@daily"):
        EmptyOperator(task_id="a") >> EmptyOperator(task_id="b") >> EmptyOperator(task_id="c")
"""

OURS = """
from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
for number in range({watchers}):
    with Watcher(f"purge_{{number}}", schedule="@daily"):
        PurgeRowsOperator(task_id="purge", table="t", age_column="age", older_than_days=30)
"""


def measure(folder: Path) -> list[Result]:
    """Return the milliseconds."""
    folder.mkdir(parents=True)
    files = {
        "bare": BARE,
        "one": OURS.format(watchers=1),
        "many": OURS.format(watchers=1 + FURTHER),
        "one plain": PLAIN.format(dags=1),
        "many plain": PLAIN.format(dags=1 + FURTHER),
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    found = interleaved({name: partial(import_seconds, folder / f"{name}.py") for name in files}, ROUNDS)
    ms = {name: statistics.median(found[name]) * 1000 for name in files}
    further, plain = (ms["many"] - ms["one"]) / FURTHER, (ms["many plain"] - ms["one plain"]) / FURTHER
    return [
        Result(
            "import of a Watcher's file over a bare DAG's, ms",
            ms["one"] - ms["bare"],
            at_most=50,
            detail=f"{ms['one']:.1f} against {ms['bare']:.1f} ms",
        ),
        Result(
            "each further Watcher, ms",
            further,
            at_most=1,
            detail=f"a DAG of three empty tasks: {plain:.2f} ms",
        ),
    ]


def import_seconds(path: Path) -> float:
    """Return the seconds that a process, which has imported airflow.sdk already, takes to import a file."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])
