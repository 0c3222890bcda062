"""Row processing while workers are killed at random, and rows are slow, fail or kill their worker."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import closing, suppress
from datetime import timedelta

import MySQLdb
import pytest

from iam_watcher.jobs.process_rows import ProcessRowsOperator
from tests.integration.claims import ALL, create
from tests.integration.conftest import TaskInstance, numbers
from tests.integration.forks import FORKS

SHORT = 500
ROWS = int(os.environ.get("ROWS_UNDER_FIRE", SHORT))
WORKERS = 8
KILLS = max(10, ROWS // 500)
PATIENCE = 120  # seconds for one more row to be finished: a bad one needs six attempts

HOLD = {name: ALL[name] for name in ("attempts_column", "retry_at_column", "error_column")}

# What the database itself saw, in the transactions of the workers; and every call of the function.
LEDGERS = """
CREATE TABLE transitions (id BIGINT, was VARCHAR(9), became VARCHAR(9), KEY (id));
CREATE TRIGGER transitions AFTER UPDATE ON orders FOR EACH ROW
INSERT INTO transitions SELECT NEW.id, OLD.status, NEW.status FROM DUAL WHERE OLD.status <> NEW.status;
CREATE TABLE calls (id BIGINT, attempt INT, KEY (id))
"""


def raises(key):
    return key % 50 == 7


def kills_its_worker(key):
    """Only in the long run of `make e2e`: such a row needs six claim time-outs."""
    return ROWS > SHORT and key % 250 == 13


def work_on(row, calls, *, deadly):
    key = row["id"]
    with closing(calls.cursor()) as cursor:
        cursor.execute("INSERT INTO calls VALUES (%s, %s)", [key, row["attempts"]])
    if deadly and kills_its_worker(key):
        os.kill(os.getpid(), signal.SIGKILL)
    if raises(key):
        raise ValueError(f"row {key} is bad")
    if key % 31 == 3 and row["attempts"] == 1:
        raise ConnectionError("once")
    if key % 97 == 5:
        time.sleep(random.uniform(0.005, 0.02))


def work(environment, server, given, stop):
    os.environ.update(environment)
    calls = MySQLdb.connect(**server, database="scratch", autocommit=True)
    deadly = "working" in given
    while not stop.exists():
        job = ProcessRowsOperator(
            task_id="process",
            mysql_conn_id="scratch",
            table="orders",
            state_column="status",
            claim="pending",
            done="normal",
            failed="failed",
            python_callable=lambda row: work_on(row, calls, deadly=deadly),
            claim_timeout=timedelta(seconds=2),
            backoff=timedelta(seconds=0.1),
            max_attempts=6,
            stop_after=None,
            **given,
        )
        job.execute({"ti": TaskInstance("under-fire")})
        time.sleep(0.3)


class Crew:
    """Workers of two deployments; those that die are replaced."""

    def __init__(self, server, given, stop):
        self._server = {
            "host": server.host,
            "port": server.port,
            "user": server.admin_user,
            "password": server.admin_password,
        }
        self._given = given
        self._stop = stop  # a file: a worker that is killed can't leave it locked
        self._workers = []
        self.died = self.failed = 0

    def __enter__(self):
        self._workers = [self._start(number) for number in range(WORKERS)]
        return self

    def __exit__(self, *_):
        self._stop.touch()
        for worker in self._workers:
            worker.join()
            self.failed += worker.exitcode not in {0, -signal.SIGKILL}

    def _start(self, number):
        environment = {**os.environ, "AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID": f"deployment-{number % 2}"}
        worker = FORKS.Process(target=work, args=(environment, self._server, self._given, self._stop))
        worker.start()
        return worker

    def replace_the_dead(self):
        for number, worker in enumerate(self._workers):
            if not worker.is_alive():
                worker.join()
                self.died += 1
                self.failed += worker.exitcode != -signal.SIGKILL
                self._workers[number] = self._start(number)

    def kill_one(self):
        with suppress(ProcessLookupError):
            os.kill(random.choice(self._workers).pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "given",
    [pytest.param({"working": "work", **ALL}, id="claim"), pytest.param(HOLD, id="hold")],
)
def test_every_row_is_finished_once_and_only_bad_ones_fail(scratch, mariadb, tmp_path, given):
    create(scratch)
    for statement in LEDGERS.split(";"):
        scratch.run(statement)
    scratch.run(f"INSERT INTO orders (id) SELECT seq FROM {numbers(ROWS)}")
    left = "SELECT COUNT(*) FROM orders WHERE status NOT IN ('normal', 'failed')"
    killed, next_kill = 0, 0.0
    before, deadline = ROWS + 1, 0.0
    with Crew(mariadb, given, tmp_path / "stop") as crew:
        while rows := scratch.value(left):
            if rows < before:
                before, deadline = rows, time.monotonic() + PATIENCE
            assert time.monotonic() < deadline, scratch.rows(
                "SELECT * FROM orders WHERE status NOT IN ('normal', 'failed') LIMIT 5"
            )
            crew.replace_the_dead()
            if killed < KILLS and time.monotonic() > next_kill:
                crew.kill_one()
                killed += 1
                next_kill = time.monotonic() + random.uniform(0.05, 0.3)
            time.sleep(0.02)
    assert crew.failed == 0
    assert crew.died > 0
    deadly = "working" in given
    bad = {key for key in range(1, ROWS + 1) if raises(key) or (deadly and kills_its_worker(key))}
    assert set(scratch.column("SELECT id FROM orders WHERE status = 'failed'")) == bad
    assert set(scratch.column("SELECT id FROM calls")) == set(range(1, ROWS + 1))
    final = "SELECT id, COUNT(*) FROM transitions WHERE became IN ('normal', 'failed') GROUP BY id"
    assert dict(scratch.rows(final)) == dict.fromkeys(range(1, ROWS + 1), 1)
    assert scratch.rows("SELECT * FROM transitions WHERE was IN ('normal', 'failed')") == []
    if deadly and ROWS > SHORT:
        reasons = "SELECT DISTINCT error FROM orders WHERE status = 'failed' AND id % 250 = 13"
        assert scratch.column(reasons) == ["its worker died in attempt 6 of 6"]
