"""A good deployment, and a function that runs the doctor on one of its machines."""

from __future__ import annotations

import json

import pytest

from dev.servers import Redis
from iam_watcher.airflow_internals import deployment
from iam_watcher.doctor import __main__ as doctor
from iam_watcher.doctor.machine import VARIABLE

SECRET = "hunter2-and-more"  # noqa: S105  what the output must not have
WATCHER = '''"""An Airflow DAG of a test."""
from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

with Watcher("clean", schedule=None):
    PurgeRowsOperator(task_id="purge", table="secret", age_column="expires", age_unit="unix_seconds",
                      older_than_days=1{more})
'''


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """A Redis of a good deployment."""
    with Redis(tmp_path_factory.mktemp("redis"), ["--appendonly", "yes"]) as server:
        yield server


@pytest.fixture
def admin(redis):
    """A client of that Redis, whose settings come back after the test."""
    with redis.client() as client:
        yield client
        client.replicaof("NO", "ONE")
        for name, value in (("appendonly", "yes"), ("maxmemory-policy", "noeviction"), ("maxmemory", "0")):
            client.config_set(name, value)
        for name in ("little", "watcher"):
            client.acl_deluser(name)


@pytest.fixture
def dags(tmp_path, monkeypatch):
    """The DAG folder, with one watcher."""
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "clean.py").write_text(WATCHER.format(more=""))
    path = {"name": "dags-folder", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = json.dumps([path | {"kwargs": {"path": str(folder)}}])
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", bundles)
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(folder))
    return folder


@pytest.fixture
def results(airflow_db):
    """A function that returns what the doctors have stored: name of a Variable -> text. At first, nothing."""

    def stored():
        with deployment.metadata_session() as session:
            return deployment.plain_variables(session, VARIABLE)

    def clear():
        with deployment.metadata_session() as session:
            for name in deployment.plain_variables(session, VARIABLE):
                deployment.delete_variable(session, name)

    clear()
    yield stored
    clear()


@pytest.fixture
def examine(iam_schema, redis, dags, results, tmp_path, monkeypatch, capsys):
    """A function that runs the doctor: its exit status and its output, in which no secret is."""
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", redis.airflow_uri)
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", f"file://{tmp_path}/archive")

    def examine(*arguments):
        capsys.readouterr()
        status = doctor.main(list(arguments))
        printed = capsys.readouterr().out
        shown = printed + "".join(results().values())
        for secret in (redis.password, iam_schema.password, iam_schema.admin_password, SECRET):
            assert secret not in shown
        return status, printed

    return examine
