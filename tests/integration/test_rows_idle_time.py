"""A run of row processing that waits for rows: what it processes, what ends it, and what it leaves alone."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from dev.sessions import wait_until
from iam_watcher.errors import JobError, LockLost
from iam_watcher.lock import current
from tests.integration.claims import create
from tests.integration.conftest import Database, TaskInstance
from tests.integration.test_process_rows_operator import CLAIM, HOLD, fill, operator, states

WAITS = "The run waits for rows"
SESSIONS = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = 'scratch' AND ID NOT IN (%s, %s)"


@pytest.fixture(params=["claim", "hold"])
def mode(request):
    return CLAIM if request.param == "claim" else HOLD


@pytest.fixture
def other(mariadb, scratch):
    """What another client does: its own connection, for another thread."""
    with closing(mariadb.connect("scratch")) as connection:
        connection.autocommit(True)
        yield Database(connection)


@contextmanager
def meanwhile(*steps):
    """Do something in another thread while the block runs; its error is the test's."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(lambda: [step() for step in steps])
        yield
        doing.result()


def waiting(caplog):
    """Wait until the run says that it waits."""
    assert wait_until(lambda: caplog.text.count(WAITS), 30)


def idle(seconds):
    return {"max_idle_time": timedelta(seconds=seconds)}


def processed(other, key):
    """Wait until a row is done; the run is idle then, or soon."""
    query = "SELECT COUNT(*) FROM orders WHERE id = %s AND status = 'normal'"
    assert wait_until(lambda: other.value(query, [key]), 10)


@pytest.mark.every_server
def test_rows_that_come_while_a_run_waits_are_processed_by_it(scratch, other, perform, mode, caplog):
    fill(scratch, 3)
    scratch.run("UPDATE orders SET id = id + 100")

    def insert(key):
        other.run("INSERT INTO orders (id) VALUES (%s)", [key])
        processed(other, key)

    # Each row comes after more than half of the time: it begins anew. One is before the others in the order.
    steps = [lambda: waiting(caplog)]
    for key in (200, 50, 201):
        steps += [lambda: time.sleep(1.2), lambda key=key: insert(key)]
    with caplog.at_level(logging.INFO), meanwhile(*steps):
        report = perform(operator(lambda row: None, **idle(2), **mode))
    assert states(scratch) == {"normal": 6}
    assert (report["done"], report["stopped"], report["error"]) == (6, None, None)
    assert 5 < report["idle_seconds"] <= report["duration_seconds"]
    assert caplog.text.count(WAITS) == 1
    assert f"of which it waited {report['idle_seconds']:.1f} s for rows" in caplog.text


def test_a_run_waits_for_its_first_row_too(scratch, other, perform, mode, caplog):
    create(scratch)
    insert = "INSERT INTO orders (id) VALUES (1)"
    with caplog.at_level(logging.INFO), meanwhile(lambda: waiting(caplog), lambda: other.run(insert)):
        report = perform(operator(lambda row: None, **idle(5), **mode))
    assert (report["done"], states(scratch)) == (1, {"normal": 1})


def test_a_run_without_an_idle_time_ends_at_once(scratch, perform, mode, caplog):
    fill(scratch, 3)
    with caplog.at_level(logging.INFO):
        report = perform(operator(lambda row: None, **mode))
    assert (report["done"], report["idle_seconds"]) == (3, 0)
    assert "waited" not in caplog.text
    assert WAITS not in caplog.text


@pytest.mark.every_server
def test_no_transaction_is_open_while_a_run_waits(scratch, other, perform, mode, caplog):
    fill(scratch, 1)
    seen = []

    def look():
        waiting(caplog)
        seen.extend(other.transactions() for _ in range(8))

    with caplog.at_level(logging.INFO), meanwhile(look):
        perform(operator(lambda row: None, **idle(3), **mode))
    # A look takes a millisecond, so one picture in a hundred may show it.
    assert sum(map(bool, seen)) <= 1


def test_the_idle_session_is_kept_and_that_of_the_renewals_is_closed(
    scratch, other, perform, mode, caplog, monkeypatch
):
    """The server ends a session that is silent for 3 s, which is `claim_timeout`."""
    fill(scratch, 1)
    monkeypatch.setattr("iam_watcher.jobs.row_processing.run.LEAST_SILENCE", 1)
    mine = [one.value("SELECT CONNECTION_ID()") for one in (scratch, other)]

    def look():
        waiting(caplog)
        # The session of the renewals is silent since 0.5 s at least.
        assert wait_until(lambda: other.value(SESSIONS, mine) == 1, 2)
        time.sleep(4)
        other.run("INSERT INTO orders (id) VALUES (9)")

    with caplog.at_level(logging.INFO), meanwhile(look):
        report = perform(
            operator(lambda row: time.sleep(1.5), claim_timeout=timedelta(seconds=3), **idle(8), **mode)
        )
    assert (report["done"], report["retries"], report["late_renewals"]) == (2, 0, 0)


def test_the_time_limit_ends_a_run_that_waits(scratch, perform, mode):
    fill(scratch, 1)
    limit = timedelta(seconds=1.2)
    began = time.monotonic()
    report = perform(operator(lambda row: None, time_budget=limit, **idle(60), **mode))
    assert 1.2 <= time.monotonic() - began < 5
    assert (report["done"], report["stopped"]) == (1, "time_budget")


def test_the_row_limit_counts_the_rows_that_came_later(scratch, other, perform, mode, caplog):
    fill(scratch, 1)

    def insert():
        waiting(caplog)
        other.run("INSERT INTO orders (id) VALUES (2), (3), (4)")

    with caplog.at_level(logging.INFO), meanwhile(insert):
        report = perform(operator(lambda row: None, max_rows=3, **idle(60), **mode))
    assert (report["done"], report["stopped"], report["remaining"]) == (3, "max_rows", 1)


@pytest.mark.parametrize("how", ["on_kill", "lease"])
def test_a_run_that_waits_stops_within_a_second(scratch, perform, mode, caplog, monkeypatch, how):
    fill(scratch, 2)
    stopped = []

    def stop():
        waiting(caplog)
        time.sleep(0.7)
        stopped.append(time.monotonic())
        if how == "on_kill":
            job.on_kill()

    def safe_point():
        if how == "lease" and stopped:
            raise LockLost("as if")

    monkeypatch.setattr(current, "safe_point", safe_point)
    job = operator(lambda row: None, **idle(60), **mode)
    ti = TaskInstance("stopped")
    with caplog.at_level(logging.INFO), meanwhile(stop):
        with pytest.raises((JobError, AirflowFailException)):
            perform(job, ti)
        ended = time.monotonic()
    assert ended - stopped[0] < 1
    report = ti.xcom["return_value"]
    assert report["done"] == 2
    assert report["idle_seconds"] > 0.5


def test_a_row_that_is_tried_again_is_processed_when_it_is_due(scratch, perform, mode):
    fill(scratch, 2)
    calls = []

    def work(row):
        calls.append((row["id"], time.monotonic()))
        if row["id"] == 1 and row["attempts"] == 1:
            raise ConnectionError("away")

    report = perform(operator(work, backoff=timedelta(seconds=2), **idle(3), **mode))
    assert states(scratch) == {"normal": 2}
    assert (report["done"], report["retried"]) == (2, 1)
    (first, second) = (at for key, at in calls if key == 1)
    assert 0.9 < second - first < 3


def test_a_claim_that_runs_out_meanwhile_is_taken_over(scratch, perform):
    fill(scratch, 2)
    scratch.run(
        "UPDATE orders SET status = 'work', claimed_by = 'other', claimed_at = NOW(6), attempts = 1"
        " WHERE id = 1"
    )
    report = perform(operator(lambda row: None, claim_timeout=timedelta(seconds=2), **idle(3), **CLAIM))
    assert states(scratch) == {"normal": 2}
    assert report["taken_over"] == 1
    assert report["idle_seconds"] < 5.5


def test_a_row_that_another_session_has_locked_does_not_prolong_the_wait(scratch, mariadb, perform, mode):
    fill(scratch, 2)
    with closing(mariadb.connect("scratch")) as connection:
        other = Database(connection)
        other.run("BEGIN")
        other.rows("SELECT * FROM orders WHERE id = 2 FOR UPDATE")
        report = perform(operator(lambda row: None, **idle(1.5), **mode))
        connection.rollback()
    assert (report["done"], report["remaining"]) == (1, 1)
    assert report["duration_seconds"] < 5


def test_a_dry_run_does_not_wait(scratch, perform, mode):
    fill(scratch, 2)
    report = perform(operator(lambda row: None, dry_run=True, **idle(60), **mode))
    assert (report["remaining"], report["idle_seconds"]) == (2, 0)
    assert report["duration_seconds"] < 10


def test_a_row_that_was_locked_is_processed_when_its_lock_ends(scratch, mariadb, perform, mode, caplog):
    """Also a row that is before the others in the order in which rows are tried again."""
    fill(scratch, 2)
    scratch.run("UPDATE orders SET retry_at = NOW(6) - INTERVAL 3 - id HOUR")
    with closing(mariadb.connect("scratch")) as connection:
        locking = Database(connection)
        locking.run("BEGIN")
        locking.rows("SELECT * FROM orders WHERE id = 1 FOR UPDATE")

        def unlock():
            waiting(caplog)
            connection.rollback()

        with caplog.at_level(logging.INFO), meanwhile(unlock):
            report = perform(operator(lambda row: None, **idle(3), **mode))
    assert report["done"] == 2
