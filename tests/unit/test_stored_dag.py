"""Canaries: the form in which Airflow stores a DAG, which the page reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param
from airflow.serialization.serialized_objects import DagSerialization

import iam_watcher
from iam_watcher import Watcher
from iam_watcher.airflow_internals import stored_dag
from iam_watcher.airflow_internals.stored_dag import (
    stored_params,
    stored_tags,
    stored_tasks,
    stored_timetable,
    stored_triggers,
    stored_values,
)
from iam_watcher.jobs.rows_in_state import rows_in_state

COMMAND, DIRECTORY = "bash_command", "cwd"


def stored(schedule: Any = None, **arguments: Any) -> dict[str, Any]:
    """Return a DAG of one task of each kind as Airflow stores it."""
    with DAG("stored", schedule=schedule, **arguments) as dag:
        plain = BashOperator(task_id="plain", bash_command="a", cwd="/a")
        BashOperator.partial(task_id="expand", cwd="/a").expand(bash_command=["a", "b"])
        BashOperator.partial(task_id="kwargs", cwd="/a").expand_kwargs(
            [{COMMAND: "a"}, {COMMAND: "b", "append_env": True}]
        )
        BashOperator.partial(task_id="of_task", cwd="/a").expand(bash_command=plain.output)
        BashOperator.partial(task_id="kwargs_of_task", cwd="/a").expand_kwargs(plain.output)
    return dict(DagSerialization.to_dict(dag))


@pytest.mark.parametrize(
    ("task", "argument", "expected"),
    [
        ("plain", COMMAND, ["a"]),
        ("plain", "absent", ["default"]),
        ("expand", COMMAND, ["a", "b"]),
        ("expand", DIRECTORY, ["/a"]),
        ("expand", "absent", ["default"]),
        ("kwargs", COMMAND, ["a", "b"]),
        ("kwargs", DIRECTORY, ["/a", "/a"]),
        ("kwargs", "append_env", ["default", True]),
        ("of_task", COMMAND, []),
        ("of_task", DIRECTORY, ["/a"]),
        ("kwargs_of_task", COMMAND, []),
        ("kwargs_of_task", DIRECTORY, ["/a"]),
    ],
)
def test_an_argument_of_a_task(task: str, argument: str, expected: list[Any]) -> None:
    assert stored_values(stored_tasks(stored())[task], argument, "default") == expected


def test_a_task_has_its_class_and_its_template_fields() -> None:
    task = stored_tasks(stored())["plain"]
    assert task["task_type"] == "BashOperator"
    assert COMMAND in task["template_fields"]


def test_params_have_their_defaults() -> None:
    params = {"text": "a", "number": Param(3, type="integer"), "list": Param([1], type="array"), "none": None}
    assert stored_params(stored(params=params)) == {"text": "a", "number": 3, "list": [1], "none": None}


def test_tags() -> None:
    assert sorted(stored_tags(stored(tags=["b", "a"]))) == ["a", "b"]


def test_the_timetable_of_a_watcher() -> None:
    with Watcher("stored", schedule="@every 1d") as dag:
        BashOperator(task_id="plain", bash_command="a")
    assert stored_timetable(DagSerialization.to_dict(dag))["spec"] == "@every 1d"


def test_the_triggers_of_assets() -> None:
    schedule = rows_in_state("orders", state_column="state", claim="new", mysql_conn_id="of_rows")
    ((kind, arguments),) = stored_triggers(stored_timetable(stored(schedule=schedule)))
    assert kind.endswith(".RowsInStateTrigger")
    assert arguments["mysql_conn_id"] == "of_rows"


def test_no_other_module_has_these_names() -> None:
    names = [stored_dag.VALUE, stored_dag.IS_MAPPED, stored_dag.NO_OVERRIDE, stored_dag.EXPANDED]
    names += [stored_dag.PARTIAL, stored_dag.BY_ARGUMENTS]
    package = Path(iam_watcher.__file__).parent
    found = {
        (path.name, name)
        for path in package.rglob("*.py")
        if "airflow_internals" not in path.parts
        for name in names
        if f'"{name}"' in path.read_text()
    }
    assert found == set()
