"""What holds a walk back, interrupts it, or is none of its business.

Each limit or interruption is a test on the same table: hence the length.
"""

from __future__ import annotations

import itertools
import logging
import re
import time
from contextlib import closing, suppress
from dataclasses import replace

import MySQLdb
import pytest

from dev.servers import chosen_database
from iam_watcher.database import throttle
from iam_watcher.database import transactions as transaction
from iam_watcher.database.session import set_up
from iam_watcher.database.throttle import Throttler
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import WalkError
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk import pace, walk
from iam_watcher.walk.index_order import AgeIndex
from iam_watcher.walk.pace import ChunkSize, Limits
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import ID, numbers
from tests.integration.test_session import isolation

OLD = RowChange("`t`", ID, "`age` < 100")


@pytest.fixture
def table(scratch):
    """Keys 1 to 100, all to be deleted."""
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age int NOT NULL)")
    scratch.run(f"INSERT INTO t SELECT seq, 50 FROM {numbers(100)}")
    return scratch


def count(table):
    return table.value("SELECT COUNT(*) FROM t")


@pytest.fixture
def in_tens(monkeypatch):
    """Chunks of ten rows."""
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_ROWS", 10)
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(target=1e-9, rows=10, span=1000))


@pytest.mark.parametrize(("limit", "changed"), [(1, 1), (10, 10), (25, 25), (99, 99), (100, 100), (101, 100)])
def test_no_more_rows_than_the_limit_are_written(table, session, in_tens, limit, changed):
    job = Walk(Transactions(session), OLD, limits=Limits(max_rows=limit))
    assert job.write().changed == 100 - count(table) == changed
    assert job.done.stopped == ("max_rows" if limit < 100 else None)
    assert job.order.finished == (limit >= 100)


def test_a_row_limit_holds_also_for_rows_that_only_match_after_the_probe(table, session):
    """As a range, the write would take these along."""
    table.run("UPDATE t SET age = 150 WHERE id % 2")

    def everyone_matches():
        table.run("UPDATE t SET age = 50")

    job = Walk(Transactions(session), OLD, limits=Limits(max_rows=20), before_write=everyone_matches)
    assert job.write().changed == 100 - count(table) == 20


def test_the_next_walk_goes_on_behind_the_last(table, session, in_tens):
    first = Walk(Transactions(session), OLD, limits=Limits(max_rows=30))
    first.write()
    assert first.order.position == 30
    table.run("INSERT INTO t VALUES (5, 50)")
    second = Walk(Transactions(session), OLD, after=first.order.position)
    done = second.write()
    assert (done.changed, done.examined) == (70, 70)
    assert table.column("SELECT id FROM t") == [5]


@pytest.mark.parametrize("after", [100, 2_000])
def test_there_is_nothing_behind_the_end(table, session, after):
    assert Walk(Transactions(session), OLD, after=after).write().examined == 0


def test_a_time_budget_ends_it_between_two_chunks(table, session, in_tens, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(walk.time, "monotonic", lambda: float(next(clock)))
    job = Walk(Transactions(session), OLD, limits=Limits(seconds=20))
    done = job.write()
    assert done.stopped == "time_budget"
    assert 0 < done.changed == 100 - count(table) < 100


def test_every_chunk_tells_how_far_it_came(table, session, in_tens):
    passed = []
    Walk(Transactions(session), OLD, on_chunk=lambda *come: passed.append(come)).write()
    assert passed == sorted(passed)
    assert passed[0] == (10, 10)
    assert passed[-1] == (100, 100)


def held(db, why, patience=600.0):
    return Walk(db, OLD, throttler=Throttler(db, "`t`", why, patience=patience))


def test_a_throttle_is_obeyed_and_its_reason_logged(table, session, monkeypatch, caplog):
    monkeypatch.setattr(throttle, "ASK_EVERY", 0.01)
    reasons = iter(["replica is 90 s behind", "replica is 60 s behind", None])
    seen = []

    def why():
        seen.append(count(table))
        return next(reasons, None)

    with caplog.at_level(logging.INFO):
        held(Transactions(session), why).write()
    assert seen[:3] == [100, 100, 100]
    assert count(table) == 0
    assert "event=throttled table=`t` waited=0 why='replica is 90 s behind'" in caplog.text


def test_a_throttle_that_never_lets_go_is_an_error(table, session, monkeypatch):
    monkeypatch.setattr(throttle, "ASK_EVERY", 0.01)
    job = held(Transactions(session), lambda: "too busy", patience=0.05)
    with pytest.raises(WalkError, match="`t` was throttled for 0 s: too busy"):
        job.write()
    assert count(table) == 100


def test_its_session_is_not_silent_while_it_is_throttled(table, session, monkeypatch):
    """The server ends a session that is silent for a lease, and the database lock that it holds."""
    monkeypatch.setattr(transaction, "PING_EVERY", 0.2)
    with closing(session.cursor()) as cursor:
        cursor.execute("SET SESSION wait_timeout = 1")
    held_until = time.monotonic() + 2.5

    def why():
        return "another server lags" if time.monotonic() < held_until else None

    # Without a way to reconnect, a session that was ended is an error.
    assert held(Transactions(session), why).write().changed == 100


def test_a_time_budget_is_over_also_while_it_is_throttled(table, session, monkeypatch):
    monkeypatch.setattr(throttle, "ASK_EVERY", 0.01)
    db = Transactions(session)
    throttler = Throttler(db, "`t`", lambda: "too busy", patience=600.0)
    done = Walk(db, OLD, throttler=throttler, limits=Limits(seconds=0.1)).write()
    assert (done.stopped, done.changed) == ("time_budget", 0)


def test_a_stop_is_heard_while_it_is_throttled(table, session):
    def safe_point():
        if asked:
            raise InterruptedError

    asked = []
    job = held(Transactions(session, safe_point), lambda: asked.append(1) or "too busy")
    with pytest.raises(InterruptedError):
        job.write()


# Lost connections


@pytest.fixture
def connect(mariadb, scratch, monkeypatch):
    monkeypatch.setattr(transaction, "LONGEST_WAIT", 0.05)
    opened = []

    def connect():
        opened.append(mariadb.connect("scratch"))
        set_up(opened[-1])
        return opened[-1]

    yield connect
    for connection in opened:
        with suppress(MySQLdb.Error):
            connection.close()


def kill(table, db):
    """End the session at the server, and return when it is gone."""
    session = db._connection.thread_id()
    table.run(f"KILL {session}")
    while table.value("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = %s", [session]):
        pass


def test_a_lost_connection_is_replaced_and_the_walk_goes_on(table, connect, in_tens):
    """The server ends the session before one chunk's write, so the probe's answer is lost too."""
    db = Transactions(connect(), reconnect=connect)
    chunks = itertools.count(1)

    def second_chunk_is_killed():
        if next(chunks) == 2:
            kill(table, db)

    done = Walk(db, OLD, before_write=second_chunk_is_killed).write()
    assert (done.changed, done.unconfirmed, db.retries) == (100, 0, 1)
    assert count(table) == 0
    with db._connection.cursor() as cursor:
        cursor.execute("SELECT @@time_zone")
        assert (isolation(db._connection), cursor.fetchone()) == ("READ-COMMITTED", ("+00:00",))


def test_a_commit_without_an_answer_is_said_to_be_unconfirmed(table, connect, in_tens):
    db = Transactions(connect(), reconnect=connect)
    commit, commits = db.commit, itertools.count()

    def killed_commit():
        # The first commit ends the read of the edges, the second that of the probe, the third writes.
        if next(commits) == 2:
            kill(table, db)
        commit()

    db.commit = killed_commit
    done = Walk(db, OLD).write()
    # This one did not take place: its rows were found again.
    assert (done.unconfirmed, done.changed, count(table)) == (10, 100, 0)


@pytest.mark.parametrize("committed", [True, False])
def test_rows_without_an_answer_to_their_commit_count_to_the_limit(table, connect, in_tens, committed):
    """Also when they use it up: then there is nothing left to ask for."""
    db = Transactions(connect(), reconnect=connect)
    commit, commits = db.commit, itertools.count()

    def no_answer():
        last = next(commits) == 4  # the edges, then two chunks of a probe and a write
        if last and committed:
            commit()
        if last:
            kill(table, db)
        commit()

    db.commit = no_answer
    done = Walk(db, OLD, limits=Limits(max_rows=20)).write()
    assert (done.unconfirmed, done.changed, done.stopped) == (10, 10, "max_rows")
    assert count(table) == (80 if committed else 90)


def test_the_lease_is_checked_before_a_new_connection(table, connect):
    def safe_point():
        if db.retries:
            raise InterruptedError

    db = Transactions(connect(), safe_point, reconnect=lambda: pytest.fail("connected without a lease"))
    with pytest.raises(InterruptedError):
        Walk(db, OLD, before_write=lambda: kill(table, db)).write()
    assert count(table) == 100


def test_a_server_that_restarts_is_waited_for(tmp_path):
    with chosen_database()(tmp_path) as server:
        with closing(server.connect("")) as admin, admin.cursor() as cursor:
            cursor.execute("CREATE DATABASE scratch")
            cursor.execute("USE scratch")
            cursor.execute("CREATE TABLE scratch.t (id int PRIMARY KEY, age int NOT NULL)")
            cursor.execute(f"INSERT INTO scratch.t SELECT seq, 50 FROM {numbers(100)}")

        def connect():
            connection = server.connect("scratch", connect_timeout=5)
            set_up(connection)
            return connection

        def restart():
            if not db.retries:
                server.crash()

        def safe_point():
            # After a first try to reconnect has failed.
            if db.retries == 2 and server._process is None:
                server.start()

        db = Transactions(connect(), safe_point, reconnect=connect)
        with closing(db):
            done = Walk(db, OLD, before_write=restart).write()
        assert done.changed == 100
        assert db.retries >= 2


# Bytes


@pytest.fixture
def long_rows(scratch, monkeypatch):
    """Keys 1 to 100: the first half with small values, the second with large ones."""
    monkeypatch.setattr(pace, "MOST_BYTES", 10_000)
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age int NOT NULL, note longtext NULL, KEY (age))")
    scratch.run(
        "INSERT INTO t SELECT seq, 50, IF(seq = 7, NULL, REPEAT('n', IF(seq > 50, 3000, 10)))"
        f" FROM {numbers(100)}"
    )
    return scratch


@pytest.fixture
def largest(monkeypatch):
    """The bytes of each chunk."""
    found = []
    write = Walk._write_chunk

    def noted(walk, chunk, until):
        sizes = {key: 3000 if key > 50 else 10 for key in range(1, 101)}
        keys = chunk.keys
        if keys is None:
            after, upto = map(int, re.findall(r"\d+", chunk.within))
            keys = range(after + 1, upto + 1)
        found.append(sum(sizes[key] for key in keys))
        return write(walk, chunk, until)

    monkeypatch.setattr(Walk, "_write_chunk", noted)
    return found


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("order", ["key", "index"])
def test_a_chunk_has_a_limit_of_bytes_too(long_rows, session, monkeypatch, largest, order, dense):
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(1e-9, rows=200, span=1000))
    rows = replace(OLD, size="COALESCE(LENGTH(`note`), 0)")
    index = AgeIndex("`age`", "`age`", 1_000_000, OLD.predicate) if order == "index" else None
    job = Walk(Transactions(session), rows, index=index, limits=Limits() if dense else Limits(max_rows=1000))
    job.order._dense = dense
    done = job.write()
    assert (done.examined, done.changed, job.order.name) == (100, 100, order)
    assert max(largest) <= (20_000 if dense and order == "key" else 10_000)


@pytest.mark.parametrize("kind", ["longtext", "varchar(3000)", "varbinary(3000)"])
def test_a_purge_knows_the_long_columns(long_rows, perform, largest, kind):
    long_rows.run(f"ALTER TABLE t MODIFY note {kind} NULL")
    long_rows.run("ALTER TABLE t DROP COLUMN age, ADD COLUMN age timestamp NOT NULL DEFAULT '2001-01-01'")
    job = PurgeRowsOperator(
        task_id="purge", table="t", age_column="age", older_than_days=1, mysql_conn_id="scratch"
    )
    assert perform(job)["changed"] == 100
    assert max(largest) <= 20_000
