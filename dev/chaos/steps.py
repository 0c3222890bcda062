"""What the tasks of `make chaos` write into the database, on a connection of their own."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import closing
from typing import Any

_STEP = (
    "INSERT INTO chaos_step (watcher, deployment, worker, tick, hold, what) VALUES (%s, %s, %s, %s, %s, %s)"
)
_EFFECT = "INSERT INTO chaos_effect (row_id) VALUES (%s)"
_EFFECT_SECONDS = 0.4
WORKER = "CLUSTER_WORKER"


def write_steps(number: int, pause: float) -> None:
    """Write the beginning, some steps with a pause before each, and the end of this task's work."""
    from airflow.configuration import conf
    from airflow.sdk import get_current_context

    run: Any = get_current_context()["dag_run"]
    hold = f"{run.run_id}/{uuid.uuid4().hex[:8]}"
    with closing(_connect()) as connection, connection.cursor() as cursor:
        facts = (
            run.dag_id,
            conf.get("iam_watcher", "deployment_id"),
            os.environ.get(WORKER, ""),
            str(run.run_after),
            hold,
        )
        cursor.execute(_STEP, (*facts, "begin"))
        for _ in range(number):
            time.sleep(pause)
            cursor.execute(_STEP, (*facts, "step"))
        cursor.execute(_STEP, (*facts, "end"))


def write_effect(row_id: int) -> None:
    """Write that the function of the rows was called for a row."""
    time.sleep(_EFFECT_SECONDS / 2)
    with closing(_connect()) as connection, connection.cursor() as cursor:
        cursor.execute(_EFFECT, (row_id,))
    time.sleep(_EFFECT_SECONDS / 2)


def _connect() -> Any:
    import MySQLdb
    from airflow.sdk import Connection

    found = Connection.get("iam_mysql")
    return MySQLdb.connect(
        host=found.host,
        port=found.port,
        user=found.login,
        password=found.password,
        database="iam",
        autocommit=True,
        connect_timeout=5,
        read_timeout=30,
    )
