"""The manual watchers, run as a person triggers them: what a watcher did is undone."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from dev.expectations import snapshot
from dev.servers import SAMPLE_FILE
from iam_watcher import Watcher
from iam_watcher.jobs.reenable_users import ReenableUsersOperator
from tests.dags.runs import xcom

REPO = Path(__file__).parents[2]


def shipped(dag_id):
    """Return a watcher of dags/, read anew: dag.test() keeps the parameters of its last run."""
    return DagBag(str(REPO / "dags" / f"{dag_id}.py")).dags[dag_id]


@pytest.fixture
def location(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/archive"
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", url)
    return url


@pytest.fixture
def sample(iam_schema, redis_client):
    iam_schema.run_script(SAMPLE_FILE)
    return iam_schema


def report(run, task_id):
    assert {ti.task_id: str(ti.state) for ti in run.get_task_instances()} == {
        "acquire": "success",
        task_id: "success",
        "release": "success",
    }
    return run.get_task_instances()[0].xcom_pull(task_ids=task_id)


def test_a_run_that_disabled_users_is_undone(sample, run_dag, location, redis_client):
    before = snapshot(sample)
    done = report(run_dag(shipped("disable_inactive_users")), "disable")
    assert done["changed"] == 1240
    back = report(run_dag(shipped("reenable_users"), run_conf={"undo_record": done["undo_record"]}), "enable")
    assert (back["listed"], back["enabled"], back["skipped"]) == (1240, 1240, {})
    after = snapshot(sample)
    for key, row in before["user"].items():
        changed = {column for column in row if row[column] != after["user"][key][column]}
        assert changed <= {"loginedAt", "updatedAt"}
    again = report(run_dag(shipped("disable_inactive_users")), "disable")
    assert (again["matched"], again["archive"]) == (0, None)
    assert not redis_client.exists("task")


def test_a_form_without_names_sends_none(sample, run_dag, location, redis_client):
    done = report(run_dag(shipped("disable_inactive_users")), "disable")
    conf = {"undo_record": done["undo_record"], "names": None}
    assert report(run_dag(shipped("reenable_users"), run_conf=conf), "enable")["enabled"] == 1240
    conf = {"undo_record": None, "names": ["inactive-0001"]}
    assert report(run_dag(shipped("reenable_users"), run_conf=conf), "enable")["enabled"] == 0


def test_users_are_enabled_by_name(sample, run_dag, location):
    names = ["already-disabled-0001", "active-0001", "Nobody"]
    back = report(run_dag(shipped("reenable_users"), run_conf={"names": names}), "enable")
    assert (back["enabled"], back["skipped"]) == (1, {"enabled_already": 1, "gone": 1})


def test_a_name_that_looks_like_a_value_stays_a_name(sample, run_dag, location):
    """As Python values, these would be 100000.0 and None, and a text in quotes would lose them."""
    names = ["1e5", "None", "'quoted'", "a, 'b'"]
    no_retry = {"retries": 0}
    with Watcher("names", schedule=None, lock="task", params={"names": names}, default_args=no_retry) as dag:
        every = ReenableUsersOperator(task_id="every", names="{{ params.names }}")
        (
            ReenableUsersOperator(task_id="two", names=["{{ params.names[0] }}", "{{ params.names[2] }}"])
            >> every
        )
    run = run_dag(dag)
    assert str(run.state) == "success"
    assert (xcom(run, "every")["skipped"], xcom(run, "two")["skipped"]) == ({"gone": 4}, {"gone": 2})


@pytest.mark.parametrize("dag_id", ["reenable_users", "restore_archive"])
def test_without_parameters_they_fail_and_change_nothing(sample, run_dag, location, dag_id):
    before = snapshot(sample)
    run = run_dag(shipped(dag_id))
    assert str(run.state) == "failed"
    assert snapshot(sample) == before


def test_without_a_location_audit_rows_are_purged_and_not_archived(sample, run_dag, redis_client):
    done = report(run_dag(shipped("clean_policy_audit")), "purge")
    assert (done["changed"], done["archive"]) == (6000, None)


def test_a_scheduled_run_is_dry_if_the_settings_file_says_so(
    sample, run_dag, redis_client, tmp_path, monkeypatch
):
    path = tmp_path / "settings.yaml"
    path.write_text("watcher: {task: {max-inactive-days: 180, dry-run: true}}")
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__SETTINGS_FILE", str(path))
    before = snapshot(sample)
    done = report(run_dag(shipped("disable_inactive_users")), "disable")
    assert (done["dry_run"], done["matched"], done["changed"]) == (True, 1240, 0)
    assert snapshot(sample) == before


def test_without_a_location_nobody_is_disabled(sample, run_dag, redis_client):
    before = snapshot(sample)
    run = run_dag(shipped("disable_inactive_users"))
    assert str(run.state) == "failed"
    assert snapshot(sample) == before


def test_a_purge_is_undone(sample, run_dag, location, redis_client):
    before = snapshot(sample)
    done = report(run_dag(shipped("clean_policy_audit")), "purge")
    assert done["changed"] == 6000
    path = done["archive"]
    rehearsed = report(
        run_dag(shipped("restore_archive"), run_conf={"path": path, "dry_run": True}), "restore"
    )
    assert (rehearsed["restored"], len(snapshot(sample)["policy_audit"])) == (6000, 4025)
    back = report(run_dag(shipped("restore_archive"), run_conf={"path": path}), "restore")
    assert (back["restored"], back["skipped"]) == (6000, {})
    assert snapshot(sample) == before
    assert not redis_client.exists("clean")
