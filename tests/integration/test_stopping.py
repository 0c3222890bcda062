"""How a job stops when Airflow ends it: between two transactions, soon, and with a report."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import closing
from datetime import timedelta

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from fsspec.implementations.local import LocalFileSystem

from iam_watcher.archive.writer import Archive
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import JobError, LockLost
from iam_watcher.jobs.announce import SECRET_CHANGED
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.lock import current
from iam_watcher.walk.pace import Pace
from tests.integration.conftest import TaskInstance, numbers
from tests.integration.test_archive import fill
from tests.integration.test_archive import purge as purge_with_archive
from tests.integration.test_disable_users import enabled, user


@pytest.fixture
def purge(iam):
    """A job with 5,000 rows before it that would take about a minute."""
    iam.run(
        "INSERT INTO policy_audit (id, name, username, deletedAt)"
        f" SELECT seq, '', '', '2001-01-01' FROM {numbers(5000)}"
    )
    return PurgeRowsOperator(
        task_id="purge",
        table="policy_audit",
        age_column="deletedAt",
        older_than_days=1,
        pace=Pace(target=0.001, duty=0.01),
    )


def wait_for_a_first_chunk(iam):
    while iam.value("SELECT COUNT(*) FROM policy_audit") == 5000:
        pass


def test_on_kill_ends_it_within_a_second(iam, purge, perform, mariadb):
    killed = []

    def kill():
        with closing(mariadb.connect()) as connection:
            wait_for_a_first_chunk(type(iam)(connection))
        killed.append(time.monotonic())
        purge.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    ti = TaskInstance("run")
    with pytest.raises(JobError, match="purge was stopped by Airflow"):
        perform(purge, ti)
    assert time.monotonic() - killed[0] < 1
    killer.join()
    done = ti.xcom["return_value"]["changed"]
    assert 0 < done == 5000 - iam.value("SELECT COUNT(*) FROM policy_audit")


def test_a_lost_lease_ends_it(iam, purge, perform, monkeypatch):
    """`current` says so at the safe point between two transactions."""

    def safe_point():
        if iam.value("SELECT COUNT(*) FROM policy_audit") < 5000:
            raise LockLost("another run acquired it")

    monkeypatch.setattr(current, "safe_point", safe_point)
    ti = TaskInstance("run")
    with pytest.raises(AirflowFailException, match="another run acquired it"):
        perform(purge, ti)
    report = ti.xcom["return_value"]
    assert (report["chunks"], report["error"]) == (
        1,
        "LockLost: The run lost the lock while it worked: another run acquired it",
    )
    assert report["changed"] == 5000 - iam.value("SELECT COUNT(*) FROM policy_audit")


def test_a_time_out_strikes_between_two_transactions(iam, purge, run_dag, monkeypatch):
    """Airflow's alarm raises wherever the process is: here, in a commit that has deleted rows."""
    change, commit = Transactions.change, Transactions.commit
    wrote = []

    def change_and_note(db, *arguments):
        wrote.append(change(db, *arguments))
        return wrote[-1]

    def commit_and_dawdle(db):
        commit(db)
        if any(wrote):
            time.sleep(0.3)
        wrote.clear()

    monkeypatch.setattr(Transactions, "change", change_and_note)
    monkeypatch.setattr(Transactions, "commit", commit_and_dawdle)
    with DAG("timed_out", schedule=None) as dag:
        PurgeRowsOperator(
            task_id="purge",
            table="policy_audit",
            age_column="deletedAt",
            older_than_days=1,
            pace=Pace(target=0.0001, duty=1),
            execution_timeout=timedelta(seconds=2),
        )
    run = run_dag(dag)
    (ti,) = run.get_task_instances()
    assert ti.state == "failed"
    report = ti.xcom_pull(task_ids="purge")
    assert report["error"].startswith("AirflowTaskTimeout")
    assert 0 < report["changed"] == 5000 - iam.value("SELECT COUNT(*) FROM policy_audit")
    # The alarm is Airflow's own again.
    assert not signal.getsignal(signal.SIGALRM).__module__.startswith("iam_watcher")


def test_a_time_out_ends_a_warning_that_hangs(iam, run_dag, released):
    """Airflow's own alarm is in force there, and the users who were disabled are counted."""
    for name in ("one", "two"):
        user(iam, name)
    with DAG("hanging_warning", schedule=None) as dag:
        DisableInactiveUsersOperator(
            task_id="work",
            max_inactive_days=180,
            max_share=1,
            undo_location="none",
            warn_days=(3,),
            on_warning=lambda _: released.wait(20),
            execution_timeout=timedelta(seconds=2),
        )
    user(iam, "due", logined="UTC_TIMESTAMP() - INTERVAL 178 DAY")
    assert timed_out_report(run_dag(dag))["changed"] == 2
    assert enabled(iam) == {"due"}


def test_a_time_out_ends_an_upload_that_hangs(iam, run_dag, released, tmp_path, monkeypatch):
    """Its transaction is rolled back: no row is gone, and none is counted."""
    fill(iam, 300)
    monkeypatch.setattr(Archive, "add", lambda *_: released.wait(20))
    with DAG("hanging_upload", schedule=None) as dag:
        purge_with_archive(f"file://{tmp_path}", task_id="work", execution_timeout=timedelta(seconds=2))
    assert timed_out_report(run_dag(dag))["changed"] == 0
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 300


@pytest.mark.parametrize("hanging", ["jobs.announce._publish", "archive.writer.Archive.close"])
def test_a_time_out_ends_what_hangs_after_the_last_row(
    iam, run_dag, released, redis_client, tmp_path, monkeypatch, hanging
):
    """All rows are committed and counted by then."""
    fill(iam, 300)
    monkeypatch.setattr(f"iam_watcher.{hanging}", lambda *_: released.wait(20))
    with DAG("hanging_end", schedule=None) as dag:
        purge_with_archive(
            f"file://{tmp_path}",
            task_id="work",
            announce=SECRET_CHANGED,
            execution_timeout=timedelta(seconds=2),
        )
    assert timed_out_report(run_dag(dag))["changed"] == 300


def test_a_time_out_ends_a_listing_that_hangs(iam, run_dag, released, tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.setattr(LocalFileSystem, "ls", lambda *_, **__: released.wait(20))
    with DAG("hanging_listing", schedule=None) as dag:
        RestoreRowsOperator(
            task_id="work",
            path=f"file://{tmp_path}/run",
            location=f"file://{tmp_path}",
            tables=["policy_audit"],
            execution_timeout=timedelta(seconds=2),
        )
    (ti,) = run_dag(dag).get_task_instances()
    assert ti.state == "failed"
    assert "AirflowTaskTimeout" in caplog.text + capsys.readouterr().out


@pytest.fixture
def released():
    """An event that nobody sets: what waits for it hangs."""
    return threading.Event()


def timed_out_report(run):
    (ti,) = run.get_task_instances()
    assert ti.state == "failed"
    report = ti.xcom_pull(task_ids="work")
    assert report["error"].startswith("AirflowTaskTimeout")
    return report
