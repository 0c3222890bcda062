"""ProcessRowsOperator: what it reports, how it stops, and what it leaves alone.

Most tests run in both modes, on the same table and with the same operator: hence the length.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import msgspec
import pytest
from airflow.sdk.exceptions import AirflowFailException

from dev.airflow import ROOT
from iam_watcher.database.throttle import Throttle
from iam_watcher.errors import JobError, LockLost, RowFailed, WalkError
from iam_watcher.jobs.process_rows import ProcessRowsOperator
from iam_watcher.lock import current
from iam_watcher.walk.claim import find_states
from iam_watcher.walk.claim.processing import Processing
from tests.integration.claims import ALL, create
from tests.integration.conftest import TaskInstance, numbers

CLAIM = {"working": "work", **ALL}
HOLD = {name: ALL[name] for name in ("attempts_column", "retry_at_column", "error_column")}


@pytest.fixture(params=["claim", "hold"])
def mode(request):
    return CLAIM if request.param == "claim" else HOLD


def operator(function, **given):
    return ProcessRowsOperator(
        task_id="process",
        mysql_conn_id="scratch",
        table="orders",
        state_column="status",
        claim="pending",
        done="normal",
        failed="failed",
        python_callable=function,
        **given,
    )


def fill(scratch, rows):
    create(scratch)
    scratch.run(f"INSERT INTO orders (id) SELECT seq FROM {numbers(rows)}")


def states(scratch):
    return dict(scratch.rows("SELECT status, COUNT(*) FROM orders GROUP BY status"))


def test_a_polite_job_rests_as_long_as_the_database_worked(scratch, perform, mode, monkeypatch):
    fill(scratch, 30)
    rests, began = [], time.monotonic()
    clock = SimpleNamespace(sleep=rests.append, monotonic=time.monotonic)
    monkeypatch.setattr("iam_watcher.jobs.row_processing.run.time", clock)
    perform(operator(lambda row: None, pace="polite", **mode))
    assert rests
    assert 0 < min(rests) <= sum(rests) < time.monotonic() - began


def test_no_row_is_claimed_while_the_server_is_busy(scratch, perform, mode):
    fill(scratch, 2)
    throttle = Throttle(max_threads_running=0, patience=timedelta(microseconds=1))
    with pytest.raises(WalkError, match="threads are running, more than 0"):
        perform(operator(lambda row: pytest.fail("called"), throttle=throttle, **mode))
    assert states(scratch) == {"pending": 2}


def test_a_row_fails_in_its_fifth_attempt_if_no_other_number_is_given(scratch, perform, mode):
    fill(scratch, 2)
    scratch.run("UPDATE orders SET attempts = id + 2")
    perform(operator(lambda row: row["absent"], **mode))
    assert scratch.rows("SELECT id, status FROM orders") == [(1, "pending"), (2, "failed")]


def test_the_run_report_says_what_became_of_the_rows(scratch, perform, mode, caplog):
    fill(scratch, 30)
    scratch.run("ALTER TABLE orders ADD COLUMN created_at DATETIME NOT NULL DEFAULT '2026-01-01'")

    def work(row):
        if row["id"] == 3:
            raise RowFailed("no address")
        if row["id"] in (5, 6):
            raise ValueError("secret-less")

    with caplog.at_level(logging.INFO):
        report = perform(operator(work, age_column="created_at", max_rows=20, **mode))
    expected = {
        "mode": "claim" if "working" in mode else "hold",
        "claimed": 20,
        "done": 17,
        "failed": 1,
        "retried": 2,
        "lost": 0,
        "attempts": {"1": 20},
        "exceptions": [{"exception": "ValueError", "rows": 2, "key": "5", "message": "secret-less"}],
        "remaining": 12,
        "stopped": "max_rows",
        "error": None,
    }
    assert {name: report[name] for name in expected} == expected
    assert report["oldest_pending_seconds_before"] > 0
    assert report["oldest_pending_seconds_after"] > 0
    line = next(r.message for r in caplog.records if r.message.startswith("17 rows of orders done"))
    assert "1 failed, 2 retried" in line
    assert "stopped at the row limit; 12 pending" in line


def test_half_a_character_in_a_message_is_no_half_in_the_run_report(scratch, perform, mode):
    """JSON can have such a text, as the answer of another system; the XCom can't."""
    fill(scratch, 10)

    def work(row):
        raise ValueError("bad answer: \ud83d")

    ti = TaskInstance("half")
    with pytest.raises(AirflowFailException, match=r"ended with ValueError: bad answer: \\ud83d"):
        perform(operator(work, **mode), ti)
    report = json.loads(msgspec.json.encode(ti.xcom["return_value"]))
    assert [one["message"] for one in report["exceptions"]] == ["bad answer: \\ud83d"]
    assert "bad answer: \\ud83d" in report["error"]
    assert set(scratch.column("SELECT error FROM orders")) == {"ValueError: bad answer: \\ud83d"}


def test_a_dry_run_claims_nothing(scratch, perform, mode):
    fill(scratch, 7)
    report = perform(operator(lambda row: pytest.fail("called"), dry_run=True, **mode))
    assert report["remaining"] == 7
    assert report["examples"] == [{"key": str(key)} for key in range(1, 6)]
    assert states(scratch) == {"pending": 7}


@pytest.mark.parametrize("column", ["status", *HOLD.values()])
def test_a_missing_right_to_write_an_outcome_is_said_before_the_first_call(
    scratch, mariadb, perform, monkeypatch, column
):
    fill(scratch, 3)
    others = ", ".join({"status", *HOLD.values()} - {column})
    rights, called = f"SELECT, UPDATE ({others}) ON scratch.orders", []
    monkeypatch.setenv("AIRFLOW_CONN_SCRATCH", mariadb.airflow_uri.removesuffix("/iam") + "/scratch")
    scratch.run(f"GRANT {rights} TO {mariadb.user}")
    try:
        with pytest.raises(AirflowFailException, match="grant the connection's account this right"):
            perform(operator(called.append, **HOLD))
    finally:
        scratch.run(f"REVOKE {rights} FROM {mariadb.user}")
    assert called == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_state_that_no_row_has_is_a_warning(scratch, perform, mode, caplog, dry_run):
    fill(scratch, 2)
    perform(operator(lambda row: None, dry_run=dry_run, **mode))
    assert "Check the arguments" not in caplog.text
    scratch.run("ALTER TABLE orders MODIFY status VARCHAR(20) NOT NULL")
    scratch.run("DELETE FROM orders")
    perform(operator(lambda row: None, dry_run=dry_run, **mode))
    assert "Check the arguments" not in caplog.text
    scratch.run("INSERT INTO orders (status) VALUES ('pendign')")
    perform(operator(lambda row: None, dry_run=dry_run, **mode))
    assert "such as 'pendign'. Check the arguments claim, working, done and failed" in caplog.text


def test_the_claimant_is_written_to_the_row(scratch, perform):
    fill(scratch, 1)
    perform(operator(lambda row: None, **CLAIM), TaskInstance("run-7", try_number=2))
    nonce, name = scratch.value("SELECT claimed_by FROM orders").split(" ")
    assert (len(nonce), name) == (24, "test/dag/run-7/task/-1/2")


def test_the_function_gets_a_read_only_row(scratch, perform, mode):
    fill(scratch, 1)
    seen = []

    def work(row):
        with pytest.raises(TypeError):
            row["note"] = "mine"
        seen.append(dict(row))

    perform(operator(work, columns=["note"], **mode))
    assert seen[0]["note"] is None
    assert seen[0]["attempts"] == 1


@pytest.mark.parametrize("how", ["on_kill", "lease"])
def test_a_stop_finishes_what_was_begun_and_gives_the_rest_back(scratch, perform, mode, monkeypatch, how):
    fill(scratch, 40)
    lost = []

    def work(row):
        if row["id"] == 4:
            lost.append(True)
            if how == "on_kill":
                job.on_kill()
            work.ended = time.monotonic()

    def safe_point():
        if how == "lease" and lost:
            raise LockLost("as if")

    monkeypatch.setattr(current, "safe_point", safe_point)
    job = operator(work, **mode)
    ti = TaskInstance("stopped")
    with pytest.raises((JobError, AirflowFailException)):
        perform(job, ti)
    assert states(scratch) == {"normal": 4, "pending": 36}
    assert scratch.value("SELECT SUM(attempts) FROM orders") == 4
    report = ti.xcom["return_value"]
    assert (report["done"], report["given_back"]) == (4, 6)
    assert report["error"]


class TimedOut(BaseException):
    """As AirflowTaskTimeout is."""


def test_a_time_out_ends_a_function_that_hangs(scratch, perform, mode):
    fill(scratch, 5)
    before = signal.getsignal(signal.SIGALRM)

    def raise_timed_out(*_):
        raise TimedOut

    def work(row):
        if row["id"] == 2:
            os.kill(os.getpid(), signal.SIGALRM)
            threading.Event().wait()

    signal.signal(signal.SIGALRM, raise_timed_out)
    try:
        with pytest.raises(TimedOut):
            perform(operator(work, **mode))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert states(scratch) == {"normal": 1, "pending": 4}
    assert scratch.rows("SELECT id, attempts FROM orders WHERE attempts > 0") == [(1, 1), (2, 1)]


def test_a_time_out_while_outcomes_are_written_waits_for_their_commit(scratch, perform, mode, monkeypatch):
    from iam_watcher.walk.claim.finish import Finish

    fill(scratch, 3)
    before = signal.getsignal(signal.SIGALRM)
    apply = Finish._apply

    def raise_timed_out(*_):
        raise TimedOut

    def apply_and_time_out(self, left, size):
        os.kill(os.getpid(), signal.SIGALRM)
        return apply(self, left, size)

    monkeypatch.setattr(Finish, "_apply", apply_and_time_out)
    signal.signal(signal.SIGALRM, raise_timed_out)
    try:
        with pytest.raises(TimedOut):
            perform(operator(lambda row: None, **mode))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert states(scratch) == {"normal": 3}


def test_a_time_out_before_the_function_is_called_gives_its_row_back(scratch, perform, mode, monkeypatch):
    from iam_watcher.walk.claim.processing import Processing

    fill(scratch, 3)
    scratch.run("UPDATE orders SET attempts = 4")  # the next one is the last
    before = signal.getsignal(signal.SIGALRM)
    begin, called = Processing.begin, []

    def raise_timed_out(*_):
        raise TimedOut

    def begin_and_time_out(self, rows):
        begun = begin(self, rows)
        if called:
            os.kill(os.getpid(), signal.SIGALRM)
        return begun

    monkeypatch.setattr(Processing, "begin", begin_and_time_out)
    signal.signal(signal.SIGALRM, raise_timed_out)
    try:
        with pytest.raises(TimedOut):
            perform(operator(lambda row: called.append(row["id"]), **mode))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert called == [1]
    assert scratch.rows("SELECT status, attempts, error FROM orders") == [
        ("normal", 5, None),
        ("pending", 4, None),
        ("pending", 4, None),
    ]


CANARY = "s3cr3t-token-of-the-shop"


@pytest.mark.parametrize("failure", [RuntimeError, RowFailed])
def test_a_secret_is_neither_in_the_run_report_nor_in_the_table(scratch, perform, mode, failure):
    from airflow.sdk.log import mask_secret

    mask_secret(CANARY)
    fill(scratch, 10)

    def work(row):
        # The message is cut within the secret.
        raise failure(f"401 for 'https://shop/{'x' * (200 - 25)}{CANARY}'")

    ti = TaskInstance("secret")
    if failure is RuntimeError:
        with pytest.raises(AirflowFailException):
            perform(operator(work, **mode), ti)
        report = json.dumps(ti.xcom["return_value"])
        assert report.count("***") == 2  # the error, and the message of the first row
    else:
        report = json.dumps(perform(operator(work, **mode), ti))
    errors = set(scratch.column("SELECT error FROM orders"))
    assert len(errors) == 1
    assert "***'" in errors.pop()
    assert CANARY[:5] not in report
    assert not scratch.value(f"SELECT COUNT(*) FROM orders WHERE error LIKE '%{CANARY[:5]}%'")


@pytest.mark.parametrize(("given", "rows"), [({}, 10), ({"stop_after": 3}, 3)])
def test_a_failing_service_fails_the_task_without_a_retry(scratch, perform, mode, given, rows):
    fill(scratch, 30)

    def work(row):
        raise ConnectionError("away")

    message = f"{rows} rows of orders in a row ended with ConnectionError"
    with pytest.raises(AirflowFailException, match=message):
        perform(operator(work, **mode, **given))
    assert scratch.value("SELECT SUM(attempts) FROM orders") == rows


@pytest.mark.parametrize("per", ["row", "batch"])
def test_the_rows_are_processed_as_the_arguments_say(scratch, perform, mode, monkeypatch, per):
    fill(scratch, 1)
    given = {}

    def noted(*arguments, **options):
        given.update(options)
        return Processing(*arguments, **options)

    monkeypatch.setattr("iam_watcher.jobs.row_processing.run.Processing", noted)
    perform(operator(lambda _: None, per=per, batch=7, **mode))
    assert (given["batch"], given["whole_batches"]) == (7, per == "batch")
    assert (given["renewal"] is not None) == ("working" in mode), "claims are renewed"


def test_each_limit_of_a_row_is_that_of_its_argument(scratch, perform, monkeypatch):
    fill(scratch, 1)
    find, found = find_states.find, []
    monkeypatch.setattr(find_states, "find", lambda db, names: found.append(names) or find(db, names))
    times = {"claim_timeout": timedelta(seconds=50), "backoff": timedelta(seconds=7)}
    perform(operator(lambda row: None, **times, **CLAIM))
    assert [(one.claim_timeout, one.backoff, one.max_attempts) for one in found] == [(50, 7, 5)]


def test_a_worker_with_a_wrong_clock_can_process_rows(scratch, perform):
    import time_machine

    fill(scratch, 2)
    with time_machine.travel("2020-01-01", tick=True):
        perform(operator(lambda row: None, **CLAIM))
    assert states(scratch) == {"normal": 2}
    assert scratch.value("SELECT COUNT(*) FROM orders WHERE claimed_at > '2026-01-01'") == 2


def test_the_columns_of_the_page_are_those_that_the_job_needs(scratch, perform):
    page = (ROOT / "docs" / "rows-in-a-state.md").read_text()
    (alter,) = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    scratch.run(
        "CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, status VARCHAR(10) DEFAULT 'pending')"
    )
    scratch.run(alter)
    scratch.run("INSERT INTO orders () VALUES (), ()")
    columns = {f"{name}_column": name for name in ("attempts", "retry_at", "error")}
    assert perform(operator(lambda row: None, working="work", **columns))["done"] == 2
    assert states(scratch) == {"normal": 2}
