"""Canaries: what the page needs of Airflow and Airflow does not promise; and that no one else loads it."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dev.airflow import environment

ROOT = Path(__file__).parent.parent.parent


def test_authorisation_is_a_dependency_that_takes_the_request_and_the_user():
    from iam_watcher.airflow_internals import page as airflow

    check = airflow.requires_access_dag(method="GET", access_entity=airflow.DagAccessEntity.RUN)
    assert list(inspect.signature(check).parameters) == ["request", "user"]
    assert next(iter(inspect.signature(airflow.get_user).parameters)) == "request"
    assert "GetUserDep" in airflow.__all__


def test_the_audit_log_takes_the_name_of_an_event():
    from iam_watcher.airflow_internals import page as airflow

    log = airflow.action_logging("event")
    assert {"request", "session", "user"} <= set(inspect.signature(log).parameters)


def test_the_columns_that_the_page_reads():
    from iam_watcher.airflow_internals import page as airflow

    for model, columns in {
        airflow.DagModel: {
            "is_paused",
            "is_stale",
            "bundle_name",
            "relative_fileloc",
            "last_parsed_time",
            "next_dagrun_create_after",
            "timetable_description",
        },
        airflow.ParseImportError: {"bundle_name", "filename"},
        airflow.DagRun: {"id", "run_after", "start_date", "end_date", "triggering_user_name", "run_type"},
        airflow.DagTag: {"dag_id", "name"},
        airflow.SerializedDagModel: {"id", "dag_id", "created_at"},
        airflow.TaskInstance: {"dag_id", "run_id", "task_id", "map_index", "state"},
        airflow.XComModel: {"dag_run_id", "dag_id", "run_id", "task_id", "map_index", "key", "value"},
    }.items():
        assert columns <= {column.key for column in model.__table__.columns}, model


def test_the_name_that_a_dag_file_gives_to_a_dag_is_none_without_one():
    from iam_watcher.airflow_internals import page as airflow

    model = airflow.DagModel(dag_id="a")
    assert (getattr(model, airflow.DISPLAY_NAME.key), model.dag_display_name) == (None, "a")
    setattr(model, airflow.DISPLAY_NAME.key, "A name")
    assert model.dag_display_name == "A name"


def test_the_name_that_airflow_gives_to_a_run_is_its_kind_and_its_time():
    """The page finds the last runs of a watcher by this."""
    from airflow.timetables.simple import OnceTimetable

    from iam_watcher.airflow_internals import page as airflow

    at = datetime(2027, 3, 10, 8, 0, 1, 500, tzinfo=UTC)
    for kind in airflow.DagRunType:
        for later in (timedelta(0), timedelta(days=40)):
            name = OnceTimetable().generate_run_id(run_type=kind, run_after=at + later, data_interval=None)
            assert name == f"{kind.value}__{(at + later).isoformat()}"
    indexed = [
        [column.name for column in constraint.columns]
        for constraint in airflow.DagRun.__table__.constraints
        if constraint.__class__.__name__ == "UniqueConstraint"
    ]
    assert ["dag_id", "run_id"] in indexed


def test_airflow_takes_the_plugins_views():
    from airflow.api_fastapi.core_api.datamodels.plugins import ReactAppResponse

    from iam_watcher.plugin import IamWatcherPlugin

    views = [ReactAppResponse.model_validate(view) for view in IamWatcherPlugin.react_apps]
    assert [view.destination for view in views] == ["nav", "dag"]
    assert {view.bundle_url.startswith("/") for view in views} == {False}


def test_a_session_of_airflows_database_ends_with_its_block():
    from iam_watcher.airflow_internals import page as airflow

    assert inspect.isgeneratorfunction(inspect.unwrap(airflow.create_session))
    assert all(
        parameter.default is not inspect.Parameter.empty
        for parameter in inspect.signature(airflow.create_session).parameters.values()
    )


LOADED = """
import json, sys
sys.path.insert(0, "plugins")
{load}
names = "fastapi iam_watcher.ui iam_watcher.ui.app redis MySQLdb iam_watcher.lock.admin.snapshot".split()
print("loaded", json.dumps([name for name in names if name in sys.modules]))
"""


WORKER = (
    "import airflow.plugins_manager as plugins; plugins.get_plugin_info()",
    "import iam_watcher.watcher_dag, iam_watcher.jobs.disable_users",
)
API_SERVER = {"fastapi", "iam_watcher.ui", "iam_watcher.ui.app", "redis", "iam_watcher.lock.admin.snapshot"}


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        ("\n".join(WORKER), set()),
        ("\n".join(("sys.argv[1:] = ['scheduler']", *WORKER)), {"redis"}),
        ("import iam_watcher.ui.app", API_SERVER),
        ("import iam_watcher.routes", API_SERVER),
    ],
    ids=[
        "a worker",
        "the scheduler, which forks tasks",
        "the page, which never loads MySQL",
        "health, which does so when it is asked",
    ],
)
def test_what_is_loaded_where(load, expected, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(load=load)],
        cwd=ROOT,
        env=environment(tmp_path, deployment_id="test"),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stdout.rpartition("loaded ")[2]))
    assert loaded == expected
