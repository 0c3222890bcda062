"""Servers that are full, offline or read-only for a while, and tables that somebody else has locked.

All tests share the fixtures that begin and end a fault in mid-work: hence the length.
"""

from __future__ import annotations

import logging
from contextlib import closing

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.database import transactions as transaction
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import JobError, WalkError
from iam_watcher.walk.pace import Pace
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import TaskInstance
from tests.integration.test_archive import fill, purge
from tests.integration.test_mysql_connection import account, connection
from tests.integration.test_restore_rows import restore

__all__ = ["account", "connection"]

pytestmark = pytest.mark.every_server

SESSIONS = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = %s"


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(transaction, "LONGEST_WAIT", 0.05)


@pytest.fixture
def at_a_retry():
    """A function that has another called when a transaction is tried again for the n-th time."""
    logger = logging.getLogger(transaction.__name__)
    handlers = []

    def at_a_retry(number, what):
        class Handler(logging.Handler):
            tries = 0

            def emit(self, record):
                self.tries += "event=retry" in record.getMessage()
                if self.tries == number:
                    self.tries += 1
                    what()

        handlers.append(Handler())
        logger.addHandler(handlers[-1])

    yield at_a_retry
    for handler in handlers:
        logger.removeHandler(handler)


@pytest.fixture
def before_the_second_chunk(monkeypatch):
    """A function that has another called once, before the second chunk of a walk."""

    def before_the_second_chunk(what):
        chunk, calls = Walk._next_transaction, []

        def noted(walk):
            calls.append(walk)
            if len(calls) == 2:
                what()
            return chunk(walk)

        monkeypatch.setattr(Walk, "_next_transaction", noted)

    return before_the_second_chunk


def end_sessions(iam, user):
    for number in iam.column("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = %s", [user]):
        iam.run(f"KILL {number}")


def gentle(**options):
    return purge(None, archive=None, pace=Pace(target=0.001, duty=1), **options)


def test_a_server_without_a_free_connection_is_waited_for(
    iam, mariadb, perform, before_the_second_chunk, at_a_retry, caplog
):
    """Error 1040, when the walk connects again."""
    fill(iam, 3000)
    limit = iam.value("SELECT @@GLOBAL.max_connections")
    others = []

    def fill_up():
        iam.run("SET GLOBAL max_connections = 10")
        end_sessions(iam, mariadb.user)
        while len(others) < 10:
            others.append(mariadb.connect())

    def leave():
        iam.run("SET GLOBAL max_connections = %s", [limit])
        for other in others:
            other.close()

    before_the_second_chunk(fill_up)
    at_a_retry(3, leave)
    assert perform(gentle())["retries"] >= 3
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 0
    assert "1040" in caplog.text
    assert "wait, or raise max_connections" in caplog.text


@pytest.mark.needs("offline-mode")
def test_a_server_in_offline_mode_is_waited_for(iam, perform, before_the_second_chunk, at_a_retry, caplog):
    fill(iam, 3000)
    before_the_second_chunk(lambda: iam.run("SET GLOBAL offline_mode = 1"))
    at_a_retry(3, lambda: iam.run("SET GLOBAL offline_mode = 0"))
    assert perform(gentle())["retries"] >= 3
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 0
    assert "3032" in caplog.text


def test_a_server_that_is_read_only_for_a_moment_is_waited_for(
    iam, perform, before_the_second_chunk, at_a_retry, caplog
):
    """As in a fail-over: another connection may lead to the new primary."""
    fill(iam, 3000)
    before_the_second_chunk(lambda: iam.run("SET GLOBAL read_only = 1"))
    at_a_retry(2, lambda: iam.run("SET GLOBAL read_only = 0"))
    report = perform(gentle())
    assert (report["retries"], report["changed"], report["unconfirmed"]) == (2, 3000, 0)
    assert "1290" in caplog.text


def test_a_server_that_stays_read_only_is_an_error(iam, perform, monkeypatch):
    monkeypatch.setattr(transaction, "TRIES", 2)
    fill(iam, 10)
    iam.run("SET GLOBAL read_only = 1")
    try:
        with pytest.raises(WalkError, match=r"\(1290, .*let the connection lead to the primary"):
            perform(gentle())
    finally:
        iam.run("SET GLOBAL read_only = 0")
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 10


def test_an_account_that_is_locked_in_mid_work_ends_it(
    iam, mariadb, perform, connection, account, before_the_second_chunk
):
    """A reconnect is refused in a way that waiting can't mend."""
    fill(iam, 3000)
    account("GRANT SELECT, DELETE ON iam.policy_audit TO spoilt")
    connection(account="spoilt:secret-word")

    def lock():
        account("ALTER USER spoilt ACCOUNT LOCK")
        end_sessions(iam, "spoilt")

    before_the_second_chunk(lock)
    with pytest.raises(AirflowFailException, match="unlock the account"):
        perform(gentle(mysql_conn_id="other"))
    assert 0 < iam.value("SELECT COUNT(*) FROM policy_audit") < 3000


@pytest.mark.parametrize("lock", ["LOCK TABLES policy_audit WRITE", "FLUSH TABLES WITH READ LOCK"])
@pytest.mark.parametrize("archived", [False, True])
def test_a_locked_table_is_waited_for(iam, mariadb, perform, at_a_retry, tmp_path, lock, archived):
    """Each try ends after a second, so a stop is heard, and no session is left behind in the queue."""
    fill(iam, 300)
    sessions = []
    with closing(mariadb.connect()) as other:
        other.cursor().execute(lock)
        at_a_retry(1, lambda: sessions.append(iam.value(SESSIONS, [mariadb.user])))
        at_a_retry(2, lambda: other.cursor().execute("UNLOCK TABLES"))
        report = perform(purge(None, archive=f"file://{tmp_path}" if archived else None))
    assert (report["changed"], report["retries"]) == (300, 2)
    assert sessions == [1]


def test_a_locked_table_with_another_unique_key_is_waited_for(iam, mariadb, perform, at_a_retry):
    """The look whether the server may use such an index waits, too."""
    fill(iam, 10)
    iam.run("ALTER TABLE policy_audit MODIFY id BIGINT UNSIGNED NOT NULL, DROP PRIMARY KEY, ADD UNIQUE (id)")
    with closing(mariadb.connect()) as other:
        other.cursor().execute("LOCK TABLES iam.policy_audit WRITE")
        at_a_retry(1, lambda: other.cursor().execute("UNLOCK TABLES"))
        assert perform(purge(None, archive=None))["changed"] == 10


def test_a_stop_is_heard_while_a_locked_table_is_waited_for(iam, mariadb, perform, at_a_retry):
    fill(iam, 10)
    job = purge(None, archive=None)
    with closing(mariadb.connect()) as other:
        other.cursor().execute("LOCK TABLES policy_audit WRITE")
        at_a_retry(1, job.on_kill)
        with pytest.raises(JobError, match="was stopped by Airflow"):
            perform(job)
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 10


@pytest.fixture
def before_a_commit(monkeypatch):
    """A function that has another called once, before the n-th commit of changes."""

    def before_a_commit(number, what):
        commit, calls = Transactions.commit, []

        def noted(db):
            if db._changes:
                calls.append(db)
                if len(calls) == number:
                    what()
            commit(db)

        monkeypatch.setattr(Transactions, "commit", noted)

    return before_a_commit


REFUSED_COMMITS = {
    1205: ("FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES"),
    1290: ("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"),
}


@pytest.mark.parametrize("code", REFUSED_COMMITS)
def test_rows_of_a_commit_that_the_server_refused_are_not_unconfirmed(
    iam, mariadb, perform, before_a_commit, at_a_retry, caplog, code
):
    fill(iam, 300)
    refuse, accept = REFUSED_COMMITS[code]
    with closing(mariadb.connect()) as other:
        before_a_commit(2, lambda: other.cursor().execute(refuse))
        at_a_retry(1, lambda: other.cursor().execute(accept))
        report = perform(purge(None, archive=None))
    assert f"({code}, " in caplog.text
    assert (report["changed"], report["unconfirmed"], report["retries"]) == (300, 0, 1)
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 0


def test_a_restore_knows_that_the_server_refused_a_commit(
    iam, mariadb, perform, before_a_commit, tmp_path, monkeypatch
):
    monkeypatch.setattr(transaction, "TRIES", 1)
    fill(iam, 10)
    archive = f"file://{tmp_path}"
    url = perform(purge(archive, archive=archive))["archive"]
    refuse, accept = REFUSED_COMMITS[1290]
    ti = TaskInstance("restore")
    with closing(mariadb.connect()) as other:
        before_a_commit(1, lambda: other.cursor().execute(refuse))
        try:
            with pytest.raises(WalkError, match="1290"):
                perform(restore(archive, url), ti)
        finally:
            other.cursor().execute(accept)
    assert ti.xcom["return_value"]["unconfirmed"] == 0
