"""Notices and pings of a whole Airflow: its workers, its DAG processor and its triggerer send them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dev.migrated import copy_migrated
from dev.servers import Redis
from tests.dags.receivers import Received, http_receiver
from tests.e2e.deployments import Deployment, until

if TYPE_CHECKING:
    from pathlib import Path

FILE = '''"""An Airflow DAG for each kind of notice."""
from datetime import timedelta
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import task
from iam_watcher import Notify, Watcher, Webhook

def watch(dag_id, command, **arguments):
    sent = Notify(on=("failure", "success", "skip", "overrun"), to=Webhook("ops_webhook"))
    given = {"notify": sent, "default_args": {"retries": 0}, "is_paused_upon_creation": False, **arguments}
    with Watcher(dag_id, schedule=None, **given):
        BashOperator(task_id="work", bash_command=command)

watch("works", "true", ping="healthchecks")
watch("fails", "exit 3", ping="healthchecks")
watch("unlocked", "true", lock=None)
watch("idle", "exit 99")
watch("idle_unlocked", "exit 99", lock=None)
watch("slow", "sleep 30", expected=timedelta(seconds=2))
watch("killed", "kill -9 $PPID; sleep 5")
watch("pauses", "exit 3", max_consecutive_failed_dag_runs=2)
'''
NAMES = ("works", "fails", "unlocked", "idle", "idle_unlocked", "slow", "killed", "pauses")


def notices(web: Received, watcher: str) -> list[dict[str, Any]]:
    bodies = [json.loads(body) for path, _, body in list(web.requests) if path == "/hook"]
    return [one for one in bodies if one["watcher"] == watcher]


@pytest.mark.e2e
def test_a_whole_airflow_tells(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "notices.py").write_text(FILE)
    with (
        http_receiver() as web,
        Redis(tmp_path / "redis") as redis,
        Deployment(
            tmp_path / "airflow",
            deployment_id="a",
            connections={
                "iam_redis": redis.airflow_uri,
                "ops_webhook": f"http://127.0.0.1:{web.port}/hook",
                "healthchecks": f"http://127.0.0.1:{web.port}/ping/{{watcher}}",
            },
            dags_folders=[tmp_path / "dags"],
            options={"AIRFLOW__CORE__PARALLELISM": "4", "AIRFLOW__TRIGGERER__DEFAULT_CAPACITY": "10"},
        ) as airflow,
    ):
        airflow.name = "a"
        copy_migrated(airflow.home)
        airflow.start()
        airflow.wait_healthy()
        until(lambda: airflow.api("/dags?limit=100")["total_entries"] == len(NAMES), "the DAGs")
        runs = {name: airflow.trigger(name) for name in NAMES}
        sent = {name: until(lambda name=name: notices(web, name), f"a notice of {name}") for name in NAMES}
        for name in ("works", "unlocked"):
            assert [one["what"] for one in sent[name]] == ["the run worked"], name
        for name in ("idle", "idle_unlocked"):
            (found,) = sent[name]
            assert (found["event"], found["run"]) == ("skip", runs[name].id)
            assert found["what"] == "the run did nothing: the task work was skipped"
        for name in ("fails", "killed", "pauses"):
            assert sent[name][0]["event"] == "failure"
            assert f"/dags/{name}/runs/" in sent[name][0]["url"]
        assert "the process of the task was killed" in sent["killed"][0]["what"]
        assert "exit code 3" in sent["fails"][0]["what"]
        assert sent["slow"][0]["event"] == "overrun"
        assert sent["slow"][0]["run"] == runs["slow"].id
        until(lambda: len(notices(web, "slow")) == 2, "the end of the slow run")
        assert notices(web, "slow")[1]["event"] == "success"
        assert {name: len(notices(web, name)) for name in NAMES} == {**dict.fromkeys(NAMES, 1), "slow": 2}
        assert not airflow.api("/dags/pauses")["is_paused"]
        airflow.trigger("pauses").wait("failed")
        until(lambda: airflow.api("/dags/pauses")["is_paused"], "the pause after two failed runs")
        pings = [path.partition("?")[0] for path, _, _ in web.requests if path.startswith("/ping")]
        assert sorted(pings) == ["/ping/fails/3", "/ping/fails/start", "/ping/works", "/ping/works/start"]
