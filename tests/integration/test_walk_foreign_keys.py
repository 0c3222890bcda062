"""Rows that a foreign key protects, for good or until other rows are gone.

All tests share one table, whose rows refer to each other: hence the length.
"""

from __future__ import annotations

import random

import MySQLdb
import pytest

from iam_watcher.database.transactions import Transactions
from iam_watcher.walk import walk
from iam_watcher.walk.index_order import AgeIndex
from iam_watcher.walk.pace import ChunkSize, Limits, Pace
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import ID

OLD = RowChange("`t`", ID, "`age` < 100")
LEISURE = Pace(target=1000, duty=1)


@pytest.fixture
def table(scratch):
    """Keys 1 to 100, all to be deleted; `up` may refer to another row."""
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, age int NOT NULL, up int NULL, KEY (age),"
        " FOREIGN KEY (up) REFERENCES t (id))"
    )
    scratch.run_many("INSERT INTO t (id, age) VALUES (%s, 50)", [[key] for key in range(1, 101)])
    return scratch


@pytest.fixture
def children(table):
    """A function that creates rows of another table that refer to these keys."""
    table.run("CREATE TABLE child (t_id int NOT NULL, FOREIGN KEY (t_id) REFERENCES t (id))")
    return lambda *keys: table.run_many("INSERT INTO child VALUES (%s)", [[key] for key in keys])


@pytest.fixture
def in_tens(monkeypatch):
    """Chunks of ten rows."""
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_ROWS", 10)
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(target=1e-9, rows=10, span=1000))


def keys(table):
    return table.column("SELECT id FROM t ORDER BY id")


def test_they_are_counted_and_left(table, session, in_tens, children):
    children(1, 5, 6, 55, 100, 100)
    done = Walk(Transactions(session), OLD, pace=LEISURE).write()
    assert keys(table) == [1, 5, 6, 55, 100]
    assert (done.matched, done.changed, done.skipped) == (100, 95, {"foreign_key": 5})


@pytest.mark.parametrize("code", [1216, 1217, 1296, 1451, 1452, 3008, 6575])
def test_a_row_that_a_foreign_key_protects_is_left_by_whatever_error(table, session, code):
    table.run(
        "CREATE TRIGGER t_d BEFORE DELETE ON t FOR EACH ROW IF OLD.id IN (7, 93) THEN"
        f" SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'a foreign key'; END IF"
    )
    done = Walk(Transactions(session), OLD).write()
    assert keys(table) == [7, 93]
    assert (done.changed, done.skipped) == (98, {"foreign_key": 2})


def older(key):
    return key - 1 or None


def newer(key):
    return key + 1 if key < 100 else None


def across(key):
    """An older row in one half of the table, a newer one in the other."""
    return None if key == 50 else key - 1 if key > 50 else key + 1


def anything(key):
    return random.Random(key).randrange(1, 101)


@pytest.mark.parametrize("order", ["key", "index"])
@pytest.mark.parametrize("up", [older, newer, across])
def test_rows_that_refer_to_each_other_go_in_one_run(table, session, in_tens, up, order):
    table.run_many("UPDATE t SET up = %s WHERE id = %s", [(up(key), key) for key in range(1, 101)])
    index = AgeIndex("`age`", "`age`", 1_000_000, OLD.predicate) if order == "index" else None
    done = Walk(Transactions(session), OLD, pace=LEISURE, index=index).write()
    assert keys(table) == []
    assert (done.matched, done.changed, done.skipped) == (100, 100, {})


def test_what_stays_has_a_reason_to(table, session, in_tens, children):
    """Rows refer to others at random; some are in circles, and some have children elsewhere."""
    up = {key: anything(key) for key in range(1, 101)}
    table.run_many("UPDATE t SET up = %s WHERE id = %s", [(up[key], key) for key in up])
    children(33, 66)
    done = Walk(Transactions(session), OLD, pace=LEISURE).write()
    left = set(keys(table))
    assert {33, 66} <= left < set(up)
    assert all(key in {33, 66} or key in {up[other] for other in left} for key in left)
    assert (done.changed, done.skipped) == (100 - len(left), {"foreign_key": len(left)})


def test_a_row_goes_when_what_referred_to_it_went_by_a_cascade_of_another(table, session, in_tens):
    table.run(
        "CREATE TABLE link (a int NOT NULL, b int NOT NULL, FOREIGN KEY (a) REFERENCES t (id),"
        " FOREIGN KEY (b) REFERENCES t (id) ON DELETE CASCADE)"
    )
    table.run("INSERT INTO link VALUES (1, 95)")
    done = Walk(Transactions(session), OLD).write()
    assert (done.changed, keys(table)) == (100, [])


@pytest.mark.every_server
@pytest.mark.parametrize("young", [[], [100]], ids=["all", "all but the last"])
def test_a_chain_that_is_too_deep_for_a_cascade_goes_from_its_end(scratch, session, in_tens, young):
    """The server refuses to delete a row by which more than 15 others, one behind the other, would go."""
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, age int NOT NULL, up int NULL,"
        " FOREIGN KEY (up) REFERENCES t (id) ON DELETE CASCADE)"
    )
    scratch.run_many("INSERT INTO t VALUES (%s, 50, %s)", [(key, key - 1 or None) for key in range(1, 101)])
    scratch.run_many("UPDATE t SET age = 150 WHERE id = %s", [[key] for key in young])
    Walk(Transactions(session), OLD, pace=LEISURE).write()
    assert keys(scratch) == []


def statements(db, monkeypatch):
    """Return a list of how many statements each transaction had."""
    numbers, change, commit = [0], db.change, db.commit

    def counted(*arguments):
        numbers[-1] += 1
        return change(*arguments)

    def next_one():
        commit()
        numbers.append(0)

    monkeypatch.setattr(db, "change", counted)
    monkeypatch.setattr(db, "commit", next_one)
    return numbers


def test_a_search_for_protected_rows_is_no_long_transaction(table, session, children, monkeypatch):
    """It has as many statements as fit into the pace's target: here one each."""
    children(*range(1, 101, 2))
    db = Transactions(session)
    numbers = statements(db, monkeypatch)
    done = Walk(db, OLD, pace=Pace(target=1e-9, duty=1)).write()
    assert (done.changed, done.skipped) == (50, {"foreign_key": 50})
    assert set(numbers) == {0, 1}
    assert sum(numbers) > 100


def test_a_stop_is_heard_within_a_chunk_and_its_rest_is_not_passed_by(table, session, children):
    def safe_point():
        if job.done.changed:
            raise InterruptedError

    children(*range(1, 101, 2))
    job = Walk(Transactions(session, safe_point), OLD, pace=Pace(target=1e-9, duty=1))
    with pytest.raises(InterruptedError):
        job.write()
    assert len(keys(table)) == 100 - job.done.changed > 50
    assert job.order.position == 0
    assert Walk(Transactions(session), OLD, after=job.order.position).write().skipped == {"foreign_key": 50}


def test_a_retry_in_the_search_loses_no_row(table, session, children, monkeypatch):
    monkeypatch.setattr("iam_watcher.database.transactions.LONGEST_WAIT", 0.01)
    children(*range(1, 101, 10))
    db = Transactions(session)
    change, calls = db.change, []

    def now_and_then(*arguments):
        calls.append(1)
        if len(calls) % 7 == 0:
            raise MySQLdb.OperationalError(1205, "made by the test")
        return change(*arguments)

    monkeypatch.setattr(db, "change", now_and_then)
    done = Walk(db, OLD, pace=Pace(target=1e-9, duty=1)).write()
    assert keys(table) == list(range(1, 101, 10))
    assert (done.changed, done.skipped) == (90, {"foreign_key": 10})


def test_a_row_limit_holds_in_the_search_too(table, session, children):
    children(*range(1, 101, 2))
    job = Walk(Transactions(session), OLD, pace=Pace(target=1e-9, duty=1), limits=Limits(max_rows=20))
    done = job.write()
    assert (done.changed, done.stopped, len(keys(table))) == (20, "max_rows", 80)


def test_a_row_limit_holds_when_protected_rows_are_tried_again(table, session, in_tens):
    table.run_many("UPDATE t SET up = %s WHERE id = %s", [(older(key), key) for key in range(1, 101)])
    done = Walk(Transactions(session), OLD, pace=LEISURE, limits=Limits(max_rows=35)).write()
    assert (done.changed, done.stopped, keys(table)) == (35, "max_rows", list(range(1, 66)))
    assert done.skipped == {"foreign_key": 65}


def test_rows_that_stay_protected_are_not_tried_for_ever(table, session, children, monkeypatch):
    """The first pass changes rows, so the others are tried again: up to the bound."""
    monkeypatch.setattr(walk, "GIVE_UP_AFTER", 20)
    monkeypatch.setattr(walk, "PART", 5)
    children(*range(1, 91))
    db = Transactions(session)
    numbers = statements(db, monkeypatch)
    done = Walk(db, OLD, pace=Pace(target=1e-9, duty=1)).write()
    first_pass = 2 * 90
    assert sum(numbers) < first_pass + 30
    assert (done.changed, done.skipped) == (10, {"foreign_key": 90})


def test_rows_that_are_gone_when_a_protected_one_is_looked_for_are_no_error(table, session):
    """The range was refused, and its keys are asked for."""
    db = Transactions(session)
    table.run("DELETE FROM t WHERE id > 20")
    table.run("UPDATE t SET age = 150 WHERE id < 3")

    def refused(*_):
        table.run("UPDATE t SET age = 150")
        raise MySQLdb.IntegrityError(1451, "made by the test")

    job = Walk(db, OLD)
    job.order._dense = True
    db.change = refused
    done = job.write()
    assert (done.changed, done.skipped) == (0, {"changed_meanwhile": 18})


def test_a_trigger_may_remove_what_protects_a_row(table, session, children):
    """So what a foreign key protects is not known from the catalogue alone."""
    children(1, 5)
    table.run("CREATE TRIGGER t_d BEFORE DELETE ON t FOR EACH ROW DELETE FROM child WHERE t_id = OLD.id")
    assert Walk(Transactions(session), OLD).write().changed == 100


def test_the_next_chunk_is_as_large_as_the_rows_that_were_tried_in_time(
    table, session, children, monkeypatch
):
    children(1)
    job = Walk(Transactions(session), OLD, pace=Pace(target=1e-9, duty=1))
    wrote, tried = job._size.wrote, []

    def noted(rows, seconds):
        tried.append(rows)
        wrote(rows, seconds)

    monkeypatch.setattr(job._size, "wrote", noted)
    monkeypatch.setattr(job, "_try_again", lambda: False)
    assert job.write().changed == 99
    assert sum(tried) == 100
    assert min(tried) == 0  # a statement that the foreign key refused took all the time
