"""The walk by an index on the age column."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk import index_order, walk
from iam_watcher.walk.index_order import AgeIndex, IndexOrder
from iam_watcher.walk.pace import ChunkSize
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.row_locks import RowLocks
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import ID, numbers

pytestmark = pytest.mark.every_server

OLD = RowChange(
    table="`t`",
    key=ID,
    predicate="`age` < %(cut_off)s AND `age` > 0",
    values={"cut_off": 100},
    left_out={"zero": "`age` = 0", "none": "`age` IS NULL"},
)
INDEX = AgeIndex("`by_age`", "`age`", 1_000_000, OLD.predicate, OLD.left_out)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.dictionaries(st.integers(1, 400), st.one_of(st.none(), st.integers(0, 110)), max_size=80),
    limit=st.integers(1, 20),
)
def test_exactly_the_matching_rows_go(monkeypatch, scratch, session, rows, limit):
    """Many rows share an age, and chunks end in the middle of an age."""
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_ROWS", 1)
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(1e-9, rows=limit))
    # For a handful of rows a server plans no range.
    monkeypatch.setattr(IndexOrder, "_is_range", lambda _: True)
    scratch.run("DROP TABLE IF EXISTS t")
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age int NULL, KEY by_age (age))")
    rows = {key: age and age // 20 * 20 for key, age in rows.items()}
    scratch.run_many("INSERT INTO t VALUES (%s, %s)", list(rows.items()))
    matching = {key for key, age in rows.items() if age is not None and 0 < age < 100}
    job = Walk(Transactions(session), OLD, index=INDEX)
    done = job.write()
    assert job.order.name == "index"
    assert set(scratch.column("SELECT id FROM t")) == rows.keys() - matching
    assert (done.matched, done.changed) == (len(matching), len(matching))
    assert done.skipped["zero"] == sum(age == 0 for age in rows.values())
    assert done.skipped["none"] == sum(age is None for age in rows.values())


def test_the_share_is_that_of_the_old_rows(scratch, session, monkeypatch):
    monkeypatch.setattr(IndexOrder, "_is_range", lambda _: True)
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age int NULL, KEY by_age (age))")
    scratch.run(f"INSERT INTO t SELECT seq, IF(seq <= 20, 50, 500) FROM {numbers(40)}")
    order = IndexOrder(Transactions(session), OLD, INDEX, ChunkSize(0.1))
    order.begin()
    shares = [order.share]
    for _ in range(4):
        order.advance(order.next_chunk(5, exact=True))
        shares.append(order.share)
    assert shares == [0, 0.25, 0.5, 0.75, 1]


def test_protected_rows_are_passed_by(scratch, session, monkeypatch):
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_ROWS", 1)
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(1e-9, rows=3))
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age int NULL, KEY by_age (age))")
    scratch.run(f"INSERT INTO t SELECT seq, 50 FROM {numbers(20)}")
    scratch.run("CREATE TABLE child (t_id int NOT NULL, FOREIGN KEY (t_id) REFERENCES t (id))")
    scratch.run("INSERT INTO child VALUES (1), (2), (3), (4), (11)")
    done = Walk(Transactions(session), OLD, index=INDEX).write()
    assert scratch.column("SELECT id FROM t ORDER BY id") == [1, 2, 3, 4, 11]
    assert (done.changed, done.skipped) == (15, {"foreign_key": 5})


def purge(perform, **options):
    return perform(
        PurgeRowsOperator(
            **{
                "task_id": "purge",
                "table": "t",
                "age_column": "age",
                "older_than_days": 10,
                "mysql_conn_id": "scratch",
                **options,
            }
        )
    )


@pytest.fixture
def table(scratch):
    """A function that creates 1,000 rows of which some are old, one zero-dated, with this index."""

    def table(index, old):
        scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, age datetime NOT NULL, state int{index})")
        scratch.run(
            "INSERT INTO t SELECT seq,"
            f" UTC_TIMESTAMP() - INTERVAL IF(seq % 1000 < %s, 20, 1) DAY, 0 FROM {numbers(999)}".replace(
                "seq % 1000", "seq MOD 1000"
            ),
            [old],
        )
        scratch.run("INSERT INTO t VALUES (1000, '0000-00-00', 0)")
        scratch.run("ANALYZE TABLE t")
        return scratch

    return table


def test_a_job_goes_by_the_index_when_few_rows_are_old(table, perform):
    scratch = table(", KEY (age)", old=50)
    report = purge(perform)
    assert report["order"] == "index"
    assert (report["examined"], report["changed"], report["skipped"]) == (50, 49, {"zero_date": 1})
    assert scratch.value("SELECT COUNT(*) FROM t") == 951


def test_it_does_so_with_more_conditions_too(table, perform):
    scratch = table(", KEY (age), KEY (state)", old=50)
    scratch.run("UPDATE t SET state = 1 WHERE id <= 10")
    report = purge(perform, where=[("state", "=", 0)])
    assert report["order"] == "index"
    assert (report["examined"], report["changed"], report["skipped"]) == (40, 39, {"zero_date": 1})
    assert scratch.value("SELECT COUNT(*) FROM t WHERE state = 1") == 10


def test_it_does_so_when_many_rows_have_no_age_and_reads_few_of_these(
    scratch, session, perform, monkeypatch, caplog
):
    """NULL stands for a row that is alive."""
    monkeypatch.setattr(index_order, "MOST_LEFT_OUT", 100)
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age datetime NULL, KEY (age))")
    scratch.run(f"INSERT INTO t SELECT seq, IF(seq <= 50, '2001-01-01', NULL) FROM {numbers(5000)}")
    scratch.run("ANALYZE TABLE t")
    with caplog.at_level(logging.INFO):
        report = purge(perform)
    assert (report["order"], report["examined"], report["changed"]) == ("index", 50, 50)
    assert report["skipped"] == {}
    assert "table=`t` reason=no_date at_least=100" in caplog.text


def test_a_range_that_the_server_would_have_to_sort_is_not_gone_by(scratch, session):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age int NULL, KEY by_age (age DESC))")
    scratch.run(f"INSERT INTO t SELECT seq, seq FROM {numbers(5000)}")
    job = Walk(Transactions(session), OLD, index=INDEX)
    assert (job.write().changed, job.order.name) == (99, "key")


@pytest.mark.parametrize(
    ("index", "old", "options"),
    [
        (", KEY (age)", 500, {}),
        (", KEY (age, state)", 50, {}),
        (", KEY (state, age)", 50, {}),
        pytest.param(", KEY (age) IGNORED", 50, {}, marks=pytest.mark.needs("ignored-index")),
        pytest.param(", KEY (age) INVISIBLE", 50, {}, marks=pytest.mark.needs("invisible-index")),
        ("", 50, {}),
        (", KEY (age DESC)", 50, {}),
    ],
)
def test_else_it_goes_by_the_key(table, perform, index, old, options):
    scratch = table(index, old)
    report = purge(perform, **options)
    assert report["order"] == "key"
    assert (report["examined"], report["changed"], report["skipped"]) == (1000, old - 1, {"zero_date": 1})
    assert scratch.value("SELECT COUNT(*) FROM t") == 1001 - old


def test_a_row_that_is_met_twice_stands_for_no_other_row(scratch, session, monkeypatch):
    """Rows 1 and 3 are protected at first, and row 1 is met again by its new age. Row 2 is not recorded."""
    monkeypatch.setattr(IndexOrder, "_is_range", lambda _: True)
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_ROWS", 1)
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(target=1e-9, rows=1))
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age int NULL, KEY by_age (age))")
    scratch.run("INSERT INTO t VALUES (1, 51), (2, 98), (3, 53), (4, 54), (5, 55)")
    scratch.run("CREATE TABLE holds (ref int, FOREIGN KEY (ref) REFERENCES t (id))")
    scratch.run("INSERT INTO holds VALUES (1), (3)")
    try_again, protected = Walk._try_again, []

    class AllButTwo(RowLocks):
        def lock(self, keys):
            return [key for key in super().lock(keys) if key != 2]

    def free_both(job):
        protected.append(sorted(job._protected))
        scratch.run("DELETE FROM holds")
        job._size.rows = 100  # all keys in one chunk
        return try_again(job)

    def make_younger(_, changed):
        if changed == 2:
            scratch.run("UPDATE t SET age = 99 WHERE id = 1")

    monkeypatch.setattr(Walk, "_try_again", free_both)
    db = Transactions(session)
    job = Walk(db, OLD, index=INDEX, recorder=AllButTwo(db, OLD), on_chunk=make_younger)
    done = job.write()
    assert protected[0] == [1, 1, 3]
    assert scratch.column("SELECT id FROM t") == [2]
    assert (done.changed, done.skipped) == (4, {"changed_meanwhile": 1})
