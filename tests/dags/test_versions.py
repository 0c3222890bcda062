"""A deployment that is new, and one that was updated in the middle of a run."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from iam_watcher import Watcher
from iam_watcher.lock import deployment
from iam_watcher.lock.deployment import FINGERPRINT
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.lease import Lease
from tests.dags.runs import BRIEF, look, states

if TYPE_CHECKING:
    from redis import Redis as Client


@pytest.fixture
def new_deployment(airflow_db: None) -> None:
    from airflow.models.variable import Variable

    Variable.delete(FINGERPRINT)


def watcher_of(dag_id: str) -> Watcher:
    with Watcher(dag_id, schedule=None, lock=BRIEF) as dag:
        look()
    return dag


def test_a_run_waits_while_another_makes_the_fingerprint_of_a_new_deployment(
    run_dag, redis_client: Client, new_deployment: None, monkeypatch
) -> None:
    other = Lease(redis_client, "iam-watcher:fingerprint:test", "another task", ttl=60)
    assert other.acquire()
    waited = threading.Event()

    def sleep(seconds: float) -> None:
        waited.set()
        other.release()

    monkeypatch.setattr(deployment.time, "sleep", sleep)
    run = run_dag(watcher_of("version_new_deployment"))
    monkeypatch.undo()
    assert waited.is_set()
    assert states(run)["run"] == "success"
    (acquire,) = [ti for ti in run.get_task_instances() if ti.task_id == "acquire"]
    assert acquire.try_number == 1


def test_a_run_makes_the_fingerprint_if_the_task_that_began_to_make_it_has_died(
    run_dag, redis_client: Client, new_deployment: None, monkeypatch
) -> None:
    from airflow.models.variable import Variable

    monkeypatch.setattr(deployment, "MADE_WITHIN", 4.0)
    dead = Lease(redis_client, "iam-watcher:fingerprint:test", "a task that died", ttl=60)
    assert dead.acquire()
    sleep, waited = time.sleep, threading.Event()

    def sleep_until_it_expires(seconds: float) -> None:
        if not waited.is_set():
            waited.set()
            redis_client.pexpire(dead.key, 2000)
        sleep(seconds)

    monkeypatch.setattr(deployment.time, "sleep", sleep_until_it_expires)
    run = run_dag(watcher_of("version_dead_maker"))
    monkeypatch.undo()
    assert waited.is_set()
    assert states(run)["run"] == "success"
    (acquire,) = [ti for ti in run.get_task_instances() if ti.task_id == "acquire"]
    assert acquire.try_number == 1
    assert Variable.get(FINGERPRINT, default_var=None)


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"from": "a newer version"}, "success"),
        ({"database_lock": None}, "success"),
        ({"owner": None}, "failed"),
    ],
)
def test_a_grant_of_another_version_works_or_is_refused_clearly(
    run_dag, redis_client: Client, monkeypatch, capsys, caplog, changed: dict[str, Any], state: str
) -> None:
    """None: the other version didn't write it."""
    own = Grant.to_xcom

    def of_another_version(grant: Grant) -> dict[str, Any]:
        value = own(grant) | changed
        return {name: value[name] for name in value if value[name] is not None}

    monkeypatch.setattr(Grant, "to_xcom", of_another_version)
    dag = watcher_of(f"version_{'_'.join(changed)}")
    for name in ("look", "release"):
        dag.get_task(name).retries = 0
    run = run_dag(dag)
    assert (states(run)["look"], states(run)["run"]) == (state, state)
    if state == "failed":
        logged = caplog.text + capsys.readouterr().out
        assert "another version of iam-watcher wrote what 'acquire' of this run returned" in logged
        assert "missing required field `owner`" in logged
    else:
        assert redis_client.get("clean") is None
