"""Airflow's alarm during a commit: it strikes at the next safe point, when the rows are counted."""

from __future__ import annotations

import signal
import threading

import pytest

from iam_watcher.jobs.purge_rows import PurgeRowsOperator


@pytest.fixture
def job():
    return PurgeRowsOperator(
        task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=180
    )


@pytest.fixture(autouse=True)
def airflows():
    """Airflow's handler of the alarm."""

    def raises(number, frame):
        raise TimeoutError("execution_timeout")

    before = signal.signal(signal.SIGALRM, raises)
    yield raises
    signal.signal(signal.SIGALRM, before)


def test_it_strikes_at_once_where_nothing_waits_to_be_counted(job):
    with pytest.raises(TimeoutError), job._timeout.deferrable():
        signal.raise_signal(signal.SIGALRM)


def test_during_a_commit_it_waits_for_the_next_safe_point(job):
    with job._timeout.deferrable():
        job._timeout.committing()
        signal.raise_signal(signal.SIGALRM)
        with pytest.raises(TimeoutError, match="execution_timeout"):
            job._safe_point()


def test_after_the_safe_point_it_strikes_at_once_again(job):
    with job._timeout.deferrable():
        job._timeout.committing()
        job._safe_point()
        with pytest.raises(TimeoutError):
            signal.raise_signal(signal.SIGALRM)


def test_afterwards_the_handler_is_airflows_again(job, airflows):
    with job._timeout.deferrable():
        assert signal.getsignal(signal.SIGALRM) is not airflows
    assert signal.getsignal(signal.SIGALRM) is airflows


def test_outside_of_the_main_thread_it_leaves_the_handler_alone(job, airflows):
    seen = []

    def work():
        with job._timeout.deferrable():
            seen.append(signal.getsignal(signal.SIGALRM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [airflows]


@pytest.mark.parametrize("nobodys", [signal.SIG_DFL, signal.SIG_IGN])
def test_without_a_handler_of_airflow_it_sets_none(job, nobodys):
    signal.signal(signal.SIGALRM, nobodys)
    with job._timeout.deferrable():
        assert signal.getsignal(signal.SIGALRM) is nobodys
