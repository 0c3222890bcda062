"""What must hold for every file in dags/, whoever adds one."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
FILES = sorted((REPO / "dags").glob("*.py"))
READS_ONLY = "dry_run_watcher"  # without a lock


@pytest.fixture(scope="module")
def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(REPO / "dags"))


def test_no_file_fails_to_import(bag) -> None:
    assert bag.import_errors == {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_gives_a_dag_of_its_name(bag, file: Path) -> None:
    """Airflow skips a file without the word "airflow" and says nothing."""
    assert bag.dags[file.stem].fileloc == str(file)


@pytest.mark.parametrize("dag_id", [file.stem for file in FILES])
def test_every_dag_survives_serialization(bag, dag_id: str) -> None:
    from airflow.serialization.encoders import encode_timetable
    from airflow.serialization.serialized_objects import DagSerialization

    dag = bag.dags[dag_id]
    serialized = json.loads(json.dumps(DagSerialization.serialize_dag(dag)))
    again = DagSerialization.deserialize_dag(serialized)
    if dag.schedule is None:
        assert again.timetable.summary == "None"
    else:
        assert encode_timetable(again.timetable) == encode_timetable(dag.timetable)
    assert set(again.task_dict) == set(dag.task_dict)


@pytest.mark.parametrize("dag_id", [file.stem for file in FILES if file.stem != READS_ONLY])
def test_every_watcher_is_guarded(bag, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    assert (dag.max_active_runs, dag.catchup, dag.dagrun_timeout) == (1, False, None)
    assert "iam-watcher" in dag.tags
    assert dag.doc_md
    assert "backfill" not in {run_type.value for run_type in dag.allowed_run_types}
    acquire, release = dag.task_dict["acquire"], dag.task_dict["release"]
    assert acquire.is_setup
    assert release.is_teardown
    assert not release.on_failure_fail_dagrun
    for task in dag.tasks:
        if task not in (acquire, release):
            assert "acquire" in task.get_flat_relative_ids(upstream=True)
            assert "release" in task.get_flat_relative_ids(upstream=False)
            before = inspect.getclosurevars(task._pre_execute_hook).nonlocals["before"]
            assert before.__module__ == "iam_watcher.watcher_dag.task_guard"
            assert task.retries == 2


@pytest.mark.parametrize(
    ("dag_id", "key"),
    [
        ("disable_inactive_users", "task"),
        ("clean_policy_audit", "clean"),
        ("clean_expired_secrets", "cleansecret"),
    ],
)
def test_the_three_of_iam_keep_the_originals_keys(bag, dag_id: str, key: str) -> None:
    assert bag.dags[dag_id].lock.key == key


@pytest.mark.parametrize(
    ("dag_id", "assets"),
    [
        ("disable_inactive_users", ["iam.user"]),
        ("clean_policy_audit", ["iam.policy_audit"]),
        ("clean_expired_secrets", ["iam.secret"]),
    ],
)
def test_the_three_of_iam_update_an_asset_each(bag, dag_id: str, assets: list[str]) -> None:
    tasks = bag.dags[dag_id].tasks
    assert [asset.name for task in tasks for asset in task.outlets] == assets


@pytest.mark.parametrize("dag_id", [file.stem for file in FILES])
def test_every_parameter_has_a_default(bag, dag_id: str) -> None:
    bag.dags[dag_id].params.validate()


def test_parsing_loads_no_client_and_no_web_framework() -> None:
    program = (
        "import sys; from airflow.dag_processing.dagbag import DagBag; "
        f"bag = DagBag({str(REPO / 'dags')!r}); assert not bag.import_errors; "
        "heavy = {'redis', 'MySQLdb', 'fastapi', 'airflow.providers.mysql.hooks'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPO / "plugins"
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_job_loads_no_module_for_arguments_that_it_does_not_have() -> None:
    program = """
import sys
from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
with Watcher("purge", schedule="@daily"):
    PurgeRowsOperator(task_id="purge", table="t", age_column="age", older_than="30d")
ours = {name.removeprefix("iam_watcher.jobs.") for name in sys.modules if name.startswith("iam_watcher.")}
print(sorted(name for name in ours if name.startswith("table_job.")))
print(ours & {"announce", "children", "conditions", "iam_watcher.database.catalogue"})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPO / "plugins"
    )
    modules, others = done.stdout.splitlines()[-2:]
    assert ast.literal_eval(modules) == ["table_job.age_forms", "table_job.period", "table_job.side_effects"]
    assert others == "set()"


def test_the_plugin_is_loaded_once_and_import_redis_is_the_real_one() -> None:
    program = (
        "import redis, airflow.plugins_manager as manager; "
        "plugins, errors = manager._get_plugins(); "
        "print([p.name for p in plugins].count('iam_watcher'), errors, redis.Redis.__module__); "
        "import sys; print([m for m in ('lease', 'sensor', 'settings', 'plugin') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["1 {} redis.client", "[]"]


@pytest.mark.parametrize("dag_id", [file.stem for file in FILES])
def test_every_field_of_the_form_is_explained(bag, dag_id: str) -> None:
    params = bag.dags[dag_id].params
    for name in params:
        assert params.get_param(name).description.endswith("."), name


def test_the_form_of_reenable_users_takes_a_report_without_names_and_names_without_a_report(bag) -> None:
    params = bag.dags["reenable_users"].params
    for name in ("undo_record", "names"):
        assert "null" in params.get_param(name).schema["type"]


def test_the_dags_text_has_the_exempt_names(bag) -> None:
    assert "Exempt names: `svc-*`" in bag.dags["disable_inactive_users"].doc_md


@pytest.mark.parametrize(
    ("block", "dag_id"),
    [
        ("task", "disable_inactive_users"),
        ("clean", "clean_policy_audit"),
        ("cleansecret", "clean_expired_secrets"),
    ],
)
def test_the_settings_file_makes_scheduled_runs_dry(tmp_path, monkeypatch, block, dag_id) -> None:
    from airflow.dag_processing.dagbag import DagBag

    path = tmp_path / "settings.yaml"
    path.write_text(f"watcher: {{{block}: {{dry-run: true}}}}")
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__SETTINGS_FILE", str(path))
    found = {name: dag.params.get("dry_run") for name, dag in DagBag(str(REPO / "dags")).dags.items()}
    assert [name for name, dry_run in found.items() if dry_run] == [dag_id]
