"""Rows that are due start a run, on a real scheduler with a triggerer; none is forgotten."""

from __future__ import annotations

import logging
import random
import time
from contextlib import closing
from datetime import datetime
from statistics import median, quantiles

import pytest

from dev.migrated import copy_migrated
from dev.sessions import wait_until
from tests.e2e.deployments import Deployment, until
from tests.integration.claims import ALL, BY_ID, BY_RETRY, CREATE
from tests.integration.conftest import Database, numbers

pytestmark = pytest.mark.e2e

logger = logging.getLogger(__name__)

ROWS = 12  # of which the time is logged
ROWS_MEANWHILE = 120  # that come while a run waits
MAX_IDLE_TIME = 6  # seconds

ORDERS = {
    "table": "orders",
    "state_column": "status",
    "claim": "pending",
    "working": "work",
    "mysql_conn_id": "scratch",
    **ALL,
}

FILE = f'''"""An Airflow DAG for the tests of rows in a state."""
from datetime import datetime, timedelta, timezone
from iam_watcher import Watcher
from iam_watcher.jobs.process_rows import process_rows
from iam_watcher.jobs.rows_in_state import rows_in_state

ORDERS = {ORDERS!r}

with Watcher("orders", schedule=rows_in_state(**ORDERS), lock=None, default_args={{"retries": 0}}):

    @process_rows(**ORDERS, done="normal", failed="failed", stop_after=1, backoff=timedelta(seconds=1))
    def send(row):
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        if row["note"] == "fails once" and row["attempts"] == 1:
            raise ConnectionError("away")
        return {{"begun_at": now}}

    send()

WARM = {{**ORDERS, "table": "warm_orders"}}

with Watcher("warm_orders", schedule=rows_in_state(**WARM), lock=None):

    @process_rows(**WARM, done="normal", failed="failed", max_idle_time=timedelta(seconds={MAX_IDLE_TIME}))
    def send(row):
        return {{"begun_at": datetime.now(timezone.utc).replace(tzinfo=None)}}

    send()
'''


class Orders(Database):
    def insert(self, rows=1, note=None):
        self.run(f"INSERT INTO orders (note) SELECT %s FROM {numbers(rows)}", [note])

    def left(self):
        return self.value("SELECT COUNT(*) FROM orders WHERE status <> 'normal'")

    def wait(self, seconds=120):
        assert wait_until(lambda: not self.left(), seconds, pause=0.2), self.rows("SELECT * FROM orders")


@pytest.fixture(scope="module")
def orders(mariadb):
    with closing(mariadb.connect(database="")) as connection:
        database = Orders(connection)
        for statement in (
            "DROP DATABASE IF EXISTS scratch",
            "CREATE DATABASE scratch",
            "USE scratch",
            "SET time_zone = '+00:00'",
            CREATE.format(key=BY_ID, index=BY_RETRY),
            "ALTER TABLE orders ADD COLUMN created_at DATETIME(6) NOT NULL DEFAULT NOW(6)",
            "ALTER TABLE orders ADD COLUMN begun_at DATETIME(6) NULL",
            "CREATE TABLE warm_orders LIKE orders",
        ):
            database.run(statement)
        yield database


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, mariadb, orders):
    folder = tmp_path_factory.mktemp("rows")
    (folder / "dags").mkdir()
    (folder / "dags" / "orders.py").write_text(FILE)
    airflow = Deployment(
        folder / "home",
        deployment_id="rows",
        dags_folders=(folder / "dags",),
        connections={"scratch": mariadb.airflow_admin_uri.removesuffix("/iam") + "/scratch"},
        options={"AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10"},
    )
    airflow.name = "rows"
    with airflow:
        copy_migrated(airflow.home)
        airflow.start(["api-server", "scheduler", "dag-processor", "triggerer"])
        airflow.wait_healthy()
        until(lambda: airflow.api("/dags?limit=100")["total_entries"] == 2, "the DAGs")
        yield airflow


def runs(airflow, dag="orders"):
    return airflow.api(f"/dags/{dag}/dagRuns?limit=1000")["dag_runs"]


def test_rows_start_runs_and_none_is_forgotten(airflow, orders):
    orders.insert()
    orders.wait()

    before = len(runs(airflow))
    orders.insert(1_000)
    orders.wait()
    assert len(runs(airflow)) - before <= 3

    airflow.pause("orders")
    orders.insert()
    time.sleep(5)  # A paused DAG does nothing: there is no event to wait for.
    assert orders.left() == 1
    airflow.pause("orders", False)
    orders.wait()

    orders.insert(note="fails once")
    orders.wait()
    assert "failed" in {run["state"] for run in runs(airflow)}

    airflow.processes["triggerer"].kill()
    orders.insert()
    airflow.start(["triggerer"])
    orders.wait()


def test_a_row_is_processed_soon(airflow, orders):
    """The figures are logged, with the part of each step: a test does not measure time."""
    orders.run("DELETE FROM orders")
    known = {run["dag_run_id"] for run in runs(airflow)}
    steps = []
    for _ in range(ROWS):
        orders.insert()
        orders.wait()
        until(lambda: all(run["state"] != "running" for run in runs(airflow)), "the runs' end")
        (row,) = orders.rows(
            "SELECT UNIX_TIMESTAMP(created_at), UNIX_TIMESTAMP(begun_at) FROM orders ORDER BY id DESC LIMIT 1"
        )
        new = [run for run in runs(airflow) if run["dag_run_id"] not in known]
        known |= {run["dag_run_id"] for run in new}
        steps += [_steps(airflow, [float(moment) for moment in row], run) for run in new[:1]]
    for step in steps[0]:
        took = sorted(one[step] for one in steps)
        logger.info("%s: median %.2f s, longest %.2f s", step, median(took), took[-1])
    assert len(steps) == ROWS


def test_a_row_that_comes_while_a_run_waits_is_processed_by_it(airflow, orders):
    """The times are logged, and compared with nothing. No run follows without a row."""

    def left():
        return orders.value("SELECT COUNT(*) FROM warm_orders WHERE status <> 'normal'")

    def ended():
        return all(run["state"] not in ("queued", "running") for run in runs(airflow, "warm_orders"))

    orders.run("INSERT INTO warm_orders (note) VALUES ('first')")
    until(lambda: not left(), "the first row")
    for _ in range(ROWS_MEANWHILE):
        time.sleep(random.uniform(0, 1.5))
        orders.run("INSERT INTO warm_orders (note) VALUES (NULL)")
    until(lambda: not left(), "the rows")
    took = orders.column(
        "SELECT TIMESTAMPDIFF(MICROSECOND, created_at, begun_at) / 1e6 AS seconds FROM warm_orders"
        " WHERE note IS NULL ORDER BY seconds"
    )
    logger.info(
        "row to function while a run waits: %d rows, median %.2f s, p99 %.2f s, longest %.2f s",
        len(took),
        median(took),
        quantiles(took, n=100, method="inclusive")[-1],
        took[-1],
    )
    assert orders.value("SELECT COUNT(DISTINCT claimed_by) FROM warm_orders") == 1
    until(ended, "the runs' end")
    time.sleep(2 * MAX_IDLE_TIME)  # A run that followed would begin, and wait for rows.
    assert ended()
    all_runs = runs(airflow, "warm_orders")
    assert {run["state"] for run in all_runs} == {"success"}
    assert len(all_runs) <= 3  # one for the rows, one for an event meanwhile, one at its time


def _steps(airflow, moments, run):
    """Return how long each step took, from the row that was inserted to the function's first line."""
    created, begun = moments
    task = airflow.api(f"/dags/orders/dagRuns/{run['dag_run_id']}/taskInstances/send")
    run_created, run_began, queued, started = (
        datetime.fromisoformat(one).timestamp()
        for one in (run["queued_at"], run["start_date"], task["queued_when"], task["start_date"])
    )
    return {
        "row to function": begun - created,
        "row to run (trigger, event, scheduler)": run_created - created,
        "run created to begun": run_began - run_created,
        "begun to task queued": queued - run_began,
        "queued to started (executor, process, file)": started - queued,
        "started to function (import, connect, first look, claim)": begun - started,
    }
