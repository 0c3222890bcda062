"""What `set` can have for each type of column: a row is done once, and a restore leaves changed rows."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from airflow.sdk.exceptions import AirflowFailException
from MySQLdb import OperationalError

from iam_watcher.archive.row_updater import RowUpdater
from iam_watcher.jobs.anonymize_rows import NOW, AnonymizeRowsOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator

# Type, old value, new value, the value that somebody sets after the run.
KEPT = [
    ("decimal(9,2)", "1.5", Decimal("7.250"), "7.26"),
    ("decimal(30,10)", "1", Decimal("12345678901234567890.0000000001"), "12345678901234567890.0000000002"),
    ("double", 1.5, 0.1, 0.2),
    ("float", 1.5, 0.1, 0.2),
    ("datetime(3)", "2020-01-01", datetime(2000, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC), "2021-01-01"),
    ("timestamp", "2020-01-01", datetime(2000, 1, 1, tzinfo=UTC), "2021-01-01"),
    ("date", "2020-01-01", date(2000, 1, 1), "2021-01-01"),
    ("time", "10:00:00", "00:00:00", "11:00:00"),
    ("bit(1)", 1, False, None),
    ("enum('a','b')", "a", "B", None),
    ("char(9)", "old", "new", "other"),
    ("varbinary(9)", b"old", b"\xffnew\x00", b"\xffnew"),
    ("binary(4)", b"old", b"new\x00", b"newe"),
    ("blob", b"old", b"", b"\x00"),
]

NOT_KEPT = [
    ("decimal(9,2)", Decimal("0.005"), "up to 2 digits after the point"),
    ("double(7,2)", 0.125, "FLOAT or DOUBLE without a number of digits"),
    ("datetime(3)", datetime(2000, 1, 1, 0, 0, 0, 500_001, tzinfo=UTC), "up to 3 digits after the second"),
    ("timestamp", datetime(2000, 1, 1, 0, 0, 0, 1, tzinfo=UTC), "up to 0 digits after the second"),
    ("time", "00:00:00.6", "up to 0 digits after the second"),
    ("char(9)", "x ", "a text without spaces at its end"),
    ("enum('a','b')", "", "one of 'a', 'b'"),
]


def change(tmp_path, **options):
    arguments = {"task_id": "change", "table": "t", "age_column": "at", "older_than": "1d"}
    archive = f"file://{tmp_path}"
    return AnonymizeRowsOperator(mysql_conn_id="scratch", **{"archive": archive, **arguments, **options})


def restore(tmp_path, report):
    return RestoreRowsOperator(
        task_id="restore",
        path=report["archive"],
        location=f"file://{tmp_path}",
        tables=["t"],
        mysql_conn_id="scratch",
    )


def fill(scratch, column, value):
    scratch.run("DROP TABLE IF EXISTS t")
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, at date NOT NULL, c {column} NULL, mark datetime NULL)")
    scratch.run_many("INSERT INTO t VALUES (%s, '2020-01-01', %s, NULL)", [(1, value), (2, value), (3, None)])
    return rows_of(scratch)


def rows_of(scratch):
    return dict(scratch.rows("SELECT id, c FROM t"))


@pytest.mark.every_server
@pytest.mark.parametrize(("column", "old", "new", "since"), KEPT, ids=[case[0] for case in KEPT])
def test_a_row_is_done_once_and_keeps_what_was_changed_since(
    scratch, perform, tmp_path, column, old, new, since
):
    before = fill(scratch, column, old)
    report = perform(change(tmp_path, set={"c": new}))
    again = perform(change(tmp_path, set={"c": new}))
    assert (report["changed"], again["changed"]) == (3, 0)
    scratch.run("UPDATE t SET c = %s WHERE id = 2", [since])
    expected = before | {2: rows_of(scratch)[2]}
    assert perform(restore(tmp_path, report))["skipped"] == {"changed_since": 1}
    assert rows_of(scratch) == expected


@pytest.mark.every_server
@pytest.mark.parametrize(("column", "new", "said"), NOT_KEPT, ids=[case[0] for case in NOT_KEPT])
def test_a_value_that_the_column_would_not_keep_is_refused(scratch, perform, tmp_path, column, new, said):
    before = fill(scratch, column, None)
    for dry_run in (True, False):
        with pytest.raises(AirflowFailException, match=f"would not keep as it is; expected .*{said}"):
            perform(change(tmp_path, set={"c": new}, dry_run=dry_run))
    assert rows_of(scratch) == before


def test_a_value_that_was_changed_since_stays_though_the_mark_is_there(scratch, perform, tmp_path):
    fill(scratch, "varchar(9)", "old")
    report = perform(change(tmp_path, set={"c": None, "mark": NOW}))
    scratch.run("UPDATE t SET c = 'newer' WHERE id = 2")
    assert perform(restore(tmp_path, report))["skipped"] == {"changed_since": 1}
    assert rows_of(scratch) == {1: "old", 2: "newer", 3: None}


def test_a_redacted_column_that_the_table_does_not_have_is_said_if_there_is_an_archive(
    scratch, perform, tmp_path, caplog
):
    fill(scratch, "varchar(9)", "old")
    options = {"set": {"c": "new"}, "redact": ["absent"], "dry_run": True}
    perform(change(tmp_path, archive=None, **options))
    assert "redact names" not in caplog.text
    perform(change(tmp_path, **options))
    assert "redact names absent, and t has no such column" in caplog.text


@pytest.mark.every_server
def test_columns_that_the_server_sets_besides_are_said(scratch, perform, tmp_path, caplog):
    fill(scratch, "timestamp", None)
    perform(change(tmp_path, set={"mark": NOW}, dry_run=True))
    assert "ON UPDATE" not in caplog.text
    rule = "timestamp NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"
    scratch.run(f"ALTER TABLE t MODIFY c {rule}, MODIFY mark {rule}")
    scratch.run("UPDATE t SET mark = NULL")
    perform(change(tmp_path, set={"mark": NOW}, dry_run=True))
    assert "The server sets c of t to the current time in each row that is changed" in caplog.text
    assert "in UTC" not in caplog.text
    scratch.run(f"ALTER TABLE t MODIFY c {rule.replace('timestamp', 'datetime', 1)}")
    perform(change(tmp_path, set={"mark": NOW}, dry_run=True))
    assert "the server sets c of t, a DATETIME, to the current time in UTC (ON UPDATE)" in caplog.text


@pytest.mark.every_server
@pytest.mark.parametrize("more", [{}, {"mark": NOW}])
def test_a_text_in_other_characters_than_those_of_the_column_is_refused(scratch, perform, tmp_path, more):
    before = fill(scratch, "varchar(9) CHARACTER SET latin1", "old")
    for dry_run in (True, False):
        with pytest.raises(AirflowFailException, match="set has a text that a column of t can't hold"):
            perform(change(tmp_path, set={"c": "日", **more}, dry_run=dry_run))
    assert rows_of(scratch) == before


@pytest.mark.every_server
def test_a_row_can_not_change_between_its_check_and_its_restore(scratch, perform, tmp_path, monkeypatch):
    before = fill(scratch, "varchar(9)", "old")
    report = perform(change(tmp_path, set={"c": "new"}))
    write, refused = RowUpdater._try, []

    def others_first(updater, batch, keys):
        if not refused:
            scratch.run("SET innodb_lock_wait_timeout = 1")
            with pytest.raises(OperationalError, match="Lock wait timeout") as error:
                scratch.run("UPDATE t SET c = 'newer' WHERE id = 1")
            refused.append(error)
        return write(updater, batch, keys)

    monkeypatch.setattr(RowUpdater, "_try", others_first)
    assert perform(restore(tmp_path, report))["restored"] == 3
    assert refused
    assert rows_of(scratch) == before


@pytest.mark.every_server
def test_old_values_that_are_longer_than_a_packet_come_back(scratch, perform, tmp_path):
    """The driver writes two bytes for a zero, and a row may have several values of nearly a packet each."""
    packet = 1024 * 1024
    before = scratch.value("SELECT @@GLOBAL.max_allowed_packet")
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, at date NOT NULL, a longblob, b longtext, c json, mark datetime)"
    )
    old = {"a": b"\0'\\" * (packet // 3), "b": "é" * (packet // 2 - 1), "c": f'["{"x" * (packet - 100)}"]'}
    scratch.run("INSERT INTO t (id, at, a) VALUES (1, '2020-01-01', ''), (2, '2020-01-01', 'short')")
    scratch.run("INSERT INTO t (id, at) VALUES (3, '2020-01-01'), (4, '2020-01-01')")
    for name, value in old.items():
        scratch.run(f"UPDATE t SET {name} = %s WHERE id > 2", [value])
    rows = "SELECT id, SHA2(a, 256), SHA2(b, 256), SHA2(c, 256), mark FROM t ORDER BY id"
    stored = scratch.rows(rows)
    try:
        scratch.run("SET GLOBAL max_allowed_packet = %s", [packet])
        report = perform(change(tmp_path, set={**dict.fromkeys(old), "mark": NOW}))
        assert report["changed"] == 4
        scratch.run("UPDATE t SET a = 'newer' WHERE id = 4")
        changed = scratch.rows(rows)[3]
        back = perform(restore(tmp_path, report))
    finally:
        scratch.run("SET GLOBAL max_allowed_packet = %s", [before])
    assert (back["restored"], back["skipped"], back["altered"]) == (3, {"changed_since": 1}, {})
    assert scratch.rows(rows) == [*stored[:3], changed]


@pytest.mark.every_server
def test_an_old_value_that_is_no_member_of_its_enum_comes_back(scratch, perform, tmp_path):
    """A server without the strict mode stores the empty text in place of an unknown member."""
    fill(scratch, "enum('a','b')", "a")
    scratch.run("SET sql_mode = ''")
    scratch.run("UPDATE t SET c = 'unknown' WHERE id = 1")
    before = scratch.rows("SELECT id, c, c + 0, mark FROM t")
    assert before[0] == (1, "", 0, None)
    report = perform(change(tmp_path, set={"c": "b", "mark": NOW}))
    assert report["changed"] == 3
    back = perform(restore(tmp_path, report))
    assert (back["restored"], back["skipped"], back["altered"]) == (3, {}, {})
    assert scratch.rows("SELECT id, c, c + 0, mark FROM t") == before


@pytest.mark.every_server
def test_a_member_that_its_enum_lost_since_changes_nothing_of_its_row(scratch, perform, tmp_path):
    fill(scratch, "enum('a','b')", "a")
    scratch.run("UPDATE t SET c = 'b' WHERE id = 2")
    report = perform(change(tmp_path, set={"c": None, "mark": NOW}))
    scratch.run("ALTER TABLE t MODIFY c enum('a') NULL")
    done = scratch.rows("SELECT id, c, mark FROM t")
    back = perform(restore(tmp_path, report))
    assert (back["restored"], back["skipped"], back["altered"]) == (2, {"does_not_fit": 1}, {})
    assert scratch.rows("SELECT id, c, mark FROM t") == [(1, "a", None), done[1], (3, None, None)]
