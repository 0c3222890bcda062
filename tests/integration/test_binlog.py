"""Whatever the format of the binary log, the jobs work, and a replica gets the same rows."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException

from dev.databases import MySQL
from dev.servers import chosen_database
from iam_watcher.database.session import set_up
from iam_watcher.jobs.anonymize_rows import NOW, AnonymizeRowsOperator, Hashed
from iam_watcher.jobs.process_rows import ProcessRowsOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from tests.integration.conftest import Database, binlog_position, follow, numbers
from tests.integration.test_account_lifecycle import disable, enable, secret
from tests.integration.test_archive import YOUNG, fill, location, purge
from tests.integration.test_disable_users import LATELY, LONG_AGO, user
from tests.integration.test_session import isolation, setting

__all__ = ["location"]

UTC = "SET time_zone = '+00:00'"
FORMATS = {"STATEMENT": "REPEATABLE-READ", "MIXED": "READ-COMMITTED", "ROW": "READ-COMMITTED"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folders, kind = [tmp_path_factory.mktemp(name) for name in ("source", "replica")], chosen_database()
    with (
        kind(folders[0], ["--log-bin=binlog", "--server-id=1", "--default-time-zone=-05:00"]) as source,
        kind(folders[1], ["--server-id=2", "--default-time-zone=+08:00"]) as replica,
    ):
        follow(replica, source)
        with closing(replica.connect("")) as connection:
            Database(connection).run("START REPLICA")
            yield source, replica
            Database(connection).run("STOP REPLICA")


@pytest.fixture(params=FORMATS)
def source(servers, request, monkeypatch):
    """The database of the first server, where the jobs work; what is said here is logged as rows."""
    server, _ = servers
    monkeypatch.setenv("AIRFLOW_CONN_IAM_MYSQL", server.airflow_uri)
    server.create_schema()
    with closing(server.connect(init_command=f"{UTC}, binlog_format = 'ROW'")) as connection:
        source = Database(connection)
        source.run("SET GLOBAL binlog_format = %s", [request.param])
        yield source


@pytest.fixture
def rows(servers, source):
    """A function that returns all rows; the replica has the same, and not by luck."""
    first, second = servers
    wait = "SOURCE_POS_WAIT" if isinstance(first, MySQL) else "MASTER_POS_WAIT"
    log = first.process.log
    until_now = log.stat().st_size
    with closing(second.connect("", init_command=UTC)) as connection:
        replica = Database(connection)

        def rows():
            assert replica.value(f"SELECT {wait}(%s, %s, 30)", binlog_position(first)) >= 0
            queries = [
                f"SELECT * FROM iam.{table} ORDER BY id" for table in ("user", "policy_audit", "secret")
            ]
            found = [source.rows(query) for query in queries]
            assert [replica.rows(query) for query in queries] == found
            if not isinstance(first, MySQL):  # which takes each write to a table with AUTO_INCREMENT for one
                assert b"Unsafe statement" not in log.read_bytes()[until_now:]
            return found

        yield rows


def test_the_session_keeps_to_what_the_format_can_take(servers, source):
    with closing(servers[0].connect()) as connection:
        set_up(connection)
        assert isolation(connection) == FORMATS[setting(connection, "binlog_format")]


def test_a_purge_and_its_restore(source, rows, perform, location):
    young = f"SELECT seq * 3 + 1, 'young', 'u', {YOUNG} FROM {numbers(300)}"
    source.run(f"INSERT INTO policy_audit (id, name, username, deletedAt) {young}")
    left = rows()
    fill(source, 300)
    assert perform(purge(None, archive=None))["changed"] == 300
    assert rows() == left
    fill(source, 300)
    before = rows()
    report = perform(purge(location))
    assert report["changed"] == 300
    assert rows() == left
    perform(
        RestoreRowsOperator(
            task_id="restore", location=location, path=report["archive"], tables=["policy_audit"]
        )
    )
    assert rows() == before


@pytest.mark.usefixtures("redis_client")
def test_a_run_that_disables_users_and_its_undo(source, rows, perform, tmp_path):
    reports = f"file://{tmp_path}/reports"
    for name, logined in (("one", LONG_AGO), ("two", LONG_AGO), ("active", LATELY)):
        user(source, name, logined=logined)
        secret(source, name, name, 0)
    before = rows()
    report = perform(disable(reports, on_disable="expire_secrets"))
    assert (report["changed"], report["also"]) == (2, {"secrets_expired": 2})
    assert rows() != before
    assert perform(enable(reports, report["undo_record"]))["enabled"] == 2
    _, _, secrets = rows()
    assert [s[6] for s in secrets] == [0, 0, 0]


def test_rows_are_not_claimed_where_statements_are_logged(servers, source, monkeypatch, perform):
    """A replica would skip other rows: SKIP LOCKED is not safe there."""
    monkeypatch.setenv("AIRFLOW_CONN_ORDERS", servers[0].airflow_admin_uri)
    source.run(
        "CREATE TABLE orders (id INT PRIMARY KEY, status VARCHAR(9) NOT NULL DEFAULT 'pending', KEY (status))"
    )
    source.run("INSERT INTO orders (id) VALUES (1)")
    states = {"state_column": "status", "claim": "pending", "done": "normal", "failed": "failed"}
    job = ProcessRowsOperator(
        task_id="process", mysql_conn_id="orders", table="orders", python_callable=lambda row: None, **states
    )
    if source.value("SELECT @@GLOBAL.binlog_format") == "STATEMENT":
        with pytest.raises(AirflowFailException, match="binlog_format is STATEMENT"):
            perform(job)
    else:
        perform(job)
    left = source.value("SELECT COUNT(*) FROM orders WHERE status = 'pending'")
    assert left == (source.value("SELECT @@GLOBAL.binlog_format") == "STATEMENT")


def test_the_key_of_hashes_is_not_in_the_binary_log(servers, source, monkeypatch, perform):
    """MariaDB logs the text of each UPDATE beside the rows, and MySQL can."""
    server, _ = servers
    monkeypatch.setenv("AIRFLOW_CONN_PEOPLE", server.airflow_admin_uri)
    form = source.value("SELECT @@GLOBAL.binlog_format")
    key = f"the-key-with-{form}"
    monkeypatch.setenv("AIRFLOW_CONN_HASHES", json.dumps({"conn_type": "generic", "password": key}))
    if isinstance(server, MySQL):
        source.run("SET GLOBAL binlog_rows_query_log_events = 1")
    source.run("CREATE TABLE people (id INT PRIMARY KEY, name VARCHAR(64), left_at DATETIME, done DATETIME)")
    source.run("INSERT INTO people VALUES (1, 'Ann', '2020-01-01', NULL)")
    new_values = {"name": Hashed(key_conn_id="hashes"), "done": NOW}
    job = AnonymizeRowsOperator(
        task_id="t",
        mysql_conn_id="people",
        table="people",
        age_column="left_at",
        older_than="90d",
        set=new_values,
    )
    if form == "STATEMENT":
        with pytest.raises(AirflowFailException, match="binlog_format is STATEMENT: the key"):
            perform(job)
    else:
        assert perform(job)["changed"] == 1
    assert (source.value("SELECT name FROM people") == "Ann") is (form == "STATEMENT")
    logs = Path(source.value("SELECT @@log_bin_basename"))
    written = b"".join(file.read_bytes() for file in logs.parent.glob(f"{logs.name}.0*"))
    assert b"people" in written
    assert key.encode() not in written
