"""Airflow DAGs for the tests of the lock: work that goes on until the test ends it, and is recorded.

There are two kinds: `table_*` deletes rows of a table whose trigger writes down every step (a job behind
the database lock), `any_*` is a function that writes its own steps down (any other operator). Tests find
both in the database `lock_rows`, see conftest.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from contextlib import closing
from datetime import timedelta
from functools import partial

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, task

from iam_watcher import Lock, Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk.pace import Pace

TICK = "@every 20s"
PAUSE = 0.2  # seconds between two steps


class Record:
    """A connection to the tests' database, on which a work process writes down what it does."""

    def __init__(self, context):
        import MySQLdb

        self.connection = MySQLdb.connect(**json.loads(os.environ["LOCK_ROWS"]), autocommit=True)
        self.dag_id = context["ti"].dag_id
        self.deployment = os.environ["AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID"]
        self.writer = self._run(
            "INSERT INTO writer (dag_id, deployment, run_id, try, pid) VALUES (%s, %s, %s, %s, %s)",
            (self.dag_id, self.deployment, context["ti"].run_id, context["ti"].try_number, os.getpid()),
        ).lastrowid

    def _run(self, query, values):
        cursor = self.connection.cursor()
        cursor.execute(query, values)
        return cursor

    def close(self):
        self.connection.close()

    def step(self):
        self._run("INSERT INTO step (writer) VALUES (%s)", (self.writer,))

    def end(self):
        self._run("UPDATE writer SET ended = SYSDATE(6) WHERE id = %s", (self.writer,))

    def order(self):
        """Return what the test tells this deployment's work: `end`, `raise` or nothing."""
        query = "SELECT what FROM orders WHERE dag_id = %s AND deployment = %s"
        return (self._run(query, (self.dag_id, self.deployment)).fetchone() or [""])[0]


@task
def work(**context):
    with closing(Record(context)) as record:
        record.step()
        while (order := record.order()) != "end":
            if order == "raise":
                raise RuntimeError("as the test asked")
            time.sleep(PAUSE)
            record.step()
        record.end()


class Away(BaseOperator):
    """Work that goes on elsewhere for longer than its lease."""

    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=25)), method_name="back")

    def back(self, context, event=None):
        pass


class Slow(Pace):
    """Chunks of a hundred rows, the fewest, with a pause after each until the test says `end`."""

    record: Record

    def rest(self, worked):
        return 0 if Slow.record.order() == "end" else PAUSE


class RecordedPurge(PurgeRowsOperator):
    """The job as it is; its statements also tell the table's trigger which process they come from."""

    def execute(self, context):
        with closing(Record(context)) as record:
            self.writer, Slow.record = record.writer, record
            report = super().execute(context)
            record.end()
        return report

    def job(self):
        job = super().job()
        job.plan = partial(self.plan, job.plan)
        return job

    def plan(self, plan_of, table, now):
        plan = plan_of(table, now)
        change = dataclasses.replace(
            plan.change,
            predicate=f"({plan.change.predicate}) AND (@writer := %(writer)s) > 0",
            values={**plan.change.values, "writer": self.writer},
        )
        return dataclasses.replace(plan, change=change)


def watch(dag_id, *, schedule=None, lease=10, wait=10, retries=2):
    with Watcher(
        dag_id,
        schedule=schedule,
        lock=Lock(dag_id, lease=timedelta(seconds=lease), wait=timedelta(seconds=wait)),
        is_paused_upon_creation=schedule is not None,
        default_args={"retries": retries, "retry_delay": timedelta(seconds=2)},
    ):
        if dag_id.startswith("table_"):
            RecordedPurge(
                task_id="work",
                table=f"{dag_id}_rows",
                age_column="deletedAt",
                older_than_days=1,
                pace=Slow(target=0.0001, duty=1),
                mysql_conn_id="lock_rows",
            )
        elif dag_id == "any_deferred":
            Away(task_id="work")
        else:
            work.override(task_id="work")()


watch("any_same_tick", schedule=TICK, wait=1)
watch("any_go", wait=1)
watch("any_killed", lease=60)
# Their lease is so long that it can't be what frees them.
watch("any_marked", lease=60)
watch("table_marked", lease=60)
watch("any_hung", lease=60)
watch("any_cleared", lease=60)
watch("table_cleared", lease=60)
watch("any_raises", lease=60, schedule=TICK, retries=0)
watch("table_stopped")
watch("any_forced")
watch("table_forced")
watch("any_supervisor")
watch("table_supervisor")
watch("any_scheduler")
watch("table_scheduler")
watch("any_triggerer", wait=120)
watch("any_deferred", wait=1)
watch("any_paused")
watch("any_paused_lost")
watch("any_emptied")
watch("table_emptied")
watch("any_redis_gone")
watch("table_redis_gone")
watch("any_clocks", schedule=TICK, wait=1)
