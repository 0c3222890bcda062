"""Row processing in a table that another session has locked: a stop is heard, and results are written."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import JobError, LockLost
from iam_watcher.lock import current
from iam_watcher.walk.claim.claims import Claims
from iam_watcher.walk.claim.idle_time import IdleTime
from tests.integration.conftest import TaskInstance
from tests.integration.test_mysql_outages import at_a_retry, brief
from tests.integration.test_process_rows_operator import CLAIM, HOLD, fill, operator, states

__all__ = ["at_a_retry", "brief"]

pytestmark = pytest.mark.every_server


@pytest.fixture(params=["claim", "hold"])
def mode(request):
    return CLAIM if request.param == "claim" else HOLD


@pytest.fixture
def other(mariadb, scratch):
    """Another session; what it has locked is free again when it ends."""
    with closing(mariadb.connect("scratch")) as connection, connection.cursor() as cursor:
        yield cursor


@pytest.fixture(params=["on_kill", "lease"])
def stop(request, monkeypatch):
    """A function that stops a job."""
    lost = []

    def safe_point():
        if lost:
            raise LockLost("as if")

    monkeypatch.setattr(current, "safe_point", safe_point)
    return lambda job: job.on_kill() if request.param == "on_kill" else lost.append(job)


def before(monkeypatch, of, name, what):
    """Have something done before a method is called."""
    method = getattr(of, name)

    def after_it(*arguments):
        what()
        return method(*arguments)

    monkeypatch.setattr(of, name, after_it)


@pytest.mark.parametrize("when", ["first look", "claim", "look for rows"])
def test_a_stop_is_heard_while_the_run_waits_for_it(
    scratch, perform, other, at_a_retry, monkeypatch, mode, stop, when
):
    fill(scratch, 5)
    job = operator(lambda row: None, max_idle_time=timedelta(minutes=1), **mode)
    if when == "first look":
        other.execute("LOCK TABLES orders WRITE")
    else:
        of, name = (Claims, "claim") if when == "claim" else (IdleTime, "_is_due")
        before(monkeypatch, of, name, lambda: other.execute("LOCK TABLES orders WRITE"))
    tries = []
    at_a_retry(1, lambda: stop(job))
    at_a_retry(2, lambda: tries.append("after the stop"))
    with pytest.raises((JobError, AirflowFailException), match=r"was stopped by Airflow|lost the lock"):
        perform(job)
    assert tries == []
    other.execute("UNLOCK TABLES")
    assert states(scratch) == ({"normal": 5} if when == "look for rows" else {"pending": 5})


def test_the_results_of_a_run_that_is_stopped_are_written_when_the_table_is_free(
    scratch, perform, other, at_a_retry, stop
):
    fill(scratch, 10)

    def work(row):
        if row["id"] == 2:
            other.execute("LOCK TABLES orders WRITE")
            stop(job)

    job, ti = operator(work, **CLAIM), TaskInstance("stopped")
    at_a_retry(3, lambda: other.execute("UNLOCK TABLES"))
    with pytest.raises((JobError, AirflowFailException), match=r"was stopped by Airflow|lost the lock"):
        perform(job, ti)
    other.execute("UNLOCK TABLES")
    assert states(scratch) == {"normal": 2, "pending": 8}
    report = ti.xcom["return_value"]
    assert (report["done"], report["given_back"], report["retries"]) == (2, 8, 3)


def test_rows_that_were_claimed_without_an_answer_are_given_back(scratch, perform, monkeypatch, stop):
    """Only another try finds out whether they are claimed."""
    fill(scratch, 5)
    commit, lost = Transactions.commit, []

    def commit_without_answer(db):
        commit(db)
        if not lost and "work" in states(scratch):
            lost.append(True)
            stop(job)
            raise db.error(2013, "as if")

    monkeypatch.setattr(Transactions, "commit", commit_without_answer)
    job = operator(lambda row: pytest.fail("called"), **CLAIM)
    with pytest.raises((JobError, AirflowFailException), match=r"was stopped by Airflow|lost the lock"):
        perform(job)
    assert lost
    assert states(scratch) == {"pending": 5}
    assert scratch.value("SELECT SUM(attempts) FROM orders") == 0
