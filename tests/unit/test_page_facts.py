"""What the page knows of a watcher's params: it offers only forms that do what they say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk import Param
from airflow.serialization.serialized_objects import DagSerialization

from iam_watcher import Watcher
from iam_watcher.jobs.command import CommandOperator
from iam_watcher.ui.facts import read_facts
from iam_watcher.ui.rows import watcher_json

ROW = SimpleNamespace(
    dag_id="tells",
    display_name=None,
    is_paused=False,
    is_broken=False,
    timetable_description="",
    timetable_summary="@every 1d",
    next_dagrun_create_after=None,
)


@pytest.mark.parametrize("param", ["dry_run", "max_share", "other"])
def test_the_page_knows_which_params_a_watcher_has(param):
    default = {"dry_run": False, "max_share": 0.5, "other": 1}[param]
    with Watcher("tells", schedule="@every 1d", params={param: Param(default)}) as dag:
        CommandOperator(task_id="t", command="true")
    found = watcher_json(ROW, read_facts(DagSerialization.to_dict(dag)))
    assert found.get("drydefault") == (True if param == "dry_run" else None)
    assert found.get("ownlimit") == (True if param == "max_share" else None)
