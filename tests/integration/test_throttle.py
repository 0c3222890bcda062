from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import pytest

from dev.servers import chosen_database
from iam_watcher.database.session import set_up
from iam_watcher.database.throttle import Throttle, ThrottleCheck
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import JobArgumentError, WalkError
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from tests.integration.conftest import TaskInstance, follow


@pytest.fixture
def why(session):
    """A function that returns why a throttle holds back."""
    connections = []

    def why(throttle, servers=None):
        def connect(name):
            connection = servers[name].connect("")
            set_up(connection)
            return connection

        connections.append(ThrottleCheck(throttle, Transactions(session), connect))
        return connections[-1]()

    yield why
    for predicate in connections:
        predicate.close()


def test_nothing_holds_back_by_default(why):
    assert why(Throttle()) is None


@pytest.mark.every_server
def test_running_threads_hold_back(why):
    assert why(Throttle(max_threads_running=10_000)) is None
    assert "threads are running, more than 0" in why(Throttle(max_threads_running=0))


def test_a_text_is_no_list_of_replicas():
    with pytest.raises(JobArgumentError, match="replica_conn_ids is a str that is not valid"):
        Throttle(replica_conn_ids="replica")


def test_a_lag_without_replicas_is_no_throttle():
    with pytest.raises(JobArgumentError, match=r"max_replica_lag is .*, but replica_conn_ids is empty"):
        Throttle(max_replica_lag=timedelta(seconds=5))


@pytest.fixture(scope="module")
def replica(tmp_path_factory):
    """A replica of a second server; both private."""
    folders = [tmp_path_factory.mktemp(name) for name in ("source", "replica")]
    with (
        chosen_database()(folders[0], ["--log-bin=binlog", "--server-id=1"]) as source,
        chosen_database()(folders[1], ["--server-id=2"]) as replica,
    ):
        follow(replica, source)
        yield replica


def run(server, statement):
    with closing(server.connect("")) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.every_server
def test_a_replica_that_lags_stands_still_or_is_away_holds_back(why, replica, mariadb):
    at_ease = Throttle(replica_conn_ids=("r",), max_replica_lag=timedelta(hours=1))
    assert why(at_ease, {"r": mariadb}) == "r is not replicating"
    assert why(at_ease, {"r": replica}) == "r is not replicating"
    run(replica, "START REPLICA")
    while why(at_ease, {"r": replica}) == "r is not replicating":
        pass
    assert why(at_ease, {"r": replica}) is None
    # Even a replica without any lag is behind a limit below zero.
    strict = Throttle(replica_conn_ids=("r",), max_replica_lag=timedelta(seconds=-1))
    assert why(strict, {"r": replica}) == "replica r is 0 s behind, more than -1"
    run(replica, "STOP REPLICA")
    assert why(at_ease, {"r": replica}) == "r is not replicating"
    replica.stop()
    assert "replica r can't be asked: (200" in why(at_ease, {"r": replica})


def test_a_replica_has_one_connection_until_the_throttle_is_closed(session, mariadb):
    opened = []

    def connect(_):
        opened.append(mariadb.connect(""))
        return opened[-1]

    with closing(ThrottleCheck(Throttle(replica_conn_ids=("r",)), Transactions(session), connect)) as check:
        assert (check(), check()) == ("r is not replicating",) * 2
        assert [bool(connection.open) for connection in opened] == [True]
    assert [bool(connection.open) for connection in opened] == [False]


def test_a_job_waits_for_its_throttle_and_then_fails_to_be_retried(iam, perform):
    iam.run("INSERT INTO policy_audit (id, name, username, deletedAt) VALUES (1, '', '', '2001-01-01')")
    job = PurgeRowsOperator(
        task_id="purge",
        table="policy_audit",
        age_column="deletedAt",
        older_than_days=1,
        throttle=Throttle(max_threads_running=0, patience=timedelta(microseconds=1)),
    )
    with pytest.raises(WalkError, match="threads are running, more than 0"):
        perform(job)
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 1


def test_the_count_for_the_safety_limit_is_throttled_too(iam, perform):
    iam.run("INSERT INTO policy_audit (id, name, username, deletedAt) VALUES (1, '', '', '2001-01-01')")
    job = PurgeRowsOperator(
        task_id="purge",
        table="policy_audit",
        age_column="deletedAt",
        older_than_days=1,
        max_share=0.5,
        throttle=Throttle(max_threads_running=0, patience=timedelta(microseconds=1)),
    )
    ti = TaskInstance("throttled")
    with pytest.raises(WalkError, match="threads are running, more than 0"):
        perform(job, ti)
    assert ti.xcom["return_value"]["eligible"] is None
