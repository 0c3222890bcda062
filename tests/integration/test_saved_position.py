"""Runs that stop halfway, inside a real Airflow: what the next try and the next run make of it.

Each test is a run with tries that fail, inside the same Airflow: hence the length.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from airflow.models import Variable
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.sdk.execution_time.context import TaskStateStoreAccessor

from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.table_job import saved_position
from iam_watcher.jobs.table_job.purge_job import PurgeJob
from iam_watcher.jobs.table_job.run import TableRun
from iam_watcher.task_variable import task_variable
from iam_watcher.walk import pace
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import numbers


@pytest.fixture
def table(scratch, monkeypatch, airflow_db):
    """1,000 rows, all to be deleted, in chunks of 100; no run before has left a position."""
    Variable.delete("iam_watcher:position:purging:purge")  # noqa: AIR311  the SDK's works in a task only
    monkeypatch.setattr(pace, "MOST_ROWS", 100)
    monkeypatch.setattr("iam_watcher.walk.walk.ChunkSize", lambda target: pace.ChunkSize(target, rows=100))
    scratch.run("CREATE TABLE t (id bigint unsigned PRIMARY KEY, age timestamp NOT NULL)")
    scratch.run(f"INSERT INTO t SELECT seq, UTC_TIMESTAMP() - INTERVAL 20 DAY FROM {numbers(1000)}")
    return scratch


def purging(**options):
    with DAG("purging", schedule=None) as dag:
        PurgeRowsOperator(
            task_id="purge",
            age_column="age",
            older_than_days=10,
            mysql_conn_id="scratch",
            **{"table": "t", **options},
        )
    return dag


def report(run):
    (ti,) = run.get_task_instances()
    return ti.xcom_pull(task_ids="purge")


class Fails:
    """Makes the walk fail at its n-th chunk, once, and counts the chunks."""

    def __init__(self, monkeypatch, chunk):
        self.chunks = 0
        write = Walk._write

        def fail(walk, *arguments):
            self.chunks += 1
            if self.chunks == chunk:
                raise ConnectionAbortedError("made by the test")
            return write(walk, *arguments)

        monkeypatch.setattr(Walk, "_write", fail)


def test_a_retry_goes_on_where_the_first_try_failed(table, run_dag, monkeypatch):
    fails = Fails(monkeypatch, chunk=4)
    run = run_dag(purging(retries=1, retry_delay=timedelta(0)))
    assert run.state == "success"
    assert report(run)["began_after"] == 300
    assert (report(run)["changed"], report(run)["examined"]) == (700, 700)
    assert report(run)["changed_before"] == 300
    assert table.value("SELECT COUNT(*) FROM t") == 0
    assert fails.chunks == 11


def test_a_row_limit_is_for_all_tries_of_a_run(table, run_dag, monkeypatch):
    Fails(monkeypatch, chunk=4)
    done = report(run_dag(purging(max_rows=450, retries=1, retry_delay=timedelta(0))))
    assert (done["changed_before"], done["changed"], done["stopped"]) == (300, 150, "max_rows")
    assert table.value("SELECT COUNT(*) FROM t") == 550
    assert report(run_dag(purging(max_rows=1000)))["began_after"] == 450


def test_a_row_limit_is_for_all_tries_of_a_run_by_the_index(table, run_dag, monkeypatch):
    table.run(f"INSERT INTO t SELECT seq + 1000, UTC_TIMESTAMP() FROM {numbers(19_000)}")
    table.run("ALTER TABLE t ADD INDEX (age)")
    table.run("ANALYZE TABLE t")
    Fails(monkeypatch, chunk=4)
    done = report(run_dag(purging(max_rows=450, retries=1, retry_delay=timedelta(0))))
    assert (done["order"], done["changed_before"], done["changed"]) == ("index", 300, 150)
    assert table.value("SELECT COUNT(*) FROM t") == 19_550


def test_a_retry_by_the_index_knows_what_the_first_try_changed(table, run_dag, monkeypatch):
    table.run(f"INSERT INTO t SELECT seq + 1000, UTC_TIMESTAMP() FROM {numbers(19_000)}")
    table.run("ALTER TABLE t ADD INDEX (age)")
    table.run("ANALYZE TABLE t")
    Fails(monkeypatch, chunk=4)
    done = report(run_dag(purging(retries=1, retry_delay=timedelta(0))))
    assert (done["order"], done["changed_before"], done["changed"]) == ("index", 300, 700)


def test_a_retry_reads_no_row_again_that_stays(table, run_dag, monkeypatch):
    table.run("UPDATE t SET age = UTC_TIMESTAMP() WHERE id <= 300")
    monkeypatch.setattr(pace, "LEAST_SPAN", 100)
    monkeypatch.setattr(
        "iam_watcher.walk.walk.ChunkSize", lambda target: pace.ChunkSize(target, rows=100, span=100)
    )
    Fails(monkeypatch, chunk=1)
    done = report(run_dag(purging(retries=1, retry_delay=timedelta(0))))
    assert 0 < done["began_after"] <= 300
    assert (done["changed_before"], done["changed"]) == (0, 700)


def test_a_retry_that_the_safety_limit_stops_reports_what_the_first_try_changed(table, run_dag, monkeypatch):
    table.run(f"INSERT INTO t SELECT seq + 1000, UTC_TIMESTAMP() FROM {numbers(1000)}")
    Fails(monkeypatch, chunk=4)
    count, counts = TableRun._count, []

    def count_with_an_old_table(run, *arguments):
        if counts:
            table.run("UPDATE t SET age = '2001-01-01'")
        counts.append(count(run, *arguments))

    monkeypatch.setattr(TableRun, "_count", count_with_an_old_table)
    run = run_dag(purging(max_share=0.6, retries=1, retry_delay=timedelta(0)))
    assert (run.state, len(counts)) == ("failed", 2)
    done = report(run)
    assert (done["changed_before"], done["changed"], done["matched"]) == (300, 0, 1700)
    assert "max_share=0.6. Earlier tries of this run changed 300 rows. Check" in done["error"]


@pytest.mark.parametrize("last_key", [400, None])
def test_a_row_limit_holds_when_something_fails_after_the_last_row(table, run_dag, monkeypatch, last_key):
    """Such as a mail, the announcement or the archive's manifest; at the limit and at the table's end."""
    rows = last_key or 1000
    finish, tries = PurgeJob.finish, []

    def fails_twice(operator, *arguments):
        tries.append(table.value("SELECT COUNT(*) FROM t"))
        table.run(f"INSERT INTO t SELECT seq + 2000, '2001-01-01' FROM {numbers(100)}")
        table.run("UPDATE t SET id = id + 1000 * %s WHERE id BETWEEN 2001 AND 2100", [len(tries)])
        if len(tries) < 3:
            raise ConnectionError("no mail server")
        finish(operator, *arguments)

    monkeypatch.setattr(PurgeJob, "finish", fails_twice)
    done = report(run_dag(purging(max_rows=rows, retries=2, retry_delay=timedelta(0))))
    assert tries == [1000 - rows, 1100 - rows, 1200 - rows]
    assert (done["changed_before"], done["changed"], done["stopped"]) == (rows, 0, "max_rows")
    assert report(run_dag(purging(max_rows=5000)))["changed"] == 1300 - rows


class Killed(BaseException):
    """The worker's process ends here."""


def test_a_row_limit_holds_for_a_worker_that_is_killed_after_each_commit(table, run_dag, monkeypatch):
    """A killed process saves nothing any more."""
    write = Walk._write

    def write_and_die(walk, *arguments):
        write(walk, *arguments)
        raise Killed

    monkeypatch.setattr(Walk, "_write", write_and_die)
    monkeypatch.setattr(saved_position.SavedPosition, "save", lambda *_: None)
    run = run_dag(purging(max_rows=250, retries=4, retry_delay=timedelta(0)))
    assert 1000 - table.value("SELECT COUNT(*) FROM t") == 250
    assert run.state == "success"
    assert (report(run)["changed_before"], report(run)["stopped"]) == (250, "max_rows")


def test_rows_without_an_answer_to_their_commit_count_in_the_next_try(table, run_dag, monkeypatch):
    write = Walk._write

    def no_answer(walk, *arguments):
        walk.done.unconfirmed += write(walk, *arguments).changed
        raise ConnectionError("no answer")

    monkeypatch.setattr(Walk, "_write", no_answer)
    run_dag(purging(max_rows=250, retries=4, retry_delay=timedelta(0)))
    assert 1000 - table.value("SELECT COUNT(*) FROM t") == 250


def test_a_row_limit_that_cannot_be_saved_ends_the_walk_before_the_next_transaction(
    table, run_dag, monkeypatch
):
    save = TaskStateStoreAccessor.set

    def store_is_away(store, key, value):
        if value["changed"] > 200:
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))
        save(store, key, value)

    monkeypatch.setattr(TaskStateStoreAccessor, "set", store_is_away)
    run = run_dag(purging(max_rows=450))
    assert run.state == "failed"
    assert "can't be saved, and max_rows needs it" in report(run)["error"]
    assert table.value("SELECT COUNT(*) FROM t") == 800


@pytest.mark.parametrize(("most", "saves"), [({}, False), ({"max_rows": 1000}, True)])
def test_a_run_saves_before_each_transaction_only_if_it_has_a_row_limit(
    table, run_dag, monkeypatch, most, saves
):
    monkeypatch.setattr(saved_position, "SAVE_EVERY", 3600.0)
    save, saved = TaskStateStoreAccessor.set, []

    def note(store, key, value):
        saved.append(value["changed"])
        save(store, key, value)

    monkeypatch.setattr(TaskStateStoreAccessor, "set", note)
    assert report(run_dag(purging(**most)))["changed"] == 1000
    # The last one: when the run ends.
    assert saved == ([*range(100, 1001, 100), 1000] if saves else [])


def test_a_row_limit_that_is_used_up_is_logged(table, run_dag, monkeypatch, caplog):
    finish, tries = PurgeJob.finish, []

    def fails_once(operator, *arguments):
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("no mail server")
        finish(operator, *arguments)

    monkeypatch.setattr(PurgeJob, "finish", fails_once)
    run_dag(purging(max_rows=100, retries=1, retry_delay=timedelta(0)))
    assert "The row limit is used up: earlier tries of this run changed 100 rows of t" in caplog.text


def test_a_failed_run_tells_what_it_did(table, run_dag, monkeypatch):
    Fails(monkeypatch, chunk=4)
    run = run_dag(purging())
    assert run.state == "failed"
    assert (report(run)["changed"], report(run)["position"]) == (300, 300)
    assert report(run)["error"] == "ConnectionAbortedError: made by the test"
    assert table.value("SELECT COUNT(*) FROM t") == 700


def test_the_position_is_saved_while_it_walks(table, run_dag, monkeypatch):
    """A worker that is killed has no time to save it."""
    saved = []
    monkeypatch.setattr(saved_position, "SAVE_EVERY", 0.0)
    save = saved_position.SavedPosition.save

    def save_and_note(mark, changed):
        save(mark, changed)
        saved.append(int(mark._store.get(saved_position.KEY)["after"]))

    monkeypatch.setattr(saved_position.SavedPosition, "save", save_and_note)
    assert run_dag(purging()).state == "success"
    assert saved == list(range(100, 1001, 100))


def test_the_next_run_goes_on_where_a_row_limit_ended_the_last(table, run_dag):
    for begin, end in ((None, 400), (400, 800), (800, None), (None, None)):
        done = report(run_dag(purging(max_rows="{{ 200 + 200 }}")))
        assert (done["began_after"], done["position"]) == (begin, end)
        assert done["stopped"] == ("max_rows" if end else None)
    assert table.value("SELECT COUNT(*) FROM t") == 0


def test_a_position_in_another_table_is_ignored(table, run_dag):
    run_dag(purging(max_rows=400))
    table.run("RENAME TABLE t TO others")
    assert report(run_dag(purging(max_rows=400, table="others")))["began_after"] is None


@pytest.mark.every_server
@pytest.mark.parametrize("another", ["database", "server"])
def test_a_position_in_another_database_is_ignored(
    table, run_dag, elsewhere, mariadb, monkeypatch, caplog, another
):
    """The table has the same name there, such as in a staging and a production environment."""
    run_dag(purging(max_rows=400))
    before = os.environ["AIRFLOW_CONN_SCRATCH"]
    if another == "database":
        table.run(f"CREATE TABLE {elsewhere}.t AS SELECT * FROM t")
        table.run(f"ALTER TABLE {elsewhere}.t ADD PRIMARY KEY (id)")
        moved = os.environ["AIRFLOW_CONN_ELSEWHERE"]
    else:
        # Two servers in one: the connection leads to it by another way.
        socket = f"{table.value('SELECT @@datadir')}{table.value('SELECT @@socket')}"
        moved = f"{before}?{urlencode({'unix_socket': socket})}"
    monkeypatch.setenv("AIRFLOW_CONN_SCRATCH", moved)
    done = report(run_dag(purging(max_rows=400)))
    assert (done["began_after"], done["changed"]) == (None, 400)
    assert "because the database of t has changed since: saved for '127.0.0.1:" in caplog.text
    assert report(run_dag(purging(max_rows=400)))["began_after"] == done["position"]


def test_a_time_budget_that_is_over_at_once_leaves_all_to_the_next_run(table, run_dag):
    done = report(run_dag(purging(time_budget=timedelta(microseconds=1))))
    assert (done["changed"], done["stopped"], done["position"]) == (0, "time_budget", 0)
    done = report(run_dag(purging(time_budget=timedelta(hours=1))))
    assert (done["changed"], done["stopped"], done["began_after"]) == (1000, None, 0)


def test_each_of_several_mapped_tasks_has_a_place_of_its_own():
    context = {"ti": SimpleNamespace(dag_id="d", task_id="t", map_index=-1)}
    names = {task_variable(saved_position.VARIABLE, context)}
    for number in range(3):
        context["ti"].map_index = number
        names.add(task_variable(saved_position.VARIABLE, context))
    assert names == {f"iam_watcher:position:d:t{end}" for end in ("", ":0", ":1", ":2")}


def test_a_run_without_limits_begins_at_the_first_row_and_leaves_no_position(table, run_dag):
    run_dag(purging(max_rows=400))
    assert report(run_dag(purging()))["began_after"] is None
    table.run("INSERT INTO t VALUES (1, '2001-01-01')")
    done = report(run_dag(purging(max_rows=400)))
    assert (done["began_after"], done["changed"]) == (None, 1)


def test_the_count_for_the_safety_limit_does_not_use_up_the_time_limit(table, run_dag, monkeypatch):
    """Or each run would count everything and change nothing."""
    budget, count = timedelta(minutes=5), TableRun._count

    def count_for_ten_minutes(run, *arguments):
        count(run, *arguments)
        clock = time.monotonic
        monkeypatch.setattr("iam_watcher.walk.walk.time.monotonic", lambda: clock() + 600)

    monkeypatch.setattr(TableRun, "_count", count_for_ten_minutes)
    table.run("INSERT INTO t VALUES (1001, UTC_TIMESTAMP())")
    done = report(run_dag(purging(time_budget=budget, max_share=0.9999)))
    assert (done["changed"], done["stopped"]) == (1000, None)
