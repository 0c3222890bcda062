"""`python -m iam_watcher.doctor` on real servers: each check is broken once, and a good deployment passes.

Each check breaks a deployment that is made in the same way: hence the length.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta

import pytest
import time_machine
from airflow import plugins_manager

from dev.airflow import ROOT
from dev.processes import free_port
from iam_watcher.database import rights
from iam_watcher.timetables import TIMETABLES
from tests.integration.doctor.conftest import SECRET, WATCHER

ROWS = (ROOT / "dags" / "provision_users.py").read_text()


@pytest.mark.every_server
def test_a_good_deployment(examine, dags, tmp_path):
    (dags / "provision.py").write_text(ROWS)
    status, printed = examine()
    assert (status, "WRONG" in printed) == (0, False), printed
    assert printed.endswith("Nothing is wrong\n")
    for name in (
        "deployment",
        "options",
        "plugin",
        "watcher files",
        "Redis iam_redis",
        "database iam_mysql",
        "archive",
    ):
        assert f"{name}: good" in printed
    (mark,) = (tmp_path / "archive").iterdir()  # for the other machines
    assert (mark.name.startswith("doctor-"), mark.read_bytes()) == (True, b"")


def test_the_watchers_of_iam_in_a_process_of_its_own(examine, monkeypatch):
    folder = {"name": "dags-folder", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = json.dumps([folder | {"kwargs": {"path": str(ROOT / "dags")}}])
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", bundles)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "plugins"))
    command = [sys.executable, "-m", "iam_watcher.doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "database iam_mysql: good" in done.stdout) == (0, True), done


def test_a_misspelt_option(examine, monkeypatch):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIV", f"s3://{SECRET}@bucket")
    status, printed = examine()
    assert status == 1
    assert "options: WRONG: The variable AIRFLOW__IAM_WATCHER__ARCHIV is not known" in printed
    assert "Write AIRFLOW__IAM_WATCHER__ARCHIVE instead" in printed


def test_no_deployment_id(examine, monkeypatch):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID", "")
    status, printed = examine()
    assert status == 1
    assert "deployment: WRONG: The deployment" in printed
    assert "Set AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID" in printed


def test_a_secret_in_place_of_the_deployment_id_is_not_shown(examine, monkeypatch):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID", f"redis://:{SECRET}@host")
    assert examine()[0] == 1


def test_the_settings_file_is_not_there(examine, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__SETTINGS_FILE", str(tmp_path / "absent.yaml"))
    status, printed = examine()
    assert status == 1
    assert "settings file: WRONG" in printed
    assert f"{tmp_path}/absent.yaml" in printed


@pytest.mark.parametrize(
    ("more", "seconds", "said"),
    [
        ("", "600", "no execution_timeout: clean.purge. Set"),
        (", execution_timeout=timedelta(hours=30)", "90000", "The task clean.purge may run for 108000 s"),
        ("", "a day", "expected seconds"),
    ],
)
def test_a_short_visibility_timeout(examine, monkeypatch, dags, more, seconds, said):
    (dags / "clean.py").write_text("from datetime import timedelta\n" + WATCHER.format(more=more))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW__CELERY__BROKER_URL", f"redis://:{SECRET}@127.0.0.1:1/0")
    name = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"
    monkeypatch.setenv(name, "200000")
    assert examine()[0] == 0
    monkeypatch.setenv(name, seconds)
    status, printed = examine()
    assert status == 1
    assert said in printed


def test_the_plugin_has_an_error(examine, monkeypatch):
    error = {"iam_watcher_plugin.py": "no module named redis"}
    monkeypatch.setattr(plugins_manager, "get_import_errors", lambda: error)
    status, printed = examine()
    assert (status, printed.count("plugin: WRONG")) == (1, 1)
    assert "from iam_watcher_plugin.py: no module named redis. Correct that, then restart all" in printed


def test_the_plugin_is_not_in_the_plugins_folder(examine, monkeypatch, tmp_path):
    monkeypatch.setattr(plugins_manager, "get_timetables_plugins", dict)
    status, printed = examine()
    assert status == 1
    assert printed.count("plugin: WRONG: Airflow does not know the timetable") == len(TIMETABLES)


def break_appendonly(client):
    client.config_set("appendonly", "no")


def break_policy(client):
    client.config_set("maxmemory-policy", "allkeys-lru")


def break_memory(client):
    client.config_set("maxmemory", str(client.info("memory")["used_memory"] + 10_000))


def break_role(client):
    client.replicaof("127.0.0.1", "1")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (break_appendonly, "has no append-only file (appendonly is off)"),
        (break_policy, "maxmemory-policy is allkeys-lru"),
        (break_memory, "Raise maxmemory"),
        (break_role, "is a replica"),
    ],
)
def test_a_redis_that_may_lose_locks(examine, admin, broken, said):
    assert examine()[0] == 0
    broken(admin)
    status, printed = examine()
    assert status == 1
    assert "Redis iam_redis: WRONG" in printed
    assert said in printed


def test_a_redis_that_does_not_answer(examine, monkeypatch):
    port = free_port()
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"redis://:{SECRET}@127.0.0.1:{port}/?db=0")
    status, printed = examine()
    assert status == 1
    assert f"127.0.0.1:{port} did not answer" in printed
    assert "database iam_mysql: good" in printed


def test_an_account_that_may_not_run_info(examine, admin, redis, monkeypatch):
    admin.execute_command("ACL", "SETUSER", "little", "on", f">{SECRET}", "~*", "+time", "+ping", "+set")
    uri = f"redis://little:{SECRET}@{redis.host}:{redis.port}/?db=0"
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", uri)
    monkeypatch.setenv("AIRFLOW_CONN_ADMIN_REDIS", redis.airflow_uri)
    status, printed = examine()
    assert (status, "NOT CHECKED" in printed, "0 wrong, 1 not checked" in printed) == (0, True, True)
    assert "Redis admin_redis: good" in examine("--redis-conn-id", "admin_redis")[1]


@pytest.mark.parametrize("name", ["iam_redis", "iam_mysql"])
def test_a_connection_is_missing(examine, monkeypatch, name):
    monkeypatch.delenv(f"AIRFLOW_CONN_{name.upper()}")
    status, printed = examine()
    assert status == 1
    assert "is not defined" in printed
    assert repr(name) in printed


@pytest.mark.parametrize("hours", [-1, 1])
def test_this_machines_clock_is_wrong(examine, hours):
    from datetime import UTC, datetime

    with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours)):
        status, printed = examine()
    assert status == 1
    side = "behind" if hours > 0 else "ahead of"
    assert printed.count(f"s {side} the clock of this machine") == 2


@pytest.mark.every_server
def test_the_databases_clock_is_wrong(examine, iam):
    iam.run("SET GLOBAL init_connect = 'SET timestamp = 1000000000'")
    try:
        status, printed = examine()
    finally:
        iam.run("SET GLOBAL init_connect = ''")
    assert status == 1
    assert "The clock of the database of 'iam_mysql' is" in printed
    assert "Redis iam_redis: good" in printed


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("revoked", "said"),
    [
        ("DELETE ON iam.secret", "Grant the right DELETE on the table"),
        ("UPDATE ON iam.user_provisioning", "Grant the right UPDATE (status) on the table"),
    ],
)
def test_a_grant_is_missing(examine, dags, iam, revoked, said):
    (dags / "provision.py").write_text(ROWS)
    assert examine()[0] == 0
    iam.run(f"REVOKE {revoked} FROM iam_watcher")
    status, printed = examine()
    assert status == 1
    assert said in printed


ROWS_ELSEWHERE = '''"""An Airflow DAG of a test."""
from iam_watcher import Watcher
from iam_watcher.jobs.command import CommandOperator
from iam_watcher.jobs.rows_in_state import rows_in_state

rows = rows_in_state("user_provisioning", state_column="status", claim="pending", mysql_conn_id="elsewhere")
with Watcher("rows", schedule=rows):
    CommandOperator(task_id="work", command="true")
'''


@pytest.mark.every_server
def test_the_database_of_a_schedule(examine, dags, iam, mariadb, monkeypatch):
    (dags / "rows.py").write_text(ROWS_ELSEWHERE)
    assert "database elsewhere: WRONG: " in examine()[1]
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", mariadb.airflow_uri)
    status, printed = examine()
    assert (status, "database elsewhere: good" in printed) == (0, True), printed
    iam.run("REVOKE SELECT, UPDATE ON iam.user_provisioning FROM iam_watcher")
    status, printed = examine()
    assert status == 1
    assert "The schedule of rows can't read the table user_provisioning" in printed
    assert "Grant the right SELECT" in printed


MAPPED = '''"""An Airflow DAG of a test."""
from airflow.sdk import task
from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

OLD = {{"age_column": "expires", "age_unit": "unix_seconds", "older_than_days": 1}}
with Watcher("everywhere", schedule=None):
    @task
    def names():
        return []

    PurgeRowsOperator.partial(task_id="purge", **OLD).{mapping}
'''


@pytest.mark.every_server
def test_a_mapped_job(examine, dags, iam, mariadb, monkeypatch, tmp_path):
    location = f"file://{tmp_path}/elsewhere"
    given = [
        {"table": "secret"},
        {"table": "policy_audit", "mysql_conn_id": "elsewhere", "archive": location},
    ]
    (dags / "clean.py").write_text(MAPPED.format(mapping=f"expand_kwargs({given})"))
    assert "database elsewhere: WRONG: " in examine()[1]
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", mariadb.airflow_uri)
    status, printed = examine()
    assert (status, "NOT CHECKED" in printed) == (0, False), printed
    assert "database iam_mysql: good" in printed
    assert "database elsewhere: good" in printed
    assert (tmp_path / "elsewhere").is_dir()
    iam.run("REVOKE DELETE ON iam.policy_audit FROM iam_watcher")
    status, printed = examine()
    assert status == 1
    assert "The task everywhere.purge can't use the table policy_audit" in printed


def test_a_fault_of_all_tasks_of_a_mapped_job_is_said_once(examine, dags, iam):
    mapping = 'expand(table=["absent"], where=[[("id", ">", 0)], [("id", "<", 0)]])'
    (dags / "clean.py").write_text(MAPPED.format(mapping=mapping))
    status, printed = examine()
    assert (status, printed.count("DELETE on the table")) == (1, 1), printed


@pytest.mark.parametrize(
    "mapping",
    [
        'expand(table=names(), mysql_conn_id=["iam_mysql", "elsewhere"], archive=["file:///proc/a"])',
        'expand_kwargs([{"mysql_conn_id": "elsewhere", "archive": "file:///proc/a"}, {}, names()])',
    ],
)
def test_a_mapped_job_that_only_a_run_knows(examine, dags, mapping):
    (dags / "clean.py").write_text(MAPPED.format(mapping=mapping))
    status, printed = examine()
    assert "watcher files: NOT CHECKED: Only a run knows all arguments of the mapped task" in printed
    assert "everywhere.purge" in printed
    assert "database iam_mysql: good" in printed
    assert "database elsewhere: WRONG" in printed
    assert "archive: WRONG: The archive location file:///proc/a " in printed
    assert (status, "1 not checked" in printed) == (1, True)


def test_a_mapped_job_that_is_not_checked_is_not_wrong(examine, dags):
    (dags / "clean.py").write_text(MAPPED.format(mapping="expand(table=names())"))
    status, printed = examine()
    assert (status, printed.endswith("0 wrong, 1 not checked\n")) == (0, True), printed


def test_a_mapped_job_with_a_wrong_argument(examine, dags):
    mapping = 'expand(table=["secret"], mysql_conn_id=["iam_mysql", ""])'
    (dags / "clean.py").write_text(MAPPED.format(mapping=mapping))
    status, printed = examine()
    assert status == 1
    assert "watcher files: WRONG: The mapped task everywhere.purge would fail" in printed


@pytest.mark.every_server
def test_a_table_is_missing(examine, iam):
    iam.run("DROP TABLE secret")
    status, printed = examine()
    assert (status, printed.count("database iam_mysql: WRONG")) == (1, 1), printed
    assert "correct the name" in printed


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("TABLE secret (id int, expires int)", "secret needs a primary key, or a unique key of NOT NULL"),
        (
            "TABLE secret (id int PRIMARY KEY, expires int) ENGINE=MyISAM",
            "TABLE `secret` ENGINE=InnoDB makes",
        ),
        ("VIEW secret AS SELECT MIN(expires) AS expires FROM kept", "name the table behind the view"),
    ],
)
def test_a_table_that_no_job_can_walk(examine, iam, table, said):
    assert examine()[0] == 0
    iam.run("RENAME TABLE secret TO kept")
    iam.run(f"CREATE {table}")
    status, printed = examine()
    assert (status, printed.count("database iam_mysql: WRONG")) == (1, 1), printed
    assert "The task clean.purge can't use the table secret: " in printed
    assert said in printed


KINDS = '''"""An Airflow DAG of a test."""
from iam_watcher import Watcher
from iam_watcher.jobs.account_table import AccountTable
from iam_watcher.jobs.anonymize_rows import AnonymizeRowsOperator
from iam_watcher.jobs.command import CommandOperator
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.process_rows import process_rows
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.rows_in_state import rows_in_state

PEOPLE = AccountTable(table="keyless", name="name", last_login="seen", created="made", status="status",
                      active="on", disabled="off")
OLD = {"table": "keyless", "age_column": "made", "older_than_days": 1}

with Watcher("kinds", schedule=None):
    PurgeRowsOperator(task_id="newest", table="keyless", age_column="made", older_than_days=1,
                      keep_last=5, per="name")
    PurgeRowsOperator(task_id="partitions", drop_partitions=True, **OLD)
    AnonymizeRowsOperator(task_id="anonymize", set={"name": None}, **OLD)
    DisableInactiveUsersOperator(task_id="disable", accounts=PEOPLE, max_inactive_days=90,
                                 exempt_admins=False)

    @process_rows("keyless", state_column="status", claim="pending", done="done", failed="failed")
    def process(row):
        pass

    process()

rows = rows_in_state("keyless", state_column="status", claim="pending")
with Watcher("woken", schedule=rows):
    CommandOperator(task_id="work", command="true")
'''


@pytest.mark.every_server
def test_each_kind_of_job_and_schedule_on_a_table_without_a_key(examine, dags, iam):
    (dags / "kinds.py").write_text(KINDS)
    iam.run("CREATE TABLE keyless (name varchar(9) NULL, seen datetime, made datetime, status varchar(9))")
    iam.run("GRANT SELECT, DELETE, UPDATE ON iam.keyless TO iam_watcher")
    status, printed = examine()
    assert "watcher files: good" in printed, printed
    said = [
        f"The task kinds.{name} can't use"
        for name in ("newest", "partitions", "anonymize", "disable", "process")
    ]
    for name in (*said, "The schedule of woken can't read"):
        assert f"{name} the table keyless: keyless needs a primary key" in printed, printed
    assert (status, printed.count("database iam_mysql: WRONG")) == (1, 6), printed


@pytest.mark.every_server
def test_a_right_is_missing_on_a_table_that_no_job_can_walk(examine, iam):
    iam.run("DROP TABLE secret")
    iam.run("CREATE TABLE secret (id int PRIMARY KEY, expires int) ENGINE=MyISAM")
    iam.run("REVOKE DELETE ON iam.secret FROM iam_watcher")
    printed = examine()[1]
    assert "ENGINE=InnoDB makes" in printed
    assert "Grant the right DELETE on the table" in printed


@pytest.mark.every_server
def test_a_table_that_is_locked_is_not_checked(examine, iam):
    iam.run("LOCK TABLES secret WRITE")
    try:
        status, printed = examine()
    finally:
        iam.run("UNLOCK TABLES")
    assert "clean.purge can't use the table secret at the moment: error 1205" in printed
    assert (status, "WRONG" in printed) == (0, False), printed


@pytest.mark.every_server
def test_a_server_that_does_not_know_skip_locked(examine, dags, monkeypatch):
    """No server of the tests is so old: this one does not know what it is asked instead."""
    (dags / "provision.py").write_text(ROWS)
    monkeypatch.setattr(rights, "SKIPS_LOCKED", rights.SKIPS_LOCKED.replace("LOCKED", "LOCKT"))
    status, printed = examine()
    assert status == 1
    assert "does not know SKIP LOCKED" in printed


def test_a_server_that_logs_statements(examine, dags, tmp_path, monkeypatch):
    from dev.servers import chosen_database

    (dags / "provision.py").write_text(ROWS)
    options = ["--log-bin=binlog", "--server-id=1", "--binlog-format=STATEMENT"]
    with chosen_database()(tmp_path / "logging", options) as server:
        server.create_schema()
        monkeypatch.setenv("AIRFLOW_CONN_IAM_MYSQL", server.airflow_uri)
        status, printed = examine()
    assert status == 1
    assert "Set binlog_format=ROW" in printed


def test_a_watcher_file_that_safe_mode_skips(examine, dags):
    (dags / "skipped.py").write_text(WATCHER.replace("An Airflow DAG of", "For").replace("clean", "skipped"))
    (dags / "tool.py").write_text("# No watcher.\n")
    status, printed = examine()
    assert status == 1
    assert f"Airflow does not parse {dags}/skipped.py" in printed
    assert "tool.py" not in printed


def test_a_watcher_file_with_an_import_error(examine, dags):
    (dags / "broken.py").write_text(f'"""An Airflow DAG."""\npassword = "{SECRET}"\nimport absent\n')
    status, printed = examine()
    assert status == 1
    assert "broken.py has an import error" in printed
    assert "No module named 'absent'" in printed


def test_a_dag_folder_that_this_machine_does_not_have(examine, dags):
    dags.rename(dags.parent / "elsewhere")
    status, printed = examine()
    assert status == 1
    assert f"has the folder {dags}, which is not on this machine. Create or mount it" in printed


def test_no_watcher(examine, dags):
    (dags / "clean.py").unlink()
    status, printed = examine()
    assert status == 1
    assert f"No watcher was found in {dags}" in printed


@pytest.mark.parametrize("location", ["file:///proc/archive", "file://relative", "s3://absent@bucket/x"])
def test_an_archive_that_takes_no_file(examine, monkeypatch, location):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", location)
    status, printed = examine()
    assert status == 1
    assert "archive: WRONG" in printed
    assert location in printed
