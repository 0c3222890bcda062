"""Rows that are archived before they are deleted: all of them, as they were, durable before the commit.

The order of archive and commit is one promise, and each way to break it is a test: hence the length.
"""

from __future__ import annotations

import gzip
import json
import stat
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException
from fsspec.implementations.memory import MemoryFileSystem
from MySQLdb import OperationalError

from iam_watcher.archive import reader as archive_reader
from iam_watcher.archive.location import run_folder
from iam_watcher.archive.storage import Folder
from iam_watcher.errors import ArchiveError
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk.pace import Pace
from iam_watcher.walk.walk import Walk
from iam_watcher.walk.writer import Writer
from tests.integration.conftest import TaskInstance, numbers

OLD = "UTC_TIMESTAMP() - INTERVAL 365 DAY"
YOUNG = "UTC_TIMESTAMP()"
UNHURRIED = Pace(target=0.002, duty=0.5)


def purge(location, **options):
    return PurgeRowsOperator(
        **{
            "task_id": "purge",
            "table": "policy_audit",
            "age_column": "deletedAt",
            "older_than_days": 180,
            "archive": str(location),
            **options,
        }
    )


def fill(iam, rows, age=OLD):
    iam.run(
        "INSERT INTO policy_audit (id, instanceID, name, username, policyShadow, deletedAt)"
        f" SELECT seq * 3, CONCAT('i-', seq), 'n', 'u', '{{}}', {age} FROM {numbers(rows)}"
    )


def kept(url, kind="rows"):
    """Return the archived rows by key; of a row in two parts the newer."""
    rows = {}
    for written in archive_reader.find(url, kind=kind):
        for row in written.rows():
            rows.setdefault(row["id"], row)
    return rows


@pytest.fixture
def location(tmp_path):
    """A folder."""
    return f"file://{tmp_path}/archive"


@pytest.fixture
def object_store():
    """An object store in memory."""
    from airflow.sdk.io.store import attach

    store = MemoryFileSystem()
    attach("memory", fs=store)
    yield "memory://bucket/iam"
    store.rm("/", recursive=True)


def test_deleted_rows_are_in_the_archive_and_no_others(iam, perform, location):
    fill(iam, 2500)
    iam.run(f"INSERT INTO policy_audit (id, name, username, deletedAt) VALUES (4, 'young', 'u', {YOUNG})")
    report = perform(purge(location))
    assert report["changed"] == 2500
    rows = kept(report["archive"])
    assert sorted(rows) == [3 * number for number in range(1, 2501)]
    assert rows[3]["instanceID"] == "i-1"
    assert rows[3]["extendShadow"] is None


def test_the_manifest_says_what_this_is(iam, perform, location):
    fill(iam, 10)
    report = perform(purge(location), TaskInstance("manual__2026-01-01T00:00:00+00:00"))
    assert report["archive"].startswith(f"{location}/policy_audit/dag/manual__2026-01-01T00_00_00_00_00-")
    (folder,) = Path(report["archive"].removeprefix("file://")).iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    complete = json.loads((folder / "complete.json").read_text())
    (part,) = complete["parts"]
    data = (folder / part["name"]).read_bytes()
    assert len(data) == part["bytes"]
    assert len(gzip.decompress(data).splitlines()) == part["rows"] == complete["rows"] == 10
    expected = {
        "format": 2,
        "kind": "rows",
        "table": "policy_audit",
        "key": "id",
        "redacted": [],
        "cut_off": report["cut_off"],
        "run_id": "manual__2026-01-01T00:00:00+00:00",
        "try_number": 1,
    }
    assert {name: manifest[name] for name in expected} == expected
    assert manifest["columns"]["deletedAt"] == "timestamp"


def test_files_are_for_their_owner_only(iam, perform, location):
    fill(iam, 10)
    report = perform(purge(location))
    top = Path(location.removeprefix("file://"))
    for path in [top, *top.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert len(list(Path(report["archive"].removeprefix("file://")).rglob("*.*"))) == 3


def test_an_object_store_will_do(iam, perform, object_store):
    fill(iam, 1500)
    report = perform(purge(object_store))
    assert len(kept(report["archive"])) == 1500


def test_a_run_without_old_rows_leaves_nothing(iam, perform, location):
    fill(iam, 10, age=YOUNG)
    assert perform(purge(location))["archive"] is None
    assert not Path(location.removeprefix("file://")).exists()


def test_a_dry_run_archives_nothing(iam, perform, location):
    fill(iam, 10)
    assert perform(purge(location, dry_run=True))["archive"] is None
    assert [path.name for path in Path(location.removeprefix("file://")).iterdir()] == ["dry-runs"]


def test_secret_columns_are_left_out(iam, perform, location):
    iam.run("INSERT INTO user (name, nickname, password, email) VALUES ('u', 'u', '', '')")
    iam.run(
        "INSERT INTO secret (name, username, secretID, secretKey, expires)"
        " VALUES ('s', 'u', 'id', 'not-a-secret', 1534308590)"
    )
    options = {"table": "secret", "age_column": "expires", "age_unit": "unix_seconds"}
    report = perform(purge(location, **options))
    (row,) = kept(report["archive"]).values()
    assert row["secretID"] == "id"
    assert "secretKey" not in row
    (written,) = archive_reader.find(report["archive"], kind="rows")
    assert written.manifest["redacted"] == ["secretKey"]
    files = [path for path in Path(location.removeprefix("file://")).rglob("*") if path.is_file()]
    assert {".gz", ".json"} <= {path.suffix for path in files}
    for path in files:
        content = path.read_bytes()
        assert b"not-a-secret" not in (gzip.decompress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("x varchar(9) NOT NULL", True),
        ("x varchar(9) NOT NULL DEFAULT ''", False),
        ("x varchar(9) NULL", False),
        ("x int AS (id + 1) STORED", False),
    ],
)
def test_an_archive_that_cannot_be_restored_is_said_to_be_one(
    scratch, perform, location, caplog, column, said, dry_run
):
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL, {column})")
    options = {"table": "t", "age_column": "age", "mysql_conn_id": "scratch", "dry_run": dry_run}
    perform(purge(location, **options, redact=["X"]))
    assert ("can't be restored: redact leaves out x" in caplog.text) is said
    caplog.clear()
    perform(purge(location, **options, redact=[]))
    perform(purge(None, **options, redact=["X"], archive=None))
    assert "can't be restored: redact" not in caplog.text


@pytest.mark.every_server
@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("column", "refused_by"),
    [
        ("x varchar(9) NOT NULL DEFAULT '', UNIQUE by_x (age, x)", "unique key by_x"),
        ("x varchar(9) NULL DEFAULT 'a', UNIQUE by_x (x)", "unique key by_x"),
        ("x int NOT NULL DEFAULT 0, FOREIGN KEY (x) REFERENCES other (id)", "foreign key to other"),
        ("x int NOT NULL DEFAULT 0, CONSTRAINT not_0 CHECK (x > 0)", "CHECK not_0"),
        ("x int NOT NULL DEFAULT 0, UNIQUE by_x (x), CONSTRAINT c CHECK (x < 9)", "unique key by_x, CHECK c"),
        ("x int NOT NULL DEFAULT 0, y int NOT NULL DEFAULT 0, CHECK (y >= 0), UNIQUE (y)", None),
        ("x int NULL, UNIQUE (x), FOREIGN KEY (x) REFERENCES other (id), CHECK (x > 0)", None),
        ("x int NOT NULL AUTO_INCREMENT UNIQUE", None),
        ("x int NOT NULL DEFAULT 0, KEY (x)", None),
    ],
)
def test_a_default_that_a_constraint_can_refuse_is_said(
    scratch, perform, location, caplog, column, refused_by, dry_run
):
    scratch.run("CREATE TABLE other (id int PRIMARY KEY)")
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL, {column})")
    options = {"table": "t", "age_column": "age", "mysql_conn_id": "scratch", "dry_run": dry_run}
    perform(purge(location, **options, redact=["X"]))
    said = f"A restore of t can skip rows: redact leaves out x ({refused_by})"
    assert (said in caplog.text) is ("A restore of t" in caplog.text) is (refused_by is not None)
    caplog.clear()
    perform(purge(location, **options, redact=[]))
    perform(purge(None, **options, redact=["X"], archive=None))
    assert "can skip rows" not in caplog.text


def test_the_check_that_mariadb_adds_to_json_is_none_that_a_default_breaks(
    scratch, perform, location, caplog
):
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL, doc json NOT NULL DEFAULT ('{}'))"
    )
    perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch", redact=["doc"]))
    assert "can skip rows" not in caplog.text


@pytest.mark.every_server
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_the_server_does_besides_is_said(scratch, perform, location, caplog, dry_run):
    options = {"table": "t", "age_column": "age", "mysql_conn_id": "scratch", "dry_run": dry_run}
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL)")
    scratch.run("CREATE TABLE a (id int PRIMARY KEY, t int, FOREIGN KEY (t) REFERENCES t (id))")
    perform(purge(location, **options))
    assert "changes more than these rows" not in caplog.text
    for name, rule in {"b": "CASCADE", "c": "SET NULL"}.items():
        reference = f"FOREIGN KEY (t) REFERENCES t (id) ON DELETE {rule}"
        scratch.run(f"CREATE TABLE {name} (id int PRIMARY KEY, t int, {reference})")
    scratch.run("CREATE TRIGGER besides AFTER DELETE ON t FOR EACH ROW SET @besides = OLD.id")
    scratch.run("CREATE TRIGGER another BEFORE INSERT ON t FOR EACH ROW SET @another = NEW.id")
    perform(purge(location, **options))
    expected = "ON DELETE CASCADE of scratch.b (t), ON DELETE SET NULL of scratch.c (t), trigger besides"
    assert f"The job neither counts nor archives it: {expected}\n" in caplog.text


@pytest.mark.every_server
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_a_cascade_deletes_or_changes_in_turn_is_said(scratch, perform, location, caplog, dry_run):
    options = {"table": "t", "age_column": "age", "mysql_conn_id": "scratch", "dry_run": dry_run}
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL)")
    for name, to, rule in (
        ("b", "t", "CASCADE"),
        ("c", "b", "CASCADE"),
        ("d", "c", "SET NULL"),
        ("e", "d", "CASCADE"),  # of rows that stay
        ("f", "c", "RESTRICT"),
    ):
        scratch.run(
            f"CREATE TABLE {name} (id int PRIMARY KEY, {to} int,"
            f" FOREIGN KEY ({to}) REFERENCES {to} (id) ON DELETE {rule})"
        )
    # Two circles.
    scratch.run("ALTER TABLE b ADD c int, ADD FOREIGN KEY (c) REFERENCES c (id) ON DELETE CASCADE")
    scratch.run("ALTER TABLE c ADD up int, ADD FOREIGN KEY (up) REFERENCES c (id) ON DELETE CASCADE")
    perform(purge(location, **options))
    expected = (
        "ON DELETE CASCADE of scratch.b (t), ON DELETE CASCADE of scratch.c (b), ON DELETE CASCADE of"
        " scratch.b (c), ON DELETE CASCADE of scratch.c (up), ON DELETE SET NULL of scratch.d (c)"
    )
    assert f"The job neither counts nor archives it: {expected}\n" in caplog.text


@pytest.mark.every_server
def test_what_a_cascade_into_another_database_deletes_in_turn_is_said(
    scratch, perform, location, caplog, elsewhere
):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL)")
    try:
        for name, to in (("b", "scratch.t"), ("c", "b")):
            scratch.run(
                f"CREATE TABLE {elsewhere}.{name} (id int PRIMARY KEY,"
                f" FOREIGN KEY (id) REFERENCES {to} (id) ON DELETE CASCADE)"
            )
        perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch", dry_run=True))
    finally:
        scratch.run(f"DROP TABLE IF EXISTS {elsewhere}.c, {elsewhere}.b")
    expected = "ON DELETE CASCADE of elsewhere.b (id), ON DELETE CASCADE of elsewhere.c (id)\n"
    assert expected in caplog.text


def test_columns_to_leave_out_can_be_chosen(iam, perform, location, caplog):
    fill(iam, 1)
    (row,) = kept(perform(purge(location, redact=["POLICYSHADOW", "absent"]))["archive"]).values()
    assert "policyShadow" not in row
    assert "redact names absent, and policy_audit has no such column" in caplog.text
    fill(iam, 1)
    with pytest.raises(AirflowFailException, match="redact names 'id', of the key of policy_audit"):
        perform(purge(location, redact=["id"]))
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 1


def test_a_column_that_cannot_be_kept_is_refused_before_the_first_write(scratch, perform, location):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL, place point NULL)")
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01', NULL)")
    options = {"table": "t", "age_column": "age", "mysql_conn_id": "scratch"}
    for dry_run in (True, False):
        with pytest.raises(AirflowFailException, match="column 'place' of t is point"):
            perform(purge(location, **options, dry_run=dry_run))
    assert perform(purge(location, **options, redact=["place"]))["changed"] == 1


def test_a_column_that_the_account_may_not_read_is_no_column_that_is_left_out(
    iam, mariadb, perform, location
):
    """The server's catalogue does not even name it."""
    iam.run("CREATE TABLE hidden (id int PRIMARY KEY, age timestamp NOT NULL, text varchar(9) NULL)")
    iam.run("INSERT INTO hidden VALUES (1, '2001-01-01', 'text')")
    iam.run(f"GRANT SELECT (id, age), DELETE ON iam.hidden TO {mariadb.user}")
    with pytest.raises(AirflowFailException, match="SELECT on `hidden`, all columns"):
        perform(purge(location, table="hidden", age_column="age"))
    assert iam.value("SELECT COUNT(*) FROM hidden") == 1
    assert perform(purge(None, table="hidden", age_column="age", archive=None))["changed"] == 1


@pytest.mark.every_server
def test_an_invisible_column_that_the_account_may_not_read_is_none_that_is_left_out(
    scratch, clerk, perform, location
):
    """SELECT * does not name it."""
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL, `te``xt %` varchar(9) INVISIBLE)"
    )
    scratch.run("INSERT INTO t (id, age, `te``xt %`) VALUES (1, '2001-01-01', 'text')")
    scratch.run(f"GRANT SELECT (id, age), DELETE ON t TO {clerk}@'%'")
    options = {"table": "t", "age_column": "age", "mysql_conn_id": clerk}
    with pytest.raises(AirflowFailException, match=r"SELECT on `t`, all columns|may not read te`xt %"):
        perform(purge(location, **options))
    assert scratch.value("SELECT COUNT(*) FROM t") == 1
    scratch.run(f"GRANT SELECT (`te``xt %`) ON t TO {clerk}@'%'")
    assert kept(perform(purge(location, **options))["archive"])[1]["te`xt %"] == "text"


@pytest.fixture
def small_packets(scratch):
    """A server that gives and takes no value of 2 kB."""
    before = scratch.value("SELECT @@GLOBAL.max_allowed_packet")
    scratch.run("SET GLOBAL max_allowed_packet = 2048")
    yield
    scratch.run("SET GLOBAL max_allowed_packet = %s", [before])


@pytest.mark.every_server
def test_a_value_that_the_server_would_not_take_again_stays(
    scratch, perform, location, small_packets, caplog
):
    """The server would give NULL in place of it or, of JSON on MySQL, an empty text."""
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL, v varchar(3000), b longblob, doc json)"
    )
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01', 'kept', 'kept', '[1]')")
    scratch.run("INSERT INTO t (id, age, v) VALUES (2, '2001-01-01', REPEAT('x', 2048))")
    scratch.run("INSERT INTO t (id, age, b) VALUES (3, '2001-01-01', REPEAT('x', 2500))")
    scratch.run(
        "INSERT INTO t (id, age, doc)"
        " VALUES (4, '2001-01-01', JSON_ARRAY(REPEAT('x', 1200), REPEAT('x', 1200)))"
    )
    report = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))
    assert (report["changed"], report["skipped"]) == (1, {"archive_too_large": 3})
    assert scratch.column("SELECT id FROM t ORDER BY id") == [2, 3, 4]
    assert "v has values of max_allowed_packet or more" in caplog.text


@pytest.mark.needs("typed-json")
@pytest.mark.every_server
def test_json_with_values_of_sql_types_stays(scratch, perform, location):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL, doc json)")
    for number, value in enumerate(
        (
            "CAST(1.5 AS JSON)",
            "JSON_OBJECT('a', 1.10)",
            "JSON_ARRAY(JSON_OBJECT('a', JSON_ARRAY(CAST('2001-01-01' AS DATE))))",
            "JSON_ARRAY(NOW(6))",
            "JSON_OBJECT('a', CAST('x' AS BINARY))",
        )
    ):
        scratch.run(f"INSERT INTO t VALUES ({number}, '2001-01-01', {value})")
    scratch.run("""INSERT INTO t VALUES (9, '2001-01-01', '{"a": [1, 1.5, "1.10", null, true, {}]}')""")
    scratch.run("INSERT INTO t VALUES (10, '2001-01-01', JSON_ARRAY(CAST(5 AS UNSIGNED)))")
    report = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))
    assert (report["changed"], report["skipped"]) == (2, {"archive_json_type": 5})
    assert scratch.column("SELECT id FROM t ORDER BY id") == [0, 1, 2, 3, 4]


@pytest.mark.needs("check-off")
@pytest.mark.parametrize("account", ["scratch", "clerk"])
def test_a_row_that_breaks_a_check_stays(scratch, clerk, perform, location, account):
    """MariaDB's sessions can switch the checks off; the restore would be refused."""
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL, doc json,"
        " n int CHECK (n <> 5 AND CONCAT(n, '%') LIKE '1%'))"
    )
    scratch.run("SET check_constraint_checks = 0")
    scratch.run("INSERT INTO t VALUES (1, '2001-01-01', '{', 1), (2, '2001-01-01', '{}', 5)")
    scratch.run("INSERT INTO t VALUES (3, '2001-01-01', '{}', 1), (4, '2001-01-01', NULL, NULL)")
    scratch.run(f"GRANT SELECT, DELETE ON t TO {clerk}@'%'")
    report = perform(purge(location, table="t", age_column="age", mysql_conn_id=account))
    assert report["skipped"] == {"archive_check": 2}
    assert scratch.column("SELECT id FROM t ORDER BY id") == [1, 2]


def test_two_deployments_have_two_folders(monkeypatch, location):
    """They may share a bucket, and have runs of the same name."""
    folders = set()
    for deployment in ("one", "two"):
        monkeypatch.setenv("AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID", deployment)
        folders.add(run_folder(location, "t", {"ti": TaskInstance("run")}).url)
    assert len(folders) == 2


def test_a_protected_row_is_not_in_the_archive(scratch, perform, location):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL)")
    scratch.run("CREATE TABLE child (id int PRIMARY KEY REFERENCES t (id))")
    scratch.run(f"INSERT INTO t SELECT seq, '2001-01-01' FROM {numbers(50)}")
    scratch.run("INSERT INTO child VALUES (7), (8), (50)")
    report = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))
    assert report["skipped"] == {"foreign_key": 3}
    assert set(range(1, 51)) - set(kept(report["archive"])) == {7, 8, 50}
    assert scratch.column("SELECT id FROM t ORDER BY id") == [7, 8, 50]


def test_a_row_that_comes_between_lock_and_delete_stays(iam, mariadb, perform, location, monkeypatch):
    """The range of keys is dense enough to be deleted as a range; but that row is not in the archive."""
    fill(iam, 100)
    change = Writer._change_keys

    def late_row_first(writer, keys, **options):
        if not iam.rows("SELECT 1 FROM policy_audit WHERE id = 4"):
            iam.run(f"INSERT INTO policy_audit (id, name, username, deletedAt) VALUES (4, 'l', 'u', {OLD})")
        return change(writer, keys, **options)

    monkeypatch.setattr(Writer, "_change_keys", late_row_first)
    report = perform(purge(location))
    assert iam.column("SELECT id FROM policy_audit") == [4]
    assert 4 not in kept(report["archive"])


def test_a_row_can_not_change_between_its_archive_and_its_deletion(iam, perform, location, monkeypatch):
    fill(iam, 100)
    change, refused = Writer._change_keys, []

    def others_first(writer, keys, **options):
        if not refused:
            iam.run("SET innodb_lock_wait_timeout = 1")
            with pytest.raises(OperationalError, match="Lock wait timeout") as error:
                iam.run("UPDATE policy_audit SET name = 'newer' WHERE id = 30")
            refused.append(error)
        return change(writer, keys, **options)

    monkeypatch.setattr(Writer, "_change_keys", others_first)
    assert perform(purge(location))["changed"] == 100
    assert refused


def test_a_row_that_changes_before_the_lock_is_left(iam, perform, location, monkeypatch):
    fill(iam, 100)
    write = Walk._write

    def touch_first(walk, *arguments):
        iam.run(f"UPDATE policy_audit SET deletedAt = {YOUNG} WHERE id = 30")
        return write(walk, *arguments)

    monkeypatch.setattr(Walk, "_write", touch_first)
    report = perform(purge(location))
    assert report["skipped"] == {"changed_meanwhile": 1}
    assert 30 not in kept(report["archive"])
    assert iam.column("SELECT id FROM policy_audit") == [30]


def test_an_archive_that_cannot_be_written_keeps_the_rows(iam, perform, tmp_path):
    fill(iam, 100)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match=r"can't write file://.*manifest\.json"):
        perform(purge(f"file://{tmp_path}/file/archive"))
    with pytest.raises(ArchiveError, match="nosuch"):
        perform(purge("nosuch://bucket/archive"))
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 100


def test_a_disk_that_fills_in_mid_run_keeps_the_rows_that_are_not_written(
    iam, perform, location, monkeypatch
):
    fill(iam, 3000)
    write = Folder.write

    def until_full(folder, name, data):
        if name.startswith("part-000002"):
            raise ArchiveError("No space left on device")
        write(folder, name, data)

    monkeypatch.setattr(Folder, "write", until_full)
    ti = TaskInstance("run")
    with pytest.raises(ArchiveError, match="No space left"):
        perform(purge(location), ti)
    report = ti.xcom["return_value"]
    left = set(iam.column("SELECT id FROM policy_audit"))
    assert 0 < report["changed"] == 3000 - len(left)
    monkeypatch.undo()
    perform(purge(location), TaskInstance("run", try_number=2))
    rows = kept(report["archive"])
    assert sorted(rows) == [3 * number for number in range(1, 3001)]
