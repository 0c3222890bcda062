"""Row processing that is stopped in mid work, on a real Airflow: no row stays claimed.

Four runs work at once, and each is stopped in another way. The rows of each are in a table of its own, with a
trigger that records when a row changed its state. The function records when it was called and when it ended.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import closing

import pytest

from dev.migrated import copy_migrated
from dev.servers import Redis
from tests.e2e.deployments import Deployment, cpu_waits, until
from tests.integration.claims import ALL, BY_ID, BY_RETRY, CREATE
from tests.integration.conftest import Database, numbers

pytestmark = pytest.mark.e2e

logger = logging.getLogger(__name__)

ROWS = 40
CASES = ("marked", "timed_out", "lease_lost", "signalled")

FILE = f'''"""An Airflow DAG for the tests of row processing that is stopped."""
import os, time
from datetime import timedelta
from iam_watcher import Lock, Watcher
from iam_watcher.jobs.process_rows import process_rows


def work(case):
    ledger = open(os.path.join(os.environ["LEDGERS"], case), "a", buffering=1)
    print("begun", os.getpid(), time.time(), file=ledger)
    try:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            time.sleep(0.02)
    finally:
        print("ended", os.getpid(), time.time(), file=ledger)


for case in {CASES!r}:
    lock = Lock(case, lease=timedelta(seconds=10)) if case == "lease_lost" else None
    with Watcher(case, schedule=None, lock=lock, default_args={{"retries": 0}}):
        limit = {{"execution_timeout": timedelta(seconds=9)}} if case == "timed_out" else {{}}

        @process_rows(
            case, state_column="status", claim="pending", working="work", done="normal", failed="failed",
            claim_timeout=timedelta(hours=1), mysql_conn_id="scratch", **{ALL!r}, **limit,
        )
        def send(row, case=case):
            work(case)

        send()
'''

LEDGER = """
CREATE TABLE {case}_changes (id BIGINT, was VARCHAR(9), became VARCHAR(9), at DECIMAL(20, 6));
CREATE TRIGGER {case}_changed AFTER UPDATE ON {case} FOR EACH ROW
INSERT INTO {case}_changes SELECT NEW.id, OLD.status, NEW.status, UNIX_TIMESTAMP(NOW(6)) FROM DUAL
WHERE OLD.status <> NEW.status
"""


class Work:
    """The rows of one case, and the calls of its function."""

    def __init__(self, case, scratch, folder, run):
        self.case, self.scratch, self.run = case, scratch, run
        self._ledger = folder / case

    def calls(self, kind):
        lines = self._ledger.read_text().splitlines() if self._ledger.exists() else []
        return [(int(pid), float(at)) for word, pid, at in map(str.split, lines) if word == kind]

    @property
    def pid(self):
        return self.calls("begun")[-1][0]

    def begins(self, calls):
        until(lambda: len(self.calls("begun")) >= calls, f"{calls} calls of {self.case}", 300)

    def states(self):
        return dict(self.scratch.rows(f"SELECT status, COUNT(*) FROM {self.case} GROUP BY status"))

    def given_back(self):
        """Return when the last row left the state `work`, in seconds since 1970."""
        return float(self.scratch.value(f"SELECT MAX(at) FROM {self.case}_changes WHERE was = 'work'"))


@pytest.fixture(scope="module")
def scratch(mariadb):
    with closing(mariadb.connect(database="")) as connection:
        database = Database(connection)
        for statement in ("DROP DATABASE IF EXISTS scratch", "CREATE DATABASE scratch", "USE scratch"):
            database.run(statement)
        for case in CASES:
            table = CREATE.format(key=BY_ID, index=BY_RETRY).replace("TABLE orders", f"TABLE {case}")
            for statement in (table, *LEDGER.format(case=case).split(";")):
                database.run(statement)
            database.run(f"INSERT INTO {case} (id) SELECT seq FROM {numbers(ROWS)}")
        yield database


@pytest.fixture(scope="module")
def work(tmp_path_factory, mariadb, scratch):
    """All four cases at work: case -> its work."""
    folder = tmp_path_factory.mktemp("stopped")
    for name in ("dags", "ledgers"):
        (folder / name).mkdir()
    (folder / "dags" / "stopped.py").write_text(FILE)
    with Redis(folder / "redis") as redis:
        airflow = Deployment(
            folder / "home",
            deployment_id="stopped",
            dags_folders=(folder / "dags",),
            connections={
                "scratch": mariadb.airflow_admin_uri.removesuffix("/iam") + "/scratch",
                "iam_redis": redis.airflow_uri,
            },
            options={
                "AIRFLOW__CORE__PARALLELISM": "4",
                "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
                "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
                "LEDGERS": str(folder / "ledgers"),
            },
        )
        airflow.name = "stopped"
        with airflow:
            copy_migrated(airflow.home)
            airflow.start(["api-server", "scheduler", "dag-processor"])
            airflow.wait_healthy()
            until(lambda: airflow.api("/dags?limit=100")["total_entries"] == len(CASES), "the DAGs", 300)
            yield (
                {case: Work(case, scratch, folder / "ledgers", airflow.trigger(case)) for case in CASES},
                redis,
            )


def lose_the_lease(redis):
    with redis.client() as client:
        assert client.exists("lease_lost")
        client.set("lease_lost", "other/lease_lost/run", px=3_600_000)


def test_what_was_begun_is_finished_and_nothing_stays_claimed(work):
    cases, redis = work
    stops = {
        "marked": lambda one: one.run.airflow.api(
            f"/dags/marked/dagRuns/{one.run.id}/taskInstances/send", {"new_state": "failed"}, method="PATCH"
        ),
        "timed_out": lambda _: None,  # Airflow's own time-out
        "lease_lost": lambda _: lose_the_lease(redis),
        "signalled": lambda one: os.kill(one.pid, signal.SIGTERM),
    }
    waits = cpu_waits()
    for case, stop in stops.items():
        one = cases[case]
        one.begins(2)
        stop(one)
    for case, one in cases.items():
        one.run.wait("failed", "send")
        until(lambda one=one: "work" not in one.states(), f"rows of {case} stay claimed: {one.states()}", 30)
        states = one.states()
        begun, ended = one.calls("begun"), one.calls("ended")
        late = one.given_back() - ended[-1][1]
        logger.info("%s: %s, last row %.2f s after the function's end", case, states, late)
        assert len(begun) == len(ended)
        # Each row whose function returned is done. A time-out may end one call, whose row is tried again.
        assert len(ended) - states.get("normal", 0) in ({0, 1} if case == "timed_out" else {0})
        assert sum(states.values()) == ROWS
        assert late <= 1 + cpu_waits() - waits
