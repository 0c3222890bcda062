"""An Airflow that is a standby: for how long the runs of its schedule wait before they ask for the lock.

tests/e2e/test_how_do_i.py has two Airflows, of which the first one is gone at some time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from iam_watcher import Lock, Watcher
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.sensor import RedisLockSensor
from iam_watcher.timetables import timetable
from tests.dags.runs import BRIEF, look, states

if TYPE_CHECKING:
    from redis import Redis as Client

DELAY = timedelta(seconds=60)


def ago(seconds: float) -> Any:
    """The context of a run whose scheduled time was so long ago."""
    return {"dag_run": SimpleNamespace(run_after=datetime.now(UTC) - timedelta(seconds=seconds))}


def grant(tick: str = "w:2026-11-27T06:00:00.000000Z") -> Grant:
    return Grant("w", "b/w/scheduled__1", ["iam_redis"], 60.0, tick=tick)


@pytest.fixture
def sensor() -> RedisLockSensor:
    return RedisLockSensor(task_id="acquire", lock=Lock("w"))


def test_the_triggerer_waits_for_the_rest_of_the_delay(sensor: RedisLockSensor) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        sensor._stand_by(ago(20), grant(), DELAY)
    left = deferred.value.trigger.moment - datetime.now(UTC)
    assert timedelta(seconds=35) < left <= timedelta(seconds=40)


@pytest.mark.parametrize(
    ("seconds", "tick", "delay"),
    [
        (60, "a tick", DELAY),  # the delay is over, as after a deferral
        (20, "", DELAY),  # a run that a person triggered, or a dry run
        (20, "a tick", timedelta(0)),  # no standby
    ],
)
def test_no_wait(sensor: RedisLockSensor, seconds: float, tick: str, delay: timedelta) -> None:
    sensor._stand_by(ago(seconds), grant(tick), delay)


def test_a_short_rest_is_waited_for_here_and_ends_when_a_person_ends_the_task(
    sensor: RedisLockSensor,
) -> None:
    context = ago(59.5)
    sensor._stand_by(context, grant(), DELAY)
    assert datetime.now(UTC) >= context["dag_run"].run_after + DELAY
    sensor.on_kill()
    with pytest.raises(AirflowFailException, match="this task was stopped"):
        sensor._stand_by(ago(52), grant(), DELAY)


def test_a_scheduled_run_waits_before_it_asks_for_the_lock(
    redis_client: Client, sensor: RedisLockSensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__STANDBY_DELAY", "60")
    monkeypatch.setenv("AIRFLOW_VAR_IAM_WATCHER_FINGERPRINT", "ours")
    run = SimpleNamespace(dag_id="w", run_id="r", run_type="scheduled", run_after=datetime.now(UTC))
    dag = SimpleNamespace(timetable=timetable("@daily"), tasks=[])
    with pytest.raises(TaskDeferred):
        sensor.execute({"dag_run": run, "dag": dag, "params": {}})
    assert redis_client.get("w") is None


def test_a_run_by_hand_does_not_wait_and_a_wrong_delay_fails_before_it_has_a_lock(
    run_dag, redis_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__STANDBY_DELAY", "100000")
    with Watcher("by_hand", schedule=None, lock=BRIEF) as dag:
        look()
    assert states(run_dag(dag))["look"] == "success"
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__STANDBY_DELAY", "2m")
    with Watcher("wrong_delay", schedule=None, lock=BRIEF) as dag:
        look()
    assert states(run_dag(dag))["acquire"] == "failed"
    assert redis_client.get("clean") is None
