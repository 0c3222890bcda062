"""Partitions that are old as a whole are dropped, and no other row goes with them.

Every test goes through the same table and the same steps: hence the length.
"""

from __future__ import annotations

import logging
import re
import threading
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.archive.writer import Archive
from iam_watcher.database import detached_table, transactions
from iam_watcher.database.detached_table import DetachedTable, detached_name
from iam_watcher.database.table_lock import TableLock
from iam_watcher.errors import ArchiveError, LockLost, WalkError
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.jobs.table_job import partition_drop
from tests.integration.conftest import numbers, politeness
from tests.integration.partitioned import (
    DAYS,
    EACH,
    OLD,
    YOUNG,
    archived,
    create,
    fill,
    ids,
    partitions,
    purge,
    tables,
)

pytestmark = pytest.mark.every_server

ALL = set(range(1, OLD + YOUNG + 1))
YOUNGER = set(range(OLD + 1, OLD + YOUNG + 1))
DROPPED = [{"partition": name, "rows": EACH} for name in ("p1", "p2", "p3")]

ZERO = "0000-00-00"
DATE, UNIX = "CONCAT(year, '-05-05')", "UNIX_TIMESTAMP(CONCAT(year, '-05-05'))"
SECONDS = {"p1": 978307200, "p2": 1009843200, "p3": 1041379200}  # as DAYS

KINDS = {
    "date": ("date NOT NULL", "RANGE COLUMNS (day)", DAYS, DATE, {}),
    "datetime": ("datetime(6) NOT NULL", "RANGE COLUMNS (day)", DAYS, DATE, {}),
    "to_days": (
        "datetime NOT NULL",
        "RANGE (TO_DAYS(day))",
        {"p1": "TO_DAYS('2001-01-01')", "p2": "TO_DAYS('2002-01-01')", "p3": "TO_DAYS('2003-01-01')"},
        DATE,
        {},
    ),
    "year": ("date NOT NULL", "RANGE (YEAR(day))", {"p1": "2001", "p2": "2002", "p3": "2003"}, DATE, {}),
    "timestamp": (
        "timestamp NOT NULL",
        "RANGE (UNIX_TIMESTAMP(day))",
        SECONDS,
        "LEAST('2037-01-01', year0)",
        {},
    ),
    "timestamp6": (
        "timestamp(6) NOT NULL",
        "RANGE (FLOOR(UNIX_TIMESTAMP(day)))",
        SECONDS,
        "LEAST('2037-01-01', year0)",
        {},
    ),
    "unix": ("bigint unsigned NOT NULL", "RANGE (day)", SECONDS, "UNIX", {"age_unit": "unix_seconds"}),
    "unix_columns": ("bigint NOT NULL", "RANGE COLUMNS (day)", SECONDS, "UNIX", {"age_unit": "unix_seconds"}),
    "yyyymmdd": (
        "int NOT NULL",
        "RANGE (day)",
        {"p1": "20010101", "p2": "20020101", "p3": "20030101"},
        "year0505",
        {"age_unit": "YYYYMMDD"},
    ),
}
VALUES = {
    "UNIX": "TIMESTAMPDIFF(SECOND, '1970-01-01', 'year-05-05')",
    "LEAST('2037-01-01', year0)": "LEAST('2037-01-01', 'year-05-05')",
}


@pytest.fixture
def table(scratch):
    create(scratch)
    fill(scratch)
    return scratch


def before(monkeypatch, owner, name, action, *, times=1):
    """Make a method or function do something first, at its first calls."""
    original, left = getattr(owner, name), iter(range(times))

    def changed(*arguments, **options):
        if next(left, None) is not None:
            action()
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, changed)


def insert(database, number, day):
    database.run("INSERT INTO t (id, day) VALUES (%s, %s)", [number, day])


@pytest.mark.parametrize("keeps", [True, False], ids=["archive", "no-archive"])
@pytest.mark.parametrize("kind", KINDS)
def test_old_partitions_are_dropped_and_the_rest_is_walked(scratch, perform, tmp_path, kind, keeps, caplog):
    column, by, bounds, value, options = KINDS[kind]
    last = {"later": "MAXVALUE"}
    create(scratch, column, by, {**{name: str(bound) for name, bound in bounds.items()}, **last})
    fill(scratch, VALUES.get(value, value))
    with caplog.at_level(logging.INFO):
        report = perform(purge(archive=f"file://{tmp_path}" if keeps else None, **options))
    for gone in DROPPED:
        assert f"The partition {gone['partition']} of t was dropped with {gone['rows']} rows" in caplog.text
    assert ids(scratch) == YOUNGER
    assert partitions(scratch) == ["later"]
    assert report["partitions"] == DROPPED
    assert (report["changed"], report["matched"], report["examined"]) == (OLD, OLD, OLD + YOUNG)
    assert archived(tmp_path) == (ALL - YOUNGER if keeps else set())
    assert tables(scratch) == ["t"]


def test_the_rows_of_a_dropped_partition_can_be_restored(table, perform, tmp_path):
    rows = table.rows("SELECT * FROM t ORDER BY id")
    report = perform(purge(archive=f"file://{tmp_path}"))
    place = f"file://{tmp_path}"
    perform(
        RestoreRowsOperator(
            task_id="restore", path=report["archive"], location=place, tables=["t"], mysql_conn_id="scratch"
        )
    )
    assert table.rows("SELECT * FROM t ORDER BY id") == rows


def test_the_server_knows_how_many_rows_a_detached_table_has(table, perform, monkeypatch):
    """Else it reads all of them for each chunk: without the ANALYZE, it knows the rows that p1 had before."""
    table.run("ANALYZE TABLE t")
    table.run("ALTER TABLE t STATS_AUTO_RECALC=0")
    table.run(
        f"INSERT INTO t (id, day) SELECT id + 1000 * seq, '2000-05-06' FROM t PARTITION (p1), {numbers(50)}"
    )
    known = []
    count = partition_drop.count_rows

    def look(db, change, **options):
        if "detached" in change.table:
            name = change.table.strip("`")
            query = "SELECT n_rows FROM mysql.innodb_table_stats WHERE table_name = %s"
            known.append(table.value(query, [name]))
        return count(db, change, **options)

    monkeypatch.setattr(partition_drop, "count_rows", look)
    assert perform(purge())["changed"] == OLD + EACH * 50
    assert known[0] > EACH * 25


def test_only_partitions_before_the_cut_off_are_dropped(table, perform):
    # 2001-07-01: the second partition has old rows, and ends later.
    days = table.value("SELECT DATEDIFF(UTC_DATE(), '2001-07-01')")
    report = perform(purge(older_than_days=days))
    assert report["partitions"] == DROPPED[:1]
    assert partitions(table) == ["p2", "p3", "later"]
    assert report["changed"] == 2 * EACH


@pytest.mark.parametrize(("hours", "dropped"), [(0, 1), (1, 0)])
def test_a_partition_that_ends_at_the_cut_off_is_dropped(scratch, perform, monkeypatch, hours, dropped):
    create(
        scratch, "datetime NOT NULL", bounds={"p1": "'2001-01-01'", "p2": "'2002-01-01'", "later": "MAXVALUE"}
    )
    insert(scratch, 1, "2000-12-31 22:30:00")
    now = scratch.value("SELECT TIMESTAMPDIFF(HOUR, '2001-01-01', UTC_TIMESTAMP())")
    # Some minutes before the full hour that now is in the cut-off is earlier than the bound.
    report = perform(purge(older_than_days=None, older_than=f"{now + hours}h"))
    assert len(report["partitions"]) == dropped


@pytest.mark.parametrize(("later", "dropped"), [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("column", "by", "form", "options"),
    [
        ("date NOT NULL", "RANGE COLUMNS (day)", "'%%Y-%%m-%%d'", {}),
        ("int NOT NULL", "RANGE (day)", "%%Y%%m%%d", {"age_unit": "YYYYMMDD"}),
    ],
)
def test_a_partition_that_ends_on_the_very_day_of_the_cut_off_is_dropped(
    scratch, perform, column, by, form, options, later, dropped
):
    end = scratch.value(f'SELECT DATE_FORMAT(UTC_DATE() - INTERVAL %s DAY, "{form}")', [100 - later])
    create(scratch, column, by, {"p1": end, "later": "MAXVALUE"})
    insert(scratch, 1, "20010101")
    report = perform(purge(older_than_days=100, **options))
    assert len(report["partitions"]) == dropped


def test_the_last_partition_stays_though_it_is_old(scratch, perform):
    """It is the only one that takes new rows of its range; the servers refuse to drop all partitions too."""
    create(scratch, bounds={"p1": "'2001-01-01'", "p2": "'2002-01-01'"})
    insert(scratch, 1, "2000-01-01")
    insert(scratch, 2, "2001-02-02")
    report = perform(purge())
    assert (report["partitions"], report["changed"]) == ([{"partition": "p1", "rows": 1}], 2)
    assert partitions(scratch) == ["p2"]


def test_partitions_with_odd_names(scratch, perform, tmp_path):
    create(scratch, bounds={"`p%s``1 '`": "'2001-01-01'", "`of x; the`": "'2002-01-01'", "later": "MAXVALUE"})
    insert(scratch, 1, "2000-05-05")
    insert(scratch, 2, "2001-05-05")
    report = perform(purge(archive=f"file://{tmp_path}"))
    assert report["partitions"] == [
        {"partition": "p%s`1 '", "rows": 1},
        {"partition": "of x; the", "rows": 1},
    ]
    assert partitions(scratch) == ["later"]
    assert archived(tmp_path) == {1, 2}


@pytest.mark.parametrize("name", ["100% {age}", "a.b\\c", "%s", "审计" * 20, "x" * 64])
def test_a_table_with_an_odd_name(scratch, perform, tmp_path, name):
    create(scratch)
    fill(scratch)
    scratch.run(f"RENAME TABLE t TO `{name}`")
    report = perform(purge(table=name, archive=f"file://{tmp_path}"))
    assert report["partitions"] == DROPPED
    assert scratch.value(f"SELECT COUNT(*) FROM `{name}`") == YOUNG
    assert tables(scratch) == [name]


def test_a_table_with_a_slash_in_its_name_is_refused(scratch, perform):
    """MariaDB 10.11 destroys it: DROP PARTITION fails with 'Unknown database', and the table is gone."""
    create(scratch)
    fill(scratch)
    scratch.run("RENAME TABLE t TO `a/b`")
    with pytest.raises(AirflowFailException, match="the name of the table a/b has a slash"):
        perform(purge(table="a/b"))
    assert perform(purge(table="a/b", drop_partitions=False))["changed"] == OLD


@pytest.mark.parametrize("keeps", [True, False], ids=["archive", "no-archive"])
@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("id, day", f"1 of its {EACH + 1} rows stay"),
        # MariaDB's CHECK, in an archive, makes it count.
        ("day, id", f"1 of its {EACH + 1} rows stay|rows without an age are in it"),
    ],
)
def test_a_partition_with_a_row_without_an_age_is_left_to_the_walk(
    scratch, perform, caplog, tmp_path, key, why, keeps
):
    create(scratch, key=key)
    fill(scratch)
    insert(scratch, 1000, ZERO)
    report = perform(purge(archive=f"file://{tmp_path}" if keeps else None))
    assert ids(scratch) == {*YOUNGER, 1000}
    assert report["partitions"] == DROPPED[1:]
    assert partitions(scratch) == ["p1", "later"]
    assert re.search(f"The partition p1 of t is not dropped, because ({why})", caplog.text)
    assert archived(tmp_path) == (ALL - YOUNGER if keeps else set())


@pytest.mark.parametrize("keeps", [True, False], ids=["archive", "no-archive"])
def test_a_row_without_an_age_that_comes_at_the_last_moment_stays(
    scratch, perform, caplog, tmp_path, monkeypatch, keeps
):
    create(scratch)
    fill(scratch)
    before(monkeypatch, DetachedTable, "exchange", lambda: insert(scratch, 1000, ZERO))
    report = perform(purge(archive=f"file://{tmp_path}" if keeps else None))
    assert ids(scratch) == {*YOUNGER, 1000}
    assert report["partitions"] == DROPPED[1:]
    assert report["changed"] == OLD
    assert "some of its rows stay" in caplog.text
    assert tables(scratch) == ["t"]


def test_rows_that_come_before_and_after_the_exchange_are_archived_too(table, perform, tmp_path, monkeypatch):
    before(monkeypatch, DetachedTable, "exchange", lambda: insert(table, 1000, "2000-05-05"))
    before(monkeypatch, DetachedTable, "drop", lambda: insert(table, 1001, "2000-06-06"))
    report = perform(purge(archive=f"file://{tmp_path}"))
    assert ids(table) == YOUNGER
    assert archived(tmp_path) == ALL - YOUNGER | {1000, 1001}
    assert report["partitions"] == [{"partition": "p1", "rows": EACH + 1}, *DROPPED[1:]]
    assert report["changed"] == OLD + 2
    assert partitions(table) == ["p1", "later"], "it had a new row when it was to be dropped"
    assert perform(purge(archive=f"file://{tmp_path}"))["partitions"] == [{"partition": "p1", "rows": 0}]
    assert partitions(table) == ["later"]


@pytest.mark.needs("check-off")
def test_a_row_that_an_archive_could_not_restore_keeps_its_partition(table, perform, tmp_path, caplog):
    table.run("SET check_constraint_checks = 0")
    insert(table, -5, "2000-05-05")
    report = perform(purge(archive=f"file://{tmp_path}"))
    assert ids(table) == {*YOUNGER, -5}
    assert report["partitions"] == DROPPED[1:]
    assert "1 of its 41 rows stay" in caplog.text


def test_a_dry_run_names_the_partitions_and_changes_nothing(scratch, perform):
    create(scratch)
    fill(scratch)
    insert(scratch, 1000, ZERO)
    report = perform(purge(dry_run=True))
    assert ids(scratch) == {*ALL, 1000}
    assert partitions(scratch) == list(DAYS)
    assert tables(scratch) == ["t"]
    assert report["partitions"] == DROPPED[1:]
    assert report["matched"] == OLD
    assert f"drop {2 * EACH} of these rows with 2 partitions: p2, p3" in report["real_run"]
    assert "not drop the partition p1: 1 of its rows stay" in report["real_run"]


def test_the_safety_limit_stops_the_run_before_a_partition_is_dropped(table, perform):
    for dry in (True, False):
        operator = purge(max_share=0.5, dry_run=dry)
        if dry:
            report = perform(operator)
            assert report["partitions"] == []
            assert report["real_run"][0].startswith("be stopped by the safety limit")
        else:
            with pytest.raises(AirflowFailException, match="160 of 200 eligible rows of t match"):
                perform(operator)
    assert ids(table) == ALL
    assert perform(purge(max_share=0.9))["partitions"] == DROPPED


def test_the_time_limit_ends_the_run_between_two_partitions(table, perform, monkeypatch):
    clock = SimpleNamespace(now=0.0)

    def tick():
        clock.now += 3600

    monkeypatch.setattr("iam_watcher.jobs.table_job.run.time", SimpleNamespace(monotonic=lambda: clock.now))
    before(monkeypatch, DetachedTable, "drop", tick)
    monkeypatch.setattr("iam_watcher.jobs.table_job.run.SavedPosition", Nowhere)
    report = perform(purge(time_budget=timedelta(minutes=30)))
    assert (report["partitions"], report["stopped"]) == (DROPPED[:1], "time_budget")
    assert ids(table) == ALL - set(range(1, EACH + 1))


class Nowhere:
    """A saved position that is never saved."""

    after, changed = None, 0

    def __init__(self, *_, **__):
        pass

    def reserve(self, _):
        pass

    def move(self, *_):
        pass

    save = end = move


TABLES = {
    "no partitions": ("", "has no partitions"),
    "hash": ("PARTITION BY HASH (id) PARTITIONS 3", "is partitioned by HASH"),
    "another column": (
        "PARTITION BY RANGE (id) (PARTITION a VALUES LESS THAN (5), PARTITION b VALUES LESS THAN MAXVALUE)",
        "is partitioned by 'id', and age_column is 'day'",
    ),
    "two columns": (
        "PARTITION BY RANGE COLUMNS (day, id) (PARTITION a VALUES LESS THAN ('2001-01-01', 5))",
        "is partitioned by RANGE COLUMNS",
    ),
    "another function": (
        "PARTITION BY RANGE (MONTH(day)) (PARTITION a VALUES LESS THAN (5))",
        r"is partitioned by RANGE \(month\(`day`\)\)",
    ),
    "subpartitions": (
        "PARTITION BY RANGE (YEAR(day)) SUBPARTITION BY HASH (id) (PARTITION a VALUES LESS THAN (5))",
        "with subpartitions",
    ),
}


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(("partition_by", "why"), TABLES.values(), ids=TABLES)
def test_other_partitions_are_refused_before_the_first_write(scratch, perform, partition_by, why, dry):
    scratch.run(f"CREATE TABLE t (id int NOT NULL, day date NOT NULL, PRIMARY KEY (id, day)) {partition_by}")
    with pytest.raises(AirflowFailException, match=why) as raised:
        perform(purge(dry_run=dry))
    assert "Leave drop_partitions out" in str(raised.value)


def test_a_trigger_on_delete_is_refused(table, perform):
    table.run("CREATE TRIGGER counts AFTER DELETE ON t FOR EACH ROW SET @gone = OLD.id")
    with pytest.raises(AirflowFailException, match="has the trigger counts for DELETE"):
        perform(purge())
    assert ids(table) == ALL
    table.run("DROP TRIGGER counts")
    table.run("CREATE TRIGGER comes BEFORE INSERT ON t FOR EACH ROW SET @new = NEW.id")
    assert perform(purge())["partitions"] == DROPPED


def test_a_foreign_key_to_the_table_is_refused(scratch, perform):
    scratch.run("SET foreign_key_checks = 0")
    scratch.run("CREATE TABLE child (parent bigint, FOREIGN KEY (parent) REFERENCES t (id))")
    try:
        create(scratch)
    except scratch.connection.Error as error:
        if error.args[0] != 1506:
            raise
        return
    finally:
        scratch.run("SET foreign_key_checks = 1")
    with pytest.raises(AirflowFailException, match=r"scratch.child refers to t by a foreign key"):
        perform(purge())


def test_ages_as_texts_are_refused(scratch, perform):
    create(scratch, "varchar(10) NOT NULL")
    with pytest.raises(AirflowFailException, match="expects an age column of dates or whole numbers"):
        perform(purge(age_format="%Y-%m-%d"))


@pytest.fixture
def other(mariadb, table):
    """A session of someone else."""
    with closing(mariadb.connect("scratch", autocommit=False)) as connection:
        yield connection


def test_others_work_on_while_the_job_waits_for_a_long_transaction(
    table, other, perform, monkeypatch, caplog
):
    """The statements of others don't wait behind that of the job; see LOCK TABLES in the log."""
    with closing(other.cursor()) as cursor:
        cursor.execute("SELECT COUNT(*) FROM t")  # open until the commit
    tries, done = iter(range(1, 100)), []
    original = transactions.Transactions.sleep

    def sleep(db, seconds):
        if seconds:  # between two tries
            number = next(tries)
            insert(table, 1000 + number, "2090-01-01")
            if number == 3:
                other.commit()
        original(db, 0)

    def lock(self, tables):
        done.append(tables)
        before_lock(self, tables)

    before_lock = TableLock._lock
    monkeypatch.setattr(TableLock, "_lock", lock)
    monkeypatch.setattr(transactions.Transactions, "sleep", sleep)
    report = perform(purge())
    assert report["partitions"] == DROPPED
    assert len(done) == 2 * 3 + 3, "two for each partition, and three that were ended"
    assert report["retries"] == 3
    assert caplog.text.count("interrupted") == 3, "they were ended, and did not wait for lock_wait_timeout"


def test_a_table_that_is_never_free_fails_the_run_and_loses_nothing(table, other, perform, monkeypatch):
    monkeypatch.setattr(transactions, "TRIES", 2)
    with closing(other.cursor()) as cursor:
        cursor.execute("SELECT COUNT(*) FROM t")
    with pytest.raises(WalkError, match=r"transactions that last longer than 0.1 s"):
        perform(purge())
    other.commit()
    assert ids(table) == ALL
    assert tables(table) == ["t"]


def test_another_session_on_the_same_partitions_is_noticed(table, other, perform, monkeypatch):
    monkeypatch.setattr(detached_table, "TAKE", "SELECT GET_LOCK(%(name)s, 0)")
    names = []
    original = DetachedTable.__init__

    def note(self, *arguments):
        original(self, *arguments)
        names.append(self._lock)
        with closing(other.cursor()) as cursor:
            cursor.execute("SELECT GET_LOCK(%(name)s, 0)", self._lock)

    monkeypatch.setattr(DetachedTable, "__init__", note)
    with pytest.raises(WalkError, match="another session works on partitions of t"):
        perform(purge())
    assert ids(table) == ALL


@pytest.mark.parametrize("step", ["create", "exchange", "drop", "drop_partition"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_connection_at_any_step_is_no_harm(table, perform, mariadb, tmp_path, monkeypatch, step, when):
    original, lost = getattr(DetachedTable, step), []

    def lose(self):
        if not lost:
            ((session,),) = self._db.read("SELECT CONNECTION_ID()")
            lost.append(session)
            table.run(f"KILL {session}")

    def changed(self, *arguments):
        if when == "before":
            lose(self)
        result = original(self, *arguments)
        if when == "after":
            lose(self)
        return result

    monkeypatch.setattr(DetachedTable, step, changed)
    report = perform(purge(archive=f"file://{tmp_path}"))
    assert lost
    assert report["partitions"] == DROPPED
    assert ids(table) == YOUNGER
    assert archived(tmp_path) == ALL - YOUNGER
    assert partitions(table) == ["later"]
    assert tables(table) == ["t"]


@pytest.mark.parametrize("call", [1, 2])
def test_a_failing_archive_puts_the_rows_back(table, perform, tmp_path, monkeypatch, call):
    add, calls = Archive.add, iter(range(1, 1000))

    def fail(self, packed):
        if next(calls) == call:
            raise ArchiveError("the disk is full")
        add(self, packed)

    monkeypatch.setattr(Archive, "add", fail)
    monkeypatch.setattr("iam_watcher.walk.pace.FIRST_ROWS", 10)
    with pytest.raises(ArchiveError, match="the disk is full"):
        perform(purge(archive=f"file://{tmp_path}"))
    assert ids(table) == ALL if call == 1 else ids(table) >= YOUNGER
    assert tables(table) == ["t"]
    monkeypatch.setattr(Archive, "add", add)
    perform(purge(archive=f"file://{tmp_path}"))
    assert ids(table) == YOUNGER
    assert archived(tmp_path) == ALL - YOUNGER


class Killed(BaseException):
    """Ends a run as a kill does: nothing in it is done after that."""


def interrupted(monkeypatch, perform, step, **options):
    """Run until before a step."""
    with monkeypatch.context() as patch:

        def stop():
            raise Killed

        before(patch, DetachedTable, step, stop)
        with pytest.raises(Killed):
            perform(purge(**options))


def test_a_longer_period_after_an_interruption_puts_the_rows_back(table, perform, monkeypatch):
    interrupted(monkeypatch, perform, "drop")
    assert ids(table) == ALL - set(range(1, EACH + 1))
    report = perform(purge(older_than_days=36_000))
    assert (report["partitions"], report["changed"]) == ([], 0)
    assert ids(table) == ALL
    assert tables(table) == ["t"]


def test_rows_that_can_not_be_reattached_are_kept_and_named(table, perform, monkeypatch):
    interrupted(monkeypatch, perform, "drop")
    insert(table, 1000, "2000-07-07")
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=r"is gone, or has new rows\. Copy the rows of"):
            perform(purge(older_than_days=36_000))
        assert table.value(f"SELECT COUNT(*) FROM {detached_name('t')}") == EACH
    # First the rows that were left, then the new row, both of the same partition.
    assert perform(purge())["partitions"] == [{"partition": "p1", "rows": EACH + 1}, *DROPPED[1:]]


def test_rows_whose_partition_is_gone_are_kept_and_named(table, perform, monkeypatch):
    interrupted(monkeypatch, perform, "drop")
    table.run("ALTER TABLE t DROP PARTITION p1")
    with pytest.raises(AirflowFailException, match=r"it is gone, or has new rows\. Copy the rows"):
        perform(purge(older_than_days=36_000))
    assert table.value(f"SELECT COUNT(*) FROM {detached_name('t')}") == EACH


def test_a_run_without_drop_partitions_says_that_rows_are_left(table, perform, monkeypatch, caplog):
    interrupted(monkeypatch, perform, "drop")
    report = perform(purge(drop_partitions=False))
    assert report["changed"] == OLD - EACH
    assert f"has left rows of the partition p1 of t in the table {detached_name('t')}" in caplog.text
    report = perform(purge(dry_run=True))
    assert (
        f"go on with the partition p1, whose rows an earlier run left in {detached_name('t')}"
        in report["real_run"]
    )
    assert perform(purge())["partitions"][0] == {"partition": "p1", "rows": EACH}


def test_a_table_of_this_name_that_is_not_the_jobs_is_left_alone(table, perform):
    table.run(f"CREATE TABLE {detached_name('t')} (id int)")
    with pytest.raises(AirflowFailException, match=r"its comment is not the job's: ''. Rename this table"):
        perform(purge())
    assert ids(table) == ALL


@pytest.mark.parametrize("step", ["exchange", "drop", "drop_partition"])
def test_a_lost_lock_ends_the_run_before_the_next_step(table, perform, monkeypatch, step):
    lost = threading.Event()

    def safe_point(_):
        if lost.is_set():
            raise LockLost("by the test")

    monkeypatch.setattr("iam_watcher.jobs.purge_rows.PurgeRowsOperator._safe_point", safe_point)
    before(monkeypatch, DetachedTable, step, lost.set)
    with pytest.raises(AirflowFailException, match="by the test"):
        perform(purge())
    rows = table.value(f"SELECT COUNT(*) FROM {detached_name('t')}") if len(tables(table)) > 1 else 0
    assert len(ids(table)) + rows == len(ALL) - (EACH if step == "drop_partition" else 0)
    assert partitions(table) == list(DAYS)
    lost.clear()
    perform(purge())
    assert (ids(table), partitions(table), tables(table)) == (YOUNGER, ["later"], ["t"])


def test_columns_that_were_added_later(table, perform, tmp_path, caplog):
    """MySQL exchanges no partition that has columns added without a rebuild: its rows are deleted singly."""
    table.run("ALTER TABLE t ADD COLUMN more int NOT NULL DEFAULT 7")
    report = perform(purge(archive=f"file://{tmp_path}"))
    assert ids(table) == YOUNGER
    assert archived(tmp_path) == ALL - YOUNGER
    assert report["changed"] == OLD
    assert tables(table) == ["t"]
    if report["partitions"] != DROPPED:
        assert report["partitions"] == []
        assert caplog.text.count("can't be dropped as a whole; its rows are deleted one by one") == 3


def test_an_account_without_the_rights_is_logged_before_the_first_write(table, perform, mariadb, monkeypatch):
    table.run("GRANT SELECT, DELETE ON scratch.* TO iam_watcher")
    try:
        monkeypatch.setenv("AIRFLOW_CONN_SCRATCH", mariadb.airflow_uri.removesuffix("/iam") + "/scratch")
        with pytest.raises(AirflowFailException, match=r"grant the connection's account this right"):
            perform(purge())
        assert ids(table) == ALL
        table.run("GRANT CREATE, ALTER, DROP, INSERT, LOCK TABLES ON scratch.* TO iam_watcher")
        assert perform(purge())["partitions"] == DROPPED
    finally:
        table.run("REVOKE ALL ON scratch.* FROM iam_watcher")


@pytest.mark.parametrize("step", ["count_rows", "record_rows"])
def test_partitions_are_read_as_politely_as_the_rest(table, perform, tmp_path, monkeypatch, step):
    waits, rests = politeness(monkeypatch, partition_drop, step)
    assert perform(purge(pace="polite", archive=f"file://{tmp_path}"))["partitions"] == DROPPED
    assert waits
    assert min(rests) > 0


def test_the_progress_of_an_archive_counts(table, perform, tmp_path, monkeypatch):
    monkeypatch.setattr("iam_watcher.walk.pace.FIRST_ROWS", 7)
    counted = []
    original = partition_drop.record_rows

    def noted(*arguments, **options):
        counted.append(original(*arguments, **options))
        return counted[-1]

    monkeypatch.setattr(partition_drop, "record_rows", noted)
    perform(purge(archive=f"file://{tmp_path}"))
    assert counted == [EACH] * 3
