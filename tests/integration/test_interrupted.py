"""An alarm or a signal that strikes while the server works: it is what ends the job, and no lock stays."""

from __future__ import annotations

import signal
from contextlib import closing

import pytest

from dev.sessions import wait_until
from iam_watcher.database import table_lock
from iam_watcher.database.connection import open_cursor
from iam_watcher.database.session import set_up
from iam_watcher.database.table_lock import TableLock
from iam_watcher.database.transactions import Transactions

pytestmark = pytest.mark.every_server


class Struck(BaseException):
    """As Airflow's time-out."""


@pytest.fixture
def table(scratch):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY)")
    scratch.run("INSERT INTO t VALUES (1)")
    return scratch


@pytest.fixture
def db(table, mariadb):
    with closing(Transactions(connect(mariadb), reconnect=lambda: connect(mariadb))) as db:
        yield db


@pytest.fixture
def struck_soon(db):
    """Strike in 0.2 s."""

    def strike(number, frame):
        raise Struck

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def connect(mariadb):
    connection = mariadb.connect("scratch")
    set_up(connection)
    return connection


def run(db, query):
    return db.run(lambda: db.read(query), what="a look")


@pytest.mark.parametrize("query", ["SELECT SLEEP(0.5)", "SELECT id, SLEEP(0.5) FROM t WHERE id = 1"])
@pytest.mark.usefixtures("struck_soon")
def test_it_is_raised_and_not_an_error_of_the_driver(db, query):
    with pytest.raises(Struck):
        run(db, query)


@pytest.mark.usefixtures("struck_soon")
def test_with_a_cursor_of_its_own_too(session):
    with pytest.raises(Struck), open_cursor(session) as cursor:
        cursor.execute("SELECT SLEEP(0.5)")


@pytest.mark.usefixtures("struck_soon")
def test_under_a_lock_of_the_table_too(db, scratch, mariadb):
    lock = TableLock(db, lambda: connect(mariadb))

    def look():
        with lock.hold("t WRITE"):
            db.read("SELECT id, SLEEP(0.5) FROM t")

    with pytest.raises(Struck):
        db.run(look, what="a look")
    scratch.run("SET lock_wait_timeout = 2")
    scratch.run("INSERT INTO t VALUES (2)")
    assert run(db, "SELECT @@autocommit, COUNT(*) FROM t") == ((0, 2),)


def test_what_begins_a_lock_of_the_table_ends_with_it(db, mariadb, monkeypatch):
    """It strikes right after the statement with which the session commits by itself."""
    change = db.change

    def change_and_strike(query):
        change(query)
        if query == table_lock.BEGIN:
            raise Struck

    monkeypatch.setattr(db, "change", change_and_strike)

    def look():
        with TableLock(db, lambda: connect(mariadb)).hold("t WRITE"):
            pytest.fail("it was struck before")

    with pytest.raises(Struck):
        db.run(look, what="a look")
    assert run(db, "SELECT @@autocommit") == ((0,),)


@pytest.mark.usefixtures("struck_soon")
def test_no_row_stays_locked_and_the_next_transaction_has_a_new_session(db, scratch):
    with pytest.raises(Struck):
        run(db, "SELECT id, SLEEP(0.5) FROM t WHERE id = 1 FOR UPDATE")
    assert wait_until(lambda: not scratch.transactions(), 2)
    assert run(db, "SELECT id FROM t FOR UPDATE") == ((1,),)
