"""The doctor on several machines of one Airflow: each comparison is broken once, on real servers.

A machine is a run of the doctor with a host name and an environment of its own. All tests need such machines:
hence the length.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from airflow import plugins_manager
from sqlalchemy import delete, update

from dev.airflow import ROOT
from dev.servers import Redis
from iam_watcher import Watcher
from iam_watcher.airflow_internals import deployment
from iam_watcher.doctor.machine import VARIABLE
from iam_watcher.jobs.command import CommandOperator
from tests.contract.conftest import documented_rule
from tests.integration.doctor.conftest import SECRET

HOST = "import os\n\n\ndef host():\n    return os.environ.get('HOST_OF_THE_TEST', 'one')\n"
ARCHIVE = "AIRFLOW__IAM_WATCHER__ARCHIVE"


@pytest.fixture
def on(examine, tmp_path, monkeypatch):
    """A function that runs the doctor on a machine with variables of its own: exit status and output."""
    (tmp_path / "host_of_the_test.py").write_text(HOST)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("AIRFLOW__CORE__HOSTNAME_CALLABLE", "host_of_the_test.host")

    def on(host, **variables):
        with monkeypatch.context() as patch:
            patch.setenv("HOST_OF_THE_TEST", host)
            for name, value in variables.items():
                patch.setenv(name, str(value))
            return examine()

    return on


@pytest.fixture
def on_with_files(on, tmp_path, monkeypatch):
    """The same in a process of its own, with the plugin in another folder."""

    def run(host, plugins, **variables):
        path = os.pathsep.join(map(str, (plugins, tmp_path)))
        done = subprocess.run(
            [sys.executable, "-m", "iam_watcher.doctor"],
            env={**os.environ, "PYTHONPATH": path, "HOST_OF_THE_TEST": host, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_two_machines_that_agree(on, admin, tmp_path):
    admin.flushall()
    status, printed = on("one")
    assert (status, "machine " in printed, "other machines: good" in printed) == (0, False, True), printed
    status, printed = on("two")
    assert (status, "machine one: good" in printed) == (0, True), printed
    keys = admin.keys("iam-watcher:doctor:*")
    assert len(keys) == 2
    assert all(0 < admin.pttl(key) <= 3_600_000 for key in keys)
    assert len(list((tmp_path / "archive").iterdir())) == 2
    status, printed = on("one")
    assert (status, "machine two: good" in printed) == (0, True), printed
    # The mark of the last run of this machine is gone.
    assert len(list((tmp_path / "archive").iterdir())) == 2


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        (
            "deployment_id",
            "other",
            "deployment_id is other on this machine and test on one. Set the same value",
        ),
        ("standby_delay", "120", "standby_delay is 120 on this machine and 0 on one. Set the same value"),
        ("archive", "", "archive is missing on this machine and file://"),
        (
            "settings_file",
            "{folder}/other.yaml",
            "The settings file has other values on this machine than on one",
        ),
    ],
)
def test_an_option_differs(on, tmp_path, option, value, said):
    (tmp_path / "other.yaml").write_text("watcher:\n  clean:\n    max-reserve-days: 5\n")
    assert on("one")[0] == 0
    name = f"AIRFLOW__IAM_WATCHER__{option.upper()}"
    status, printed = on("two", **{name: value.format(folder=tmp_path)})
    assert status == 1
    assert printed.count("WRONG") == 1
    assert f"machine one: WRONG: {said}" in printed.replace("[iam_watcher] ", "")
    # After the correction, both are good.
    assert on("two")[0] == 0
    assert on("one")[0] == 0


def test_the_deployment_id_is_missing_on_another_machine(on):
    assert on("two", AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID="")[0] == 1
    status, printed = on("one")
    assert status == 1
    assert (
        "machine two: WRONG: [iam_watcher] deployment_id is test on this machine and missing on two"
        in printed
    )
    assert "machine two: WRONG: The doctor found something wrong on two: deployment. Run" in printed


def test_a_secret_in_place_of_the_deployment_id_is_not_stored(on):
    assert on("two", AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID=f"redis://:{SECRET}@host")[0] == 1


def test_another_machine_can_not_write_to_the_archive(on, tmp_path):
    (tmp_path / "archive").write_text("In place of the folder.")
    status, printed = on("two")
    assert (status, "could not be compared" in printed) == (1, False)
    (tmp_path / "archive").unlink()
    status, printed = on("one")
    assert status == 1
    assert "machine two: WRONG: The doctor found something wrong on two: archive. Run" in printed


def test_each_machine_has_a_folder_of_its_own(on, tmp_path):
    assert on("one")[0] == 0
    (tmp_path / "archive").rename(tmp_path / "disk-of-one")
    status, printed = on("two")
    assert status == 1
    assert (
        f"machine one: WRONG: The archive location file://{tmp_path}/archive is not the same folder"
        in printed
    )


def test_another_machine_uses_another_redis(on, tmp_path):
    assert on("one")[0] == 0
    with Redis(tmp_path / "second", ["--appendonly", "yes"]) as second:
        status, printed = on("two", AIRFLOW_CONN_IAM_REDIS=second.airflow_uri)
    assert status == 1
    assert printed.count("WRONG") == 1
    assert "machine one: WRONG: The connection 'iam_redis' leads to another Redis" in printed


def test_the_documented_account_may_leave_marks(on, redis, admin):
    admin.execute_command(*documented_rule())
    uri = f"redis://watcher:password@{redis.host}:{redis.port}/?db=0"
    assert on("one", AIRFLOW_CONN_IAM_REDIS=uri)[0] == 0
    status, printed = on("two", AIRFLOW_CONN_IAM_REDIS=uri)
    assert (status, "machine one: good" in printed) == (0, True), printed
    admin.execute_command("ACL", "SETUSER", "watcher", "-set")
    status, printed = on("two", AIRFLOW_CONN_IAM_REDIS=uri)
    assert "other machines: NOT CHECKED: iam_redis could not be compared: " in printed
    assert "refused 'iam-watcher:doctor:" in printed
    assert "the 'set' command" in printed


def test_clocks_that_differ_from_each_other_more_than_from_the_servers(on):
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=4)):
        assert on("one")[0] == 0
    with time_machine.travel(datetime.now(UTC) - timedelta(seconds=4)):
        status, printed = on("two")
    assert status == 1
    assert printed.count("WRONG") == 1
    assert "machine one: WRONG: The clock of one is 8 s ahead of the clock of this machine" in printed


def test_a_clock_that_is_hours_behind(on):
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=5)):
        assert on("two")[0] == 1
    status, printed = on("one")
    assert status == 1
    assert "s behind the clock of this machine" in printed
    assert "wrong on two: Redis iam_redis, database iam_mysql. Run" in printed


def test_the_plugin_is_not_loaded_on_another_machine(on, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(plugins_manager, "get_timetables_plugins", dict)
        assert on("two")[0] == 1
    status, printed = on("one")
    assert status == 1
    assert "machine two: WRONG: The doctor found something wrong on two: plugin. Run" in printed


def test_the_files_of_the_plugin_differ(on, on_with_files, tmp_path):
    shutil.copytree(ROOT / "plugins", tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    status, printed = on_with_files("two", tmp_path / "copy")
    assert (status, "Nothing is wrong" in printed) == (0, True), printed
    assert on("one")[0] == 0
    with (tmp_path / "copy" / "iam_watcher" / "errors.py").open("a") as file:
        file.write("# Another version.\n")
    assert on_with_files("two", tmp_path / "copy")[0] == 1
    status, printed = on("one")
    assert status == 1
    assert "machine two: WRONG: iam-watcher is 0.1.0 with the files " in printed
    assert "Install the same version on all machines" in printed


def test_airflows_database_can_not_be_used(on_with_files, tmp_path):
    name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    status, printed = on_with_files("two", ROOT / "plugins", **{name: f"sqlite:///{tmp_path}/empty.db"})
    assert status == 0, printed
    assert "other machines: NOT CHECKED: No other machine could be compared" in printed
    assert "Check [database] sql_alchemy_conn" in printed
    assert list((tmp_path / "archive").iterdir()) == []


def test_an_old_result_is_removed_with_its_mark(on, results, tmp_path):
    assert on("two", AIRFLOW__IAM_WATCHER__STANDBY_DELAY="120")[0] == 0
    found = json.loads(results()[VARIABLE + "two"])
    (mark,) = (tmp_path / "archive").iterdir()
    for minutes, expected in ((59, 1), (61, 0)):
        old = json.dumps(found | {"at": found["at"] - 60 * minutes})
        with deployment.metadata_session() as session:
            deployment.store_plain_variable(session, VARIABLE + "two", old, "")
        assert on("one")[0] == expected
        assert mark.exists() == bool(expected)
    assert results().keys() == {VARIABLE + "one"}


def test_a_result_of_another_version(on, results):
    assert on("two")[0] == 0
    found = json.loads(results()[VARIABLE + "two"])
    for stored, expected in (
        (found | {"a_new_value": [1]}, "machine two: good"),
        ({"host": "two"}, "other machines: good"),
        (["two"], "other machines: good"),
    ):
        with deployment.metadata_session() as session:
            deployment.store_plain_variable(session, VARIABLE + "two", json.dumps(stored), "")
        status, printed = on("one")
        assert (status, expected in printed) == (0, True), printed


@pytest.fixture
def component(airflow_db):
    """A function that stores a component as Airflow does, with a heartbeat of some minutes ago."""
    from airflow.jobs.job import Job

    def store(kind, host, *, minutes=0, state="running"):
        with deployment.metadata_session() as session:
            job = Job(job_type=kind, state=state)
            job.hostname, job.latest_heartbeat = host, datetime.now(UTC) - timedelta(minutes=minutes)
            session.add(job)

    yield store
    with deployment.metadata_session() as session:
        session.execute(delete(Job))


def test_machines_on_which_the_doctor_has_not_run(on, component):
    component("SchedulerJob", "one")
    component("SchedulerJob", "two")
    component("TriggererJob", "two")
    component("DagProcessorJob", "gone", minutes=10)
    component("DagProcessorJob", "ended", state="success")
    status, printed = on("one")
    assert status == 0
    assert "other machines: NOT CHECKED: two (scheduler, triggerer) could not be compared" in printed
    assert "Run the doctor on two too" in printed
    assert printed.endswith("0 wrong, 1 not checked\n")
    on("two")
    assert on("one")[1].endswith("Nothing is wrong\n")


def test_celery_workers_on_which_the_doctor_has_not_run(on, run_dag, monkeypatch):
    from airflow.models.taskinstance import TaskInstance

    with Watcher("works", schedule=None) as dag:
        CommandOperator(task_id="work", command="true")
    assert run_dag(dag).state == "success"
    with deployment.metadata_session() as session:
        heartbeat = datetime.now(UTC) - timedelta(minutes=30)
        session.execute(
            update(TaskInstance)
            .where(TaskInstance.dag_id == "works")
            .values(hostname="worker-1", last_heartbeat_at=heartbeat)
        )
    assert "worker-1" not in on("one")[1]
    # With Kubernetes, for instance, each task has a host of its own.
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    assert "other machines: NOT CHECKED: worker-1 (worker) could not be compared" in on("one")[1]
