"""Archived rows that are restored: as they were, and only where none is.

Types, crashes and refusals are tested on the same archives: hence the length.
"""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.archive.storage import Folder
from iam_watcher.archive.writer import Archive, Packed
from iam_watcher.database.throttle import Throttle
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import JobArgumentError, WalkError
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.walk.pace import ChunkSize
from tests.integration.conftest import TaskInstance
from tests.integration.test_archive import UNHURRIED, fill, location, purge
from tests.integration.test_archive_kills import kill, run_url

__all__ = ["location"]

pytestmark = [pytest.mark.every_server, pytest.mark.usefixtures("path_for_forks")]

# Every type that is kept, with values that a careless way would change.
TYPES = {
    "tiny": ("tinyint", [-128, 127, 0]),
    "big": ("bigint unsigned", [2**64 - 1, 0]),
    "exact": ("decimal(38,10)", ["12345678901234567890.1234567890", "-0.0000000001", "1.1000000000"]),
    "single": ("float", ["1.1754942e-38", "16777217", "0.1", "-3.4028233e38"]),
    "double_": ("double", ["1.7976931348623157e308", "0.1", "2.2250738585072014e-308", "-0.30000000000004"]),
    "bits": ("bit(64)", [2**64 - 1, 5]),
    "year_": ("year", ["0000", 1901, 2155]),
    "day": ("date", ["0000-00-00", "1000-01-01", "9999-12-31"]),
    "span": ("time(6)", ["-838:59:59.000000", "838:59:59.000000", "00:00:00.000001"]),
    "moment": ("datetime(6)", ["0000-00-00 00:00:00.000000", "2026-03-29 02:30:00.123456"]),
    "stamp": ("timestamp(6) NULL", ["0000-00-00 00:00:00", "1970-01-01 00:00:01.000001"]),
    "text8": ("varchar(99) CHARACTER SET utf8mb4", ["😀 é \u2028 \x00 \\ ' \" %s %(a)s", "trailing ", ""]),
    "latin": ("varchar(99) CHARACTER SET latin1", ["é€ÿ", "null", "NULL"]),
    "wide": ("longtext CHARACTER SET utf16", ["𐐷\n\r\t", "x" * 100_000]),
    "choice": ("enum('a','ä,b','c''d')", ["ä,b", "c'd"]),
    "flags": ("set('x','y','z')", ["x,z", ""]),
    "raw": ("varbinary(300)", [bytes(range(256)), b"", b"\xff\x00"]),
    "fixed": ("binary(4)", [b"\x00\x01", b"\xff"]),
    "large": ("longblob", [b"\x80" * 70_000, b"%s"]),
    "doc": ("json", ['{"ä": [1, "😀"]}', "null"]),
}  # fmt: skip

# The types that only some servers have.
ADDRESSES = {
    "uid": ("uuid", ["123e4567-e89b-12d3-a456-426655440000"]),
    "address": ("inet6", ["2001:db8::ff00:42:8329"]),
}


def restore(location, path, **options):
    return RestoreRowsOperator(
        **{"task_id": "restore", "location": location, "path": path, "tables": ["policy_audit"], **options}
    )


def restore_scratch(location, path, **options):
    return restore(location, path, tables=["t"], mysql_conn_id="scratch", **options)


def everything(database, table):
    """Return all rows, compared by the server's own bytes."""
    columns = [f"`{name}`" for name in database.column(f"SHOW COLUMNS FROM {table}")]
    values = [f"CONCAT({column} + 0e0)" if column == "`single`" else f"HEX({column})" for column in columns]
    return database.rows(f"SELECT {', '.join(values)} FROM {table} ORDER BY id")


@pytest.mark.parametrize(
    "types",
    [TYPES, pytest.param(ADDRESSES, marks=pytest.mark.needs("address-types"))],
    ids=["all", "addresses"],
)
def test_every_type_makes_the_round_trip(scratch, perform, location, types):
    scratch.connection.set_character_set("utf8mb4")
    scratch.run("SET sql_mode = 'STRICT_TRANS_TABLES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'")
    columns = ", ".join(f"`{name}` {kind}" for name, (kind, _) in types.items())
    scratch.run(
        f"CREATE TABLE t (id bigint PRIMARY KEY AUTO_INCREMENT, age date NOT NULL, {columns},"
        " twice bigint AS (YEAR(age) * 2) STORED, changed timestamp NULL ON UPDATE CURRENT_TIMESTAMP)"
    )
    scratch.run("INSERT INTO t (id, age) VALUES (0, '2001-01-01')")
    for name, (_, values) in types.items():
        for value in values:
            scratch.run(f"INSERT INTO t (age, `{name}`) VALUES ('2001-01-01', %s)", [value])
    before = everything(scratch, "t")
    report = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch", redact=[]))
    assert scratch.value("SELECT COUNT(*) FROM t") == 0
    assert report["changed"] == len(before)
    restored = perform(restore_scratch(location, report["archive"]))
    assert everything(scratch, "t") == before
    assert (restored["rows"], restored["restored"], restored["skipped"]) == (len(before), len(before), {})


def test_a_key_with_bytes_that_have_no_unicode_comes_back(scratch, perform, location):
    scratch.run("CREATE TABLE t (code varchar(9) CHARACTER SET cp1250 PRIMARY KEY, age date NOT NULL, x int)")
    for digits in ("61", "8183", "90", "98E9"):
        scratch.run(f"INSERT INTO t VALUES (_cp1250 X'{digits}', '2001-01-01', 1)")
    rows = "SELECT HEX(code), x FROM t ORDER BY HEX(code)"
    before = scratch.rows(rows)
    report = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))
    assert scratch.rows(rows) == []
    # One row is there again, and not to be overwritten.
    scratch.run("INSERT INTO t VALUES (_cp1250 X'8183', '2001-01-01', 1)")
    restored = perform(restore_scratch(location, report["archive"]))
    assert scratch.rows(rows) == before
    assert (restored["rows"], restored["restored"], restored["skipped"]) == (4, 3, {"exists": 1})


@pytest.mark.parametrize("digits", ["ED40", "FA5C"])
def test_a_key_that_was_archived_as_bytes_finds_its_row_in_another_character_set(
    scratch, perform, location, digits
):
    """Both codes of cp932 are the character 纊. Only one of them is what UTF-8 becomes again."""
    scratch.run("CREATE TABLE t (code varchar(9) CHARACTER SET cp932 PRIMARY KEY, age date NOT NULL, x int)")
    scratch.run(f"INSERT INTO t VALUES (_cp932 X'{digits}', '2001-01-01', 1), ('b', '2001-01-01', 2)")
    url = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))["archive"]
    scratch.run("ALTER TABLE t MODIFY code varchar(9) CHARACTER SET utf8mb4")
    report = perform(restore_scratch(location, url))
    assert (report["restored"], report["skipped"]) == (2, {})
    assert scratch.rows("SELECT HEX(code), x FROM t ORDER BY x") == [("E7BA8A", 1), ("62", 2)]
    again = perform(restore_scratch(location, url))
    assert again["restored"] == 0
    assert scratch.value("SELECT COUNT(*) FROM t") == 2


@pytest.mark.parametrize("time_zone", ["-05:00", "+08:00"])
def test_iams_rows_come_back_as_they_were(iam, perform, location, time_zone):
    fill(iam, 2500)
    iam.run("UPDATE policy_audit SET extendShadow = 'ä', createdAt = '0000-00-00' WHERE id % 2")
    before = everything(iam, "policy_audit")
    was = iam.value("SELECT @@GLOBAL.time_zone")
    try:
        url = perform(purge(location))["archive"]
        iam.run("SET GLOBAL time_zone = %s", [time_zone])
        report = perform(restore(location, url))
    finally:
        iam.run("SET GLOBAL time_zone = %s", [was])
    assert everything(iam, "policy_audit") == before
    assert report["lost"] == []
    assert report["complete"] is True


def test_a_second_restore_changes_nothing(iam, perform, location):
    fill(iam, 1200)
    url = perform(purge(location))["archive"]
    perform(restore(location, url))
    iam.run("UPDATE policy_audit SET name = 'changed since' WHERE id = 3")
    iam.run("DELETE FROM policy_audit WHERE id = 6")
    report = perform(restore(location, url))
    assert (report["restored"], report["skipped"]) == (1, {"exists": 1199})
    assert iam.value("SELECT name FROM policy_audit WHERE id = 3") == "changed since"


def test_a_dry_run_verifies_and_writes_nothing(iam, mariadb, perform, location):
    fill(iam, 100)
    url = perform(purge(location))["archive"]
    fill(iam, 10)
    iam.run(f"REVOKE INSERT ON iam.policy_audit FROM '{mariadb.user}'")
    report = perform(restore(location, url, dry_run="True"))
    assert (report["rows"], report["restored"], report["skipped"]) == (100, 90, {"exists": 10})
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 10


def test_a_damaged_archive_restores_nothing(iam, perform, location):
    fill(iam, 2500)
    url = perform(purge(location, pace=UNHURRIED))["archive"]
    part = min(Path(url.removeprefix("file://")).glob("*/part-*"))
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(AirflowFailException, match=r"archive is damaged.* has the SHA-256"):
        perform(restore(location, url))
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 0


def test_rows_that_the_server_refuses_are_counted_and_named(iam, perform, location):
    """Another row has the value of a unique key meanwhile."""
    iam.run("ALTER TABLE policy_audit ADD UNIQUE KEY (instanceID)")
    fill(iam, 1000)
    url = perform(purge(location))["archive"]
    for number in (7, 500, 501):
        iam.run(
            "INSERT INTO policy_audit (id, instanceID, name, username) VALUES (%s, %s, '', '')",
            [1 + 3 * number, f"i-{number}"],
        )
    report = perform(restore(location, url))
    assert (report["restored"], report["skipped"]) == (997, {"unique_key": 3})
    assert sorted(example["key"] for example in report["examples"]) == [21, 1500, 1503]


def test_rows_without_what_they_refer_to_are_counted(scratch, perform, location, caplog):
    scratch.run("CREATE TABLE parent (id int PRIMARY KEY)")
    scratch.run("INSERT INTO parent VALUES (1), (2)")
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL, p int REFERENCES parent (id))")
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01', 1), (2, '2001-01-01', 2), (3, '2001-01-01', NULL)")
    url = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))["archive"]
    scratch.run("DELETE FROM parent WHERE id = 1")
    report = perform(restore_scratch(location, url))
    assert (report["restored"], report["skipped"]) == (2, {"foreign_key": 1})
    assert report["examples"] == [{"key": 1, "why": "foreign_key"}]
    assert "2 of 3 rows of t were restored (1 without the row that it refers to left alone)" in caplog.text
    assert (
        "The restore leaves rows of the archive out. t: 1 without the row that it refers to\n" in caplog.text
    )
    caplog.clear()
    scratch.run("INSERT INTO parent VALUES (1)")
    assert perform(restore_scratch(location, url))["skipped"] == {"exists": 2}
    assert "leaves rows of the archive out" not in caplog.text


def test_children_without_what_they_refer_to_are_named_in_the_warning(scratch, perform, location, caplog):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL)")
    scratch.run("CREATE TABLE product (id int PRIMARY KEY)")
    scratch.run(
        "CREATE TABLE line (id int PRIMARY KEY, t int REFERENCES t (id), p int REFERENCES product (id))"
    )
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01')")
    scratch.run("INSERT INTO product VALUES (1), (2)")
    scratch.run("INSERT INTO line VALUES (1, 1, 1), (2, 1, 1), (3, 1, 2)")
    url = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch", children="auto"))[
        "archive"
    ]
    scratch.run("DELETE FROM product WHERE id = 1")
    perform(restore(location, url, tables=["t", "line"], mysql_conn_id="scratch"))
    left = "2 without the row that they refer to"
    assert f"With them 1 of 3 rows of line ({left} left alone)" in caplog.text
    assert f"The restore leaves rows of the archive out. line: {left}\n" in caplog.text


def test_what_was_left_out_and_must_not_be_empty_stops_it(iam, perform, location):
    iam.run("INSERT INTO user (name, nickname, password, email) VALUES ('u', 'u', '', '')")
    iam.run(
        "INSERT INTO secret (name, username, secretID, secretKey) VALUES ('s', 'u', 'id', 'not-a-secret')"
    )
    secrets = PurgeRowsOperator(
        task_id="purge", table="secret", age_column="expires", age_unit="unix_seconds", grace_days=0,
        archive=location,
    )  # fmt: skip
    url = perform(secrets)["archive"]
    for dry_run in (True, False):
        with pytest.raises(AirflowFailException, match=r"secretKey must not be empty.*left out: secretKey"):
            perform(restore(location, url, tables=["secret"], dry_run=dry_run))


def test_what_was_left_out_and_may_be_empty_is_named(scratch, perform, location):
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL, password varchar(9), x int DEFAULT 5)"
    )
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01', 'p', 7)")
    options = {"table": "t", "age_column": "age", "mysql_conn_id": "scratch"}
    url = perform(purge(location, **options, redact=["password", "x"]))["archive"]
    scratch.run("ALTER TABLE t ADD new timestamp NULL")
    report = perform(restore_scratch(location, url))
    assert report["lost"] == ["password", "x", "new"]
    assert scratch.rows("SELECT password, x FROM t") == [(None, 5)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DROP COLUMN x", "t has no column 'x'"),
        ("MODIFY x blob", "column 'x' of t is blob; in the archive it is varchar"),
        ("ADD new int NOT NULL", "new must not be empty"),
        ("CHANGE id key_ int", "has the key key_; the archive has id"),
    ],
)
def test_a_table_that_was_changed_since_is_refused_with_the_reason(
    scratch, perform, location, change, message
):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL, x varchar(9))")
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01', 'x')")
    url = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))["archive"]
    scratch.run(f"ALTER TABLE t {change}")
    with pytest.raises(AirflowFailException, match=message):
        perform(restore_scratch(location, url))


def test_a_column_that_shrank_is_no_reason_to_cut_values(scratch, perform, location):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL, x varchar(9))")
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01', 'long'), (2, '2001-01-01', 'ok')")
    url = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))["archive"]
    scratch.run("ALTER TABLE t MODIFY x varchar(2)")
    assert perform(restore_scratch(location, url))["skipped"] == {"does_not_fit": 1}
    assert scratch.rows("SELECT id, x FROM t") == [(2, "ok")]


@pytest.mark.parametrize(
    ("kind", "value", "change"),
    [
        ("int NULL", None, "MODIFY x int NOT NULL"),
        ("int", 300, "MODIFY x tinyint"),
        ("enum('5', 'b')", "b", "MODIFY x enum('5')"),
        ("datetime", "2201-01-01", "MODIFY x timestamp NULL"),
        ("varchar(9) CHARACTER SET utf8mb4", "\N{GRINNING FACE}", "MODIFY x varchar(9) CHARACTER SET latin1"),
        ("varchar(9)", "a long x", "MODIFY x varchar(2)"),
        ("int", 300, "PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (3))"),
    ],
)
def test_a_row_that_fits_no_more_is_left_out_alone(scratch, perform, location, kind, value, change):
    """The server has another error for each of them. The rows 3 and 4 don't fit."""
    scratch.connection.set_character_set("utf8mb4")
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL, x {kind})")
    good = "2001-01-01" if kind == "datetime" else "5"
    values = [[key, value if key > 2 else good] for key in (1, 2, 3, 4)]
    scratch.run_many("INSERT INTO t VALUES (%s, '2001-01-01', %s)", values)
    before = everything(scratch, "t")
    url = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))["archive"]
    scratch.run(f"ALTER TABLE t {change}")
    report = perform(restore_scratch(location, url))
    assert (report["restored"], report["skipped"]) == (2, {"does_not_fit": 2})
    assert [row[0] for row in everything(scratch, "t")] == [row[0] for row in before[:2]]


# What a parameter can't do


@pytest.mark.parametrize(
    "path", ["", "None", "file:///elsewhere/policy_audit", "../x", "policy_audit/../../x"]
)
def test_a_folder_elsewhere_is_refused(perform, location, path):
    with pytest.raises(AirflowFailException, match="expected a folder below file://"):
        perform(restore(location, path))


def test_the_path_behind_the_location_will_do(iam, perform, location):
    fill(iam, 10)
    url = perform(purge(location))["archive"]
    assert perform(restore(location, url.removeprefix(location)))["restored"] == 10


def test_a_table_that_the_dag_file_does_not_name_is_refused(iam, perform, location):
    fill(iam, 10)
    url = perform(purge(location))["archive"]
    with pytest.raises(
        AirflowFailException, match="has rows of policy_audit; expected one of policy, secret"
    ):
        perform(restore(location, url, tables=["policy", "secret"]))


def test_without_a_location_nothing_is_restored(perform, monkeypatch, location, iam):
    with pytest.raises(AirflowFailException, match=r"\[iam_watcher\] archive is empty"):
        perform(restore(None, "x"))
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", location)
    with pytest.raises(AirflowFailException, match="has no manifest"):
        perform(restore(None, "x"))


# Another database


OF_SCRATCH = r"is of a run in the database 'scratch'; expected .* set from_database='scratch'"


@pytest.fixture
def copied(scratch, elsewhere):
    """A table with a row in `scratch`, and the same table without rows in `elsewhere`."""
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL)")
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01')")
    scratch.run(f"CREATE TABLE {elsewhere}.t LIKE t")
    return scratch


@pytest.mark.parametrize("options", [{}, {"from_database": "other"}, {"from_database": "elsewhere"}])
@pytest.mark.parametrize("dry_run", [True, False])
def test_an_archive_of_another_database_is_refused(copied, elsewhere, perform, location, options, dry_run):
    url = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))["archive"]
    options = {"mysql_conn_id": elsewhere, "dry_run": dry_run, **options}
    with pytest.raises(AirflowFailException, match=OF_SCRATCH):
        perform(restore(location, url, tables=["t"], **options))
    assert copied.value(f"SELECT COUNT(*) FROM {elsewhere}.t") == 0


def test_an_archive_of_a_database_that_is_named_comes_back(copied, elsewhere, perform, location):
    url = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))["archive"]
    options = {"mysql_conn_id": elsewhere, "from_database": "scratch"}
    assert perform(restore(location, url, tables=["t"], **options))["restored"] == 1
    assert copied.rows(f"SELECT id FROM {elsewhere}.t") == [(1,)]
    # The name is that of the archive's database, not a second one that will do.
    with pytest.raises(AirflowFailException, match="in the database 'scratch'; expected 'elsewhere'"):
        perform(restore_scratch(location, url, from_database="elsewhere"))
    assert copied.value("SELECT COUNT(*) FROM t") == 0


@pytest.mark.parametrize("rendered", [None, "", "None"])
def test_a_database_that_a_template_leaves_empty_is_not_given(copied, elsewhere, perform, location, rendered):
    url = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))["archive"]
    for connection in (elsewhere, "scratch"):
        operator = restore(
            location, url, tables=["t"], mysql_conn_id=connection, from_database="{{ params.database }}"
        )
        assert "from_database" in operator.template_fields
        operator.from_database = rendered
        if connection == "scratch":
            assert perform(operator)["restored"] == 1
            continue
        with pytest.raises(AirflowFailException, match=OF_SCRATCH):
            perform(operator)


def test_an_archive_that_does_not_name_its_database_comes_back(copied, elsewhere, perform, location):
    facts = {"kind": "rows", "table": "t", "key": "id", "now": "2026-01-01T00:00:00+00:00"}
    written = Archive(Folder(f"{location}/t/run"), {**facts, "columns": {"id": "int", "age": "date"}})
    written.add(Packed.of(1, [b'{"id": 7, "age": "2001-01-01"}\n']))
    written.close()
    for options in ({}, {"from_database": "scratch"}):
        copied.run(f"DELETE FROM {elsewhere}.t")
        operator = restore(location, "t/run", tables=["t"], mysql_conn_id=elsewhere, **options)
        assert perform(operator)["restored"] == 1


# After a crash


def test_the_archive_of_killed_tries_brings_everything_back(iam, perform, location):
    rows = 3000
    fill(iam, rows)
    before = everything(iam, "policy_audit")
    kill(location, "between archive and commit")
    for _ in range(4):
        kill(location, "any")
    perform(purge(location), TaskInstance("killed", try_number=9))
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 0
    report = perform(restore(location, run_url(location)))
    assert everything(iam, "policy_audit") == before
    assert report["complete"] is False
    assert report["rows"] == rows + report["skipped"]["exists"] > rows


def test_of_a_row_in_two_parts_the_newer_comes_back(iam, perform, location):
    fill(iam, 2500)
    kill(location, "between archive and commit")
    left = iam.column("SELECT id FROM policy_audit")
    iam.run("UPDATE policy_audit SET name = 'newer'")
    perform(purge(location), TaskInstance("killed", try_number=2))
    perform(restore(location, run_url(location)))
    assert set(iam.column("SELECT id FROM policy_audit WHERE name = 'newer'")) == set(left)


def test_a_restore_that_is_killed_goes_on_where_it_was(iam, perform, location, monkeypatch):
    fill(iam, 2500)
    url = perform(purge(location))["archive"]
    operator = restore(location, url)
    calls = iter(range(100))

    def killed():
        if next(calls) == 6:  # after a look at each 1,000 rows, one at the server, and two transactions
            raise KeyboardInterrupt

    monkeypatch.setattr(operator, "_safe_point", killed)
    ti = TaskInstance("stopped")
    with pytest.raises(KeyboardInterrupt):
        perform(operator, ti)
    there = iam.value("SELECT COUNT(*) FROM policy_audit")
    assert 0 < there < 2500
    report = ti.xcom["return_value"]
    assert (report["restored"], report["error"]) == (there, "KeyboardInterrupt: ")
    report = perform(restore(location, url))
    assert (report["restored"], report["skipped"]) == (2500 - there, {"exists": there})
    assert random.choice(iam.column("SELECT id FROM policy_audit")) % 3 == 0


# What the server makes of the rows


@pytest.mark.every_server
def test_rows_that_a_trigger_changes_are_noticed(scratch, perform, location, caplog):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL, x varchar(9), b blob)")
    scratch.run(
        "INSERT INTO t VALUES (1, '2001-01-01', 'a', 'a'), (2, '2001-01-01', 'new', ''),"
        " (3, '2001-01-01', NULL, NULL)"
    )
    url = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))["archive"]
    scratch.run("CREATE TRIGGER alters BEFORE INSERT ON t FOR EACH ROW SET NEW.x = 'new'")
    report = perform(restore_scratch(location, url))
    assert (report["restored"], report["skipped"], report["altered"]) == (3, {}, {"x": 2})
    assert "Restored rows of t differ from the archive" in caplog.text
    assert "x (2 rows)" in caplog.text
    scratch.run("DROP TRIGGER alters")
    scratch.run("DELETE FROM t")
    assert perform(restore_scratch(location, url))["altered"] == {}


@pytest.mark.parametrize("dry_run", [True, False])
def test_triggers_that_a_restore_runs_are_named_in_a_warning(scratch, perform, location, caplog, dry_run):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL)")
    scratch.run("CREATE TABLE line (id int PRIMARY KEY, t int REFERENCES t (id))")
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01')")
    scratch.run("INSERT INTO line VALUES (1, 1)")
    options = {"table": "t", "age_column": "age", "mysql_conn_id": "scratch", "children": "auto"}
    url = perform(purge(location, **options))["archive"]
    for table, name, event in (
        ("t", "logs", "AFTER INSERT"),
        ("line", "counts", "BEFORE INSERT"),
        ("line", "sums", "AFTER INSERT"),
        ("t", "other", "AFTER UPDATE"),
    ):
        scratch.run(f"CREATE TRIGGER {name} {event} ON {table} FOR EACH ROW SET @seen = NEW.id")
    perform(restore(location, url, tables=["t", "line"], mysql_conn_id="scratch", dry_run=dry_run))
    assert "An INSERT into t runs the trigger logs, which may change more than these rows" in caplog.text
    assert "An INSERT into line runs the triggers counts, sums, which may change" in caplog.text
    assert "other" not in caplog.text


@pytest.mark.every_server
def test_rows_that_a_trigger_refuses_are_counted(scratch, perform, location):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL)")
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01'), (2, '2001-01-01')")
    url = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))["archive"]
    scratch.run(
        "CREATE TRIGGER refuses BEFORE INSERT ON t FOR EACH ROW"
        " IF NEW.id = 2 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF"
    )
    report = perform(restore_scratch(location, url))
    assert (report["restored"], report["skipped"]) == (1, {"trigger": 1})


@pytest.mark.every_server
def test_a_row_that_is_longer_than_a_packet_comes_back(scratch, perform, location):
    """The driver writes two bytes for a zero, and a row may have several values of nearly a packet each."""
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL, a longblob, b longtext, c json)")
    packet = 1024 * 1024
    before = scratch.value("SELECT @@GLOBAL.max_allowed_packet")
    long_one = [b"\0'\\" * (packet // 3), "é" * (packet // 2 - 1), f'["{"x" * (packet - 100)}"]']
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01', _binary %s, NULL, NULL)", long_one[:1])
    scratch.run("UPDATE t SET b = %s", [long_one[1]])
    scratch.run("UPDATE t SET c = %s", [long_one[2]])
    scratch.run("INSERT INTO t (id, age, a) VALUES (2, '2001-01-01', ''), (3, '2001-01-01', 'short')")
    rows = "SELECT id, SHA2(a, 256), SHA2(b, 256), SHA2(c, 256) FROM t ORDER BY id"
    stored = scratch.rows(rows)
    try:
        scratch.run("SET GLOBAL max_allowed_packet = %s", [packet])
        report = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))
        assert report["changed"] == 3
        assert perform(restore_scratch(location, report["archive"]))["restored"] == 3
    finally:
        scratch.run("SET GLOBAL max_allowed_packet = %s", [before])
    assert scratch.rows(rows) == stored


def test_of_a_row_in_two_parts_of_one_try_the_newer_comes_back(scratch, perform, location):
    """A transaction that was tried again after its first part was stored has written both."""
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL, x varchar(9))")
    facts = {"kind": "rows", "table": "t", "key": "id", "now": "2026-01-01T00:00:00+00:00"}
    columns = {"id": "int", "age": "date", "x": "varchar"}
    written = Archive(Folder(f"{location}/t/run"), {**facts, "columns": columns})
    for x in ("old", "newer", "newest"):
        written.add(Packed.of(1, [b'{"id": 1, "age": "2001-01-01", "x": "%s"}\n' % x.encode()]))
    written.close()
    report = perform(restore_scratch(location, "t/run"))
    assert scratch.rows("SELECT id, x FROM t") == [(1, "newest")]
    assert (report["rows"], report["restored"], report["skipped"]) == (3, 1, {"exists": 2})


@pytest.mark.parametrize("took_place", [True, False])
def test_rows_whose_commit_got_no_answer_are_unconfirmed(iam, perform, location, monkeypatch, took_place):
    fill(iam, 5)
    url = perform(purge(location))["archive"]
    commit, lost = Transactions.commit, []

    def lose_the_answer(db):
        if not lost and inserted(db):
            lost.append(db)
            if took_place:
                commit(db)
            raise db.error(2013, "Lost connection")
        commit(db)

    def inserted(db):
        return db.read("SELECT COUNT(*) FROM policy_audit")[0][0] > 0

    monkeypatch.setattr(Transactions, "commit", lose_the_answer)
    report = perform(restore(location, url))
    assert lost
    assert (report["restored"], report["unconfirmed"]) == ((0, 5) if took_place else (5, 0))
    assert (report["skipped"], report["altered"]) == ({}, {})
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 5


# How hard it works


def test_a_polite_restore_rests_after_each_transaction(iam, perform, location, monkeypatch):
    fill(iam, 500)
    url = perform(purge(location))["archive"]
    sleeps = []
    monkeypatch.setattr(Transactions, "sleep", lambda _, seconds: sleeps.append(seconds))
    perform(restore(location, url))
    assert set(sleeps) == {0}
    sleeps.clear()
    iam.run("DELETE FROM policy_audit")
    clock = SimpleNamespace(monotonic=count(100.0).__next__)
    monkeypatch.setattr("iam_watcher.jobs.restore_rows.time", clock)
    perform(restore(location, url, pace="polite"))
    assert len(sleeps) > 1
    assert set(sleeps) == {1.0}


def test_a_restore_is_throttled(iam, perform, location):
    fill(iam, 10)
    url = perform(purge(location))["archive"]
    throttle = Throttle(max_threads_running=0, patience=timedelta(milliseconds=1))
    with pytest.raises(WalkError, match=r"policy_audit was throttled .* more than 0"):
        perform(restore(location, url, throttle=throttle))
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 0
    assert perform(restore(location, url, throttle=Throttle(max_threads_running=10_000)))["restored"] == 10
    with pytest.raises(JobArgumentError, match="pace is 'slow'; expected one of fast, polite"):
        restore(location, url, pace="slow")


def older(key):
    return key - 1 or None


def newer(key):
    return key + 1 if key < 100 else None


def across(key):
    return None if key == 50 else key - 1 if key > 50 else key + 1


@pytest.mark.parametrize("up", [older, newer, across])
def test_rows_that_refer_to_each_other_come_back_in_one_run(scratch, perform, location, monkeypatch, up):
    in_tens = partial(ChunkSize, rows=10)
    for module in ("walk.walk", "jobs.restore_rows"):
        monkeypatch.setattr(f"iam_watcher.{module}.ChunkSize", lambda _: in_tens(1e-9))
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL, up int NULL,"
        " FOREIGN KEY (up) REFERENCES t (id))"
    )
    scratch.run_many("INSERT INTO t VALUES (%s, '2001-01-01', NULL)", [[key] for key in range(1, 101)])
    scratch.run_many("UPDATE t SET up = %s WHERE id = %s", [(up(key), key) for key in range(1, 101)])
    before = everything(scratch, "t")
    purged = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))
    assert purged["changed"] == 100
    report = perform(restore_scratch(location, purged["archive"]))
    assert (report["restored"], report["skipped"]) == (100, {})
    assert everything(scratch, "t") == before
