"""What the page knows of a watcher's params: it offers only forms that do what they say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk import Param
from airflow.serialization.serialized_objects import DagSerialization

from iam_watcher import Watcher
from iam_watcher.jobs.command import CommandOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.ui.facts import read_facts
from iam_watcher.ui.rows import watcher_json

PURGE = {"table": "session", "age_column": "at"}
ROW = SimpleNamespace(
    dag_id="tells",
    display_name=None,
    is_paused=False,
    is_broken=False,
    timetable_description="",
    timetable_summary="@every 1d",
    next_dagrun_create_after=None,
)


def facts_of(params, *jobs):
    """Return what the page knows of a watcher, given its params and functions that make its jobs."""
    with Watcher("tells", schedule="@every 1d", params=params) as dag:
        for job in jobs:
            job()
    return read_facts(DagSerialization.to_dict(dag))


def purge(task_id, **arguments):
    return lambda: PurgeRowsOperator(task_id=task_id, **PURGE, **arguments)


def mapped(task_id, *, expand, **arguments):
    return lambda: PurgeRowsOperator.partial(task_id=task_id, age_column="at", **arguments).expand(**expand)


@pytest.mark.parametrize("has_param", [True, False])
def test_the_page_knows_whether_a_run_can_be_a_dry_run(has_param):
    param = "dry_run" if has_param else "other"
    job = purge("t", older_than="1d", dry_run=f"{{{{ params.{param} }}}}")
    found = watcher_json(ROW, facts_of({param: False}, job))
    assert found.get("drydefault") == (True if has_param else None)


def test_the_page_knows_which_jobs_can_have_a_safety_limit_of_a_run():
    of_run = {"max_share": "{{ params.max_share }}"}
    jobs = (
        purge("none", older_than="1d"),
        purge("fixed", older_than="1d", max_share=0.5),
        purge("own", older_than="1d", **of_run),
        purge("quoted", older_than="1d", max_share="{{ params['max_share'] | float }}"),
        mapped("partial", expand={"table": ["a", "b"]}, older_than="1d", **of_run),
        mapped("parts", expand={"max_share": [0.5, *of_run.values()]}, table="a", older_than="1d"),
        lambda: CommandOperator(task_id="command", command="echo {{ params.max_share }}"),
    )
    found = watcher_json(ROW, facts_of({"max_share": Param(0.5)}, *jobs))
    assert found["ownlimit"] == ["own", "quoted", "partial", "parts"]
    # No job uses the param: a run that sets it is a run as any other.
    assert "ownlimit" not in watcher_json(ROW, facts_of({"max_share": Param(0.5)}, *jobs[:2], jobs[-1]))
    # There is no such param.
    assert "ownlimit" not in watcher_json(ROW, facts_of({"share": 0.5}, purge("t", older_than="1d")))


def test_the_settings_of_a_mapped_job():
    places = ["file:///a", "s3://me:s3cret@bucket", "file:///a"]
    jobs = (
        mapped(
            "some",
            expand={"archive": places},
            table="a",
            older_than_days="{{ params.days }}",
            max_share=0.5,
            max_rows="{{ params.rows }}",
        ),
        lambda: PurgeRowsOperator.partial(task_id="kwargs", age_column="at", max_rows=5).expand_kwargs(
            [{"table": "a", "older_than_days": 3}, {"table": "b", "older_than_days": 4}]
        ),
    )
    facts = facts_of({"days": 30, "rows": None}, *jobs)
    some, kwargs = ({"task": job.task_id, **job.settings} for job in facts.jobs)
    assert some == {"task": "some", "older_than_days": 30, "max_share": 0.5, "archive": "file:///a, ***"}
    assert kwargs == {"task": "kwargs", "older_than_days": "3, 4", "max_rows": 5}
    # What undoes a run knows its param in a mapped job, too.
    assert facts.jobs[0].params == {"older_than_days": "days", "max_rows": "rows"}
