"""Airflow DAGs of one task that writes down when it begins, guarded in three ways."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from bench.triggered_guard import TriggeredGuard
from iam_watcher import Watcher


@task
def work(**context: Any) -> None:
    """Write down when the first line of the work runs."""
    Path(os.environ["BENCH_STARTS"], context["run_id"]).write_text(str(time.time()))


def bare(dag_id: str) -> None:
    """Create a DAG without a guard."""
    with DAG(dag_id, schedule=None):
        work()


def watcher(dag_id: str) -> None:
    """Create a Watcher."""
    with Watcher(dag_id, schedule=None):
        work()


def triggered(dag_id: str) -> None:
    """Create a DAG with the cheapest guard that the triggerer can have."""
    with DAG(dag_id, schedule=None):
        acquire = TriggeredGuard(task_id="acquire", command="SET")
        release = TriggeredGuard(task_id="release", command="DEL")
        acquire >> work() >> release
        release.as_teardown(setups=acquire)
