"""The walk along a key: which rows it writes, in which chunks, and what it reports.

All tests share one table and one change: hence the length.
"""

from __future__ import annotations

import itertools
import logging
import time
from contextlib import closing
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iam_watcher.database import transactions as transaction
from iam_watcher.database.session import set_up
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import TableError, WalkError
from iam_watcher.walk import count, progress, record
from iam_watcher.walk.count import count_rows
from iam_watcher.walk.pace import ChunkSize, Limits, Pace
from iam_watcher.walk.record import record_rows
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.row_locks import RowLocks
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import ID

OLD = RowChange(
    table="`t`",
    key=ID,
    predicate="`age` < %(cut_off)s AND `age` > 0",
    values={"cut_off": 100},
    left_out={"zero": "`age` = 0", "none": "`age` IS NULL"},
)


@pytest.fixture
def table(scratch):
    scratch.run("CREATE TABLE t (id bigint unsigned PRIMARY KEY, age int NULL, note int NOT NULL DEFAULT 0)")
    return scratch


def fill(table, rows):
    table.run("DELETE FROM t")
    table.run_many("INSERT INTO t (id, age) VALUES (%s, %s)", list(rows))


def deletion(session, rows=OLD, *, limit=None, span=None, safe_point=lambda: None, **options):
    job = Walk(Transactions(session, safe_point), rows, **options)
    if limit:
        job._size.__init__(target=1e-9, rows=limit, span=span or limit)
    return job


AGES = st.one_of(st.none(), st.just(0), st.integers(1, 200))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.dictionaries(st.integers(1, 400), AGES, max_size=80),
    size=st.tuples(st.integers(1, 40), st.integers(1, 500)),
    most=st.one_of(st.none(), st.integers(0, 7)),
)
def test_exactly_the_matching_rows_go_and_all_are_counted(monkeypatch, table, session, rows, size, most):
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_ROWS", 1)
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_SPAN", 1)
    fill(table, rows.items())
    matching = {key for key, age in rows.items() if age is not None and 0 < age < 100}
    zero = sum(age == 0 for age in rows.values())
    none = sum(age is None for age in rows.values())

    monkeypatch.setattr("iam_watcher.walk.count.ChunkSize", lambda _: ChunkSize(1e-9, *size))
    found = []
    counted = count_rows(
        Transactions(session), OLD, also={"all": "TRUE"}, age="`age`", each=found.extend, most=most
    )
    assert (counted.examined, counted.matched, counted.also["all"]) == (len(rows), len(matching), len(rows))
    assert counted.skipped == {k: n for k, n in {"zero": zero, "none": none}.items() if n}
    assert found == [(key, str(rows[key]), None) for key in sorted(matching)[:most]]

    done = deletion(session, limit=size[0], span=size[1]).write()
    assert set(table.column("SELECT id FROM t")) == rows.keys() - matching
    assert (done.examined, done.matched, done.changed) == (len(rows), len(matching), len(matching))
    assert done.skipped == {k: n for k, n in {"zero": zero, "none": none}.items() if n}

    again = deletion(session).write()
    assert (again.matched, again.changed) == (0, 0)


def test_an_update_writes_the_matching_rows_only(table, session):
    fill(table, [(1, 50), (2, 150), (3, 50)])
    rows = RowChange("`t`", ID, "`age` < 100 AND `note` = 0", "`note` = 1")
    assert deletion(session, rows).write().changed == 2
    assert table.rows("SELECT id, age, note FROM t ORDER BY id") == [(1, 50, 1), (2, 150, 0), (3, 50, 1)]


def test_an_empty_table_is_walked_in_no_time(table, session):
    job = deletion(session)
    assert job.write().examined == 0
    assert job.order.position is None


@pytest.mark.parametrize("keys", [range(1, 11), range(1_000_000, 1_000_000_000, 99_999_999)])
def test_a_row_that_changed_after_the_probe_is_left_alone(table, session, keys):
    """Close keys are written as a range, scattered ones as a list: both repeat the condition."""
    keys = list(keys)
    fill(table, [(key, 50) for key in keys])
    job = deletion(
        session,
        limit=100,
        span=10**10,
        before_write=lambda: table.run("UPDATE t SET age = 150 WHERE id = %s", [keys[1]]),
    )
    done = job.write()
    assert table.column("SELECT id FROM t") == [keys[1]]
    assert done.changed == len(keys) - 1
    assert done.skipped["changed_meanwhile"] == 1


@pytest.fixture
def chunks(monkeypatch):
    """What each chunk was to write: how many rows, and whether by a list of their keys."""
    found = []
    write = Walk._write_chunk

    def noted(walk, chunk, until):
        found.append((chunk.matched, chunk.keys is not None))
        return write(walk, chunk, until)

    monkeypatch.setattr(Walk, "_write_chunk", noted)
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_ROWS", 10)
    return found


def test_where_many_rows_match_they_are_counted_and_not_listed(table, session, chunks):
    fill(table, [(key, 50 if key % 2 else 0) for key in range(1, 201)])
    done = deletion(session, limit=10, span=1000).write()
    assert chunks[0] == (5, True)
    assert {listed for _, listed in chunks[1:]} == {False}
    assert (done.matched, done.changed, done.skipped) == (100, 100, {"zero": 100})
    assert table.value("SELECT COUNT(*) FROM t") == 100


def test_a_row_limit_or_few_matching_rows_want_a_list(table, session, chunks):
    fill(table, [(key, 50) for key in range(1, 101)])
    deletion(session, limit=10, limits=Limits(max_rows=50)).write()
    fill(table, [(key, 150 if key % 25 else 50) for key in range(1, 1001)])
    deletion(session, limit=10, span=1000).write()
    assert {listed for _, listed in chunks} == {True}


def test_a_chunk_stays_small_where_the_rows_begin_to_match(table, session, chunks):
    """A span that held ten rows before would now hold a hundred."""
    fill(table, [(key, 50 if key > 500 or key % 10 == 0 else 150) for key in range(1, 1001)])
    done = deletion(session, limit=10, span=10_000).write()
    assert max(chunks)[0] <= 20
    assert (done.changed, done.examined) == (550, 1000)


def test_rows_that_come_later_wait_for_the_next_walk(table, session):
    fill(table, [(1, 50), (2, 50)])
    job = deletion(session, before_write=lambda: table.run("INSERT IGNORE INTO t (id, age) VALUES (9, 50)"))
    assert job.write().changed == 2
    assert table.column("SELECT id FROM t") == [9]


@pytest.mark.parametrize("key_type", ["bigint unsigned", "bigint", "tinyint"])
def test_the_outermost_keys_of_a_type_are_reached_quickly(scratch, session, key_type):
    bounds = {"bigint unsigned": (0, 2**64 - 1), "bigint": (-(2**63), 2**63 - 1), "tinyint": (-128, 127)}
    scratch.run(f"CREATE TABLE t (id {key_type} PRIMARY KEY, age int)")
    low, high = bounds[key_type]
    fill(scratch, [(low, 50), (low + 1, 150), ((low + high) // 2, 50), (high, 50)])
    chunks = []
    done = deletion(session, safe_point=lambda: chunks.append(1)).write()
    assert done.changed == 3
    assert done.examined in {4, 5}  # MySQL counts the first row of a table twice.
    assert len(chunks) < 150


def test_it_stops_between_two_transactions_and_what_is_done_is_counted(table, session, monkeypatch):
    def safe_point():
        if job.done.chunks == 3:
            raise InterruptedError

    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_ROWS", 1)
    fill(table, [(key, 50) for key in range(1, 101)])
    job = deletion(session, limit=10, safe_point=safe_point)
    with pytest.raises(InterruptedError):
        job.write()
    assert table.value("SELECT 100 - COUNT(*) FROM t") == job.done.changed > 0
    assert job.order.position == table.value("SELECT MIN(id) - 1 FROM t")


def test_no_transaction_is_open_at_a_safe_point(table, session, monkeypatch):
    """Whoever comes between two chunks has nothing to wait for."""
    seen = []

    def safe_point():
        seen.append(session.thread_id() in table.transactions())

    # Some chunks write, some find nothing to write.
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_SPAN", 10)
    fill(table, [(key, 50 if key <= 50 else 150) for key in range(1, 101)])
    deletion(session, safe_point=safe_point, limit=10, span=10).write()
    count_rows(Transactions(session, safe_point), OLD)
    assert len(seen) > 4
    assert set(seen) == {False}


def test_a_count_is_a_short_transaction_for_each_span(table, session, monkeypatch):
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_SPAN", 10)
    monkeypatch.setattr("iam_watcher.walk.count.ChunkSize", lambda _: ChunkSize(1e-9, span=10))
    fill(table, [(key, 50 if key <= 50 else 150) for key in range(1, 101)])
    db = Transactions(session)
    read, commit, since_commit, longest = db.read, db.commit, [], []

    def noted(query, values=None):
        since_commit.append(query)
        return read(query, values)

    def ended():
        commit()
        longest.append(len(since_commit))
        since_commit.clear()

    monkeypatch.setattr(db, "read", noted)
    monkeypatch.setattr(db, "commit", ended)
    assert count_rows(db, OLD).matched == 50
    assert (len(longest), since_commit) == (11, [])
    assert max(longest) <= 2


READS = [
    pytest.param(count, lambda db, **how: count_rows(db, OLD, **how).matched, id="count"),
    pytest.param(record, lambda db, **how: record_rows(db, OLD, RowLocks(db, OLD), **how), id="record"),
]


@pytest.mark.parametrize(("module", "run"), READS)
def test_a_read_that_takes_too_long_is_tried_again_with_fewer_rows(table, session, monkeypatch, module, run):
    monkeypatch.setattr(transaction, "LONGEST_WAIT", 0.0)
    monkeypatch.setattr(module, "ChunkSize", lambda _: ChunkSize(1e-9, rows=1000, span=1000))
    fill(table, [(key, 50) for key in range(1, 1001)])
    db = Transactions(session)
    read = db.read

    def limited(query, values=None):
        found = read(query, values)
        if (found[0][0] if "COUNT(" in query else len(found)) > 500:
            raise db.error(1969, "made by the test")
        return found

    monkeypatch.setattr(db, "read", limited)
    assert (run(db), db.retries) == (1000, 1)


@pytest.mark.parametrize(("module", "run"), READS)
def test_a_read_rests_by_the_time_that_it_took(table, session, monkeypatch, module, run):
    clock = SimpleNamespace(monotonic=itertools.count(100.0).__next__)
    monkeypatch.setattr(module, "time", clock)
    fill(table, [(1, 50)])
    db, sleeps = Transactions(session), []
    monkeypatch.setattr(db, "sleep", sleeps.append)
    run(db, pace=Pace(target=0.1, duty=0.25))
    assert sleeps == [9.0]


def test_a_lock_of_someone_else_is_waited_for(table, session, mariadb, caplog):
    with session.cursor() as cursor:
        cursor.execute("SET innodb_lock_wait_timeout = 1")
    fill(table, [(key, 50) for key in range(1, 101)])
    with closing(mariadb.connect("scratch", autocommit=False)) as other:
        other.cursor().execute("SELECT * FROM t WHERE id = 50 FOR UPDATE")
        job = deletion(session, safe_point=lambda: other.rollback() if job._db.retries else None)
        with caplog.at_level(logging.WARNING):
            done = job.write()
    assert (done.changed, job._db.retries) == (100, 1)
    assert "event=retry" in caplog.text
    assert "1205" in caplog.text


FAILING = """
CREATE TRIGGER t_fails BEFORE DELETE ON t FOR EACH ROW
IF @fails > 0 THEN
  SET @fails = @fails - 1;
  SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'made by the test';
END IF
"""


def fail(session, times):
    with session.cursor() as cursor:
        cursor.execute("SET @fails = %s", [times])


@pytest.mark.parametrize("code", [1020, 1205, 1206, 1213, 1317, 1969, 3024, 3101])
def test_errors_that_pass_are_retried_with_half_the_rows(table, session, monkeypatch, code):
    monkeypatch.setattr(transaction, "LONGEST_WAIT", 0.01)
    fill(table, [(key, 50) for key in range(1, 101)])
    table.run(FAILING.format(code=code))
    fail(session, 3)
    job = deletion(session, pace=Pace(target=1000, duty=1))
    done = job.write()
    assert (done.changed, done.examined, job._db.retries) == (100, 100, 3)
    assert table.value("SELECT COUNT(*) FROM t") == 0


def test_it_gives_up_after_some_tries_and_says_where(table, session, monkeypatch):
    monkeypatch.setattr(transaction, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(transaction, "TRIES", 3)
    fill(table, [(key, 50) for key in range(1, 101)])
    table.run(FAILING.format(code=1205))
    fail(session, 100)
    with pytest.raises(WalkError, match=r"DELETE on `t`, by `id`, behind 0, try 3 of 3: .*made by the test"):
        deletion(session).write()
    assert table.value("SELECT COUNT(*) FROM t") == 100


def test_other_errors_are_not_retried(table, session):
    fill(table, [(1, 50)])
    table.run(FAILING.format(code=1644))
    fail(session, 1)
    with pytest.raises(WalkError, match=r"try 1 of 15: .*made by the test"):
        deletion(session).write()
    assert table.value("SELECT COUNT(*) FROM t") == 1


@pytest.mark.needs("write-time-out")
def test_a_statement_that_takes_too_long_is_ended_by_the_server(table, session, monkeypatch):
    monkeypatch.setattr(transaction, "TRIES", 1)
    fill(table, [(1, 50)])
    with session.cursor() as cursor:
        cursor.execute("SET max_statement_time = 0.2")
    slow = RowChange("`t`", ID, "`age` < 100 AND SLEEP(5) = 0")
    began = time.monotonic()
    with pytest.raises(WalkError, match="1969"):
        deletion(session, slow).write()
    assert time.monotonic() - began < 3


def test_a_missing_right_is_a_table_error(iam, mariadb):
    iam.run("INSERT INTO user (id, name, nickname, password, email) VALUES (1, 'a', 'a', '', '')")
    with closing(mariadb.connect_as_watcher()) as connection:
        set_up(connection)
        rows = RowChange("`user`", ID, "TRUE")
        with pytest.raises(TableError, match=r"DELETE command denied.*grant the connection's account"):
            Walk(Transactions(connection), rows).write()


def test_progress_is_logged(table, session, monkeypatch, caplog):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(progress, "FIRST", 0.0)
    fill(table, [(1, 50), (2, 150)])
    with caplog.at_level(logging.INFO):
        deletion(session).write()
    assert "event=progress table=`t` examined=2 changed=1 rows_per_second=" in caplog.text
    assert "walked=100.0% eta=0s" in caplog.text


def test_duty_is_kept(table, session, monkeypatch):
    sleeps = []
    fill(table, [(1, 50)])
    job = deletion(session, pace=Pace(target=0.1, duty=0.25))
    monkeypatch.setattr(job._db, "sleep", sleeps.append)
    job.write()
    assert sleeps[0] >= job.done.longest_chunk * 3
