"""Runs whose task `acquire` finds the lock held, has to wait for it, or can't have it.

Each outcome of `acquire` is a whole run with its own Watcher: hence the length.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from airflow.sdk import task

from dev.sessions import wait_until
from iam_watcher import Lock, Watcher
from iam_watcher.lock import sensor as sensor_module
from iam_watcher.lock.admin.force_release import force_release
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.sensor import RedisLockSensor
from iam_watcher.watcher_dag import LOCK_TASK
from tests.dags.runs import BRIEF, look, states, xcom

if TYPE_CHECKING:
    from redis import Redis as Client

    from dev.servers import Redis


def test_a_busy_lock_skips_and_names_the_holder(run_dag, redis_client: Client, caplog) -> None:
    redis_client.set("clean", "x7Qy", px=600_000)
    with Watcher("run_busy", schedule=None, lock=BRIEF) as dag:
        look()
    run = run_dag(dag)
    assert states(run) == {"acquire": "skipped", "look": "skipped", "release": "skipped", "run": "success"}
    holder = xcom(run, "acquire", "holder")
    assert (holder["owner"], holder["deployment"], holder["since"]) == ("x7Qy", "unknown (Go)", None)
    assert redis_client.get("clean") == b"x7Qy"


def test_a_busy_lock_fails_if_it_should(run_dag, redis_client: Client) -> None:
    redis_client.set("clean", "x7Qy", px=600_000)
    lock = Lock("clean", wait=timedelta(0), on_busy="fail")
    with Watcher("run_busy_fail", schedule=None, lock=lock) as dag:
        look()
    run = run_dag(dag)
    assert states(run)["acquire"] == "failed"
    assert states(run)["look"] == "upstream_failed"
    assert states(run)["run"] == "failed"
    assert next(ti for ti in run.get_task_instances() if ti.task_id == "acquire").try_number == 1
    assert xcom(run, "acquire", "holder")["owner"] == "x7Qy"


def test_the_lock_is_waited_for(run_dag, redis_client: Client) -> None:
    redis_client.set("clean", "x7Qy", px=700)
    with Watcher("run_wait", schedule=None, lock=Lock("clean", wait=timedelta(seconds=20))) as dag:
        look()
    assert states(run_dag(dag))["look"] == "success"


def test_redis_out_of_reach_is_a_failure_and_not_busy(
    run_dag, redis_client: Client, monkeypatch, caplog, capsys
) -> None:
    from dev.processes import free_port

    monkeypatch.setitem(LOCK_TASK, "retry_delay", timedelta(0))
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"redis://127.0.0.1:{free_port()}")
    with Watcher("run_no_redis", schedule=None, lock=BRIEF, default_args={"retries": 0}) as dag:
        look()
    run = run_dag(dag)
    assert states(run)["acquire"] == "failed"
    assert states(run)["run"] == "failed"
    assert xcom(run, "acquire", "holder") is None
    assert "Redis can't be asked for the lock" in caplog.text + capsys.readouterr().out


@pytest.mark.parametrize("deployment", ["", "a/b", "a b", "x" * 65])
def test_a_deployment_without_a_proper_id_does_nothing(
    run_dag, redis_client: Client, monkeypatch, deployment: str, caplog, capsys
) -> None:
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID", deployment)
    with Watcher("run_no_id", schedule=None, lock=BRIEF) as dag:
        look()
    run = run_dag(dag)
    assert states(run)["acquire"] == "failed"
    assert states(run)["run"] == "failed"
    assert redis_client.get("clean") is None
    assert "AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID" in caplog.text + capsys.readouterr().out


def test_an_acquire_that_fails_after_it_got_the_lock_gives_it_back(
    run_dag, redis_client: Client, monkeypatch
) -> None:
    def fail(holder):
        raise RuntimeError

    monkeypatch.setattr("iam_watcher.lock.sensor._as_xcom", fail)
    monkeypatch.setitem(LOCK_TASK, "retry_delay", timedelta(0))
    with Watcher("run_leak", schedule=None, lock=BRIEF, default_args={"retries": 0}) as dag:
        look()
    assert states(run_dag(dag))["acquire"] == "failed"
    assert redis_client.get("clean") is None


def test_a_long_wait_is_left_to_the_triggerer(run_dag, redis_client: Client, caplog) -> None:
    redis_client.set("clean", "x7Qy", px=600_000)
    with Watcher("run_defer", schedule=None, lock=Lock("clean", wait=timedelta(minutes=2))) as dag:
        look()

    def free_once_a_run_waits() -> None:
        wait_until(lambda: redis_client.zcard("{clean}:queue"), 60)
        redis_client.delete("clean")

    with ThreadPoolExecutor() as pool:
        pool.submit(free_once_a_run_waits)
        run = run_dag(dag)
    assert states(run)["look"] == "success"
    assert "running trigger in line" in caplog.text
    assert redis_client.zcard("{clean}:queue") == 0


def test_a_long_wait_ends_at_its_deadline(run_dag, redis_client: Client, monkeypatch) -> None:
    redis_client.set("clean", "x7Qy", px=600_000)
    monkeypatch.setattr("iam_watcher.lock.sensor.LONGEST_POLLING", 0.5)
    with Watcher("run_deadline", schedule=None, lock=Lock("clean", wait=timedelta(seconds=2))) as dag:
        look()
    run = run_dag(dag)
    assert states(run)["acquire"] == "skipped"
    assert xcom(run, "acquire", "holder")["owner"] == "x7Qy"
    assert redis_client.zcard("{clean}:queue") == 0


@pytest.mark.parametrize("arguments", [{}, {"overlap": "allow", "max_active_runs": 2}], ids=["skip", "allow"])
def test_a_run_leaves_no_key_that_never_expires(run_dag, redis_client: Client, arguments: dict) -> None:
    @task
    def everlasting() -> list[str]:
        return [name.decode() for name in redis_client.scan_iter() if redis_client.pttl(name) < 0]

    with Watcher("run_keys", schedule="@daily", lock=BRIEF, **arguments) as dag:
        everlasting()
    run = run_dag(dag)
    assert states(run)["everlasting"] == "success"
    assert xcom(run, "everlasting") == []
    for name in redis_client.scan_iter(match="{clean*"):
        key = name.decode()[1:].partition("}")[0]
        assert Lease(redis_client, key, "b", ttl=60).acquire()
        force_release([redis_client], key, by="ops", reason="to leave a history")
    left = {name.decode(): redis_client.pttl(name) for name in redis_client.scan_iter()}
    assert any(name.endswith(":history") for name in left)
    assert all(ms > 0 for ms in left.values()), left


@pytest.mark.parametrize("wait", [0, 1])
def test_no_run_is_skipped_for_a_lock_that_no_one_holds(
    run_dag, redis_client: Client, monkeypatch, wait: int
) -> None:
    """A holder died together with those who waited, and nobody tells its run."""
    owners = [f"dead-{number}" for number in range(4)]
    for owner in owners:
        Lease(redis_client, "clean", owner, ttl=60).queue(time.time() + 3600)
    last_looks = dict.fromkeys(owners, int(time.time() * 1000) + 60_000)
    redis_client.zadd("{clean}:heartbeats", last_looks)
    original, looks = RedisLockSensor._check_wanted, []

    def pass_away(self) -> None:
        looks.append(redis_client.get("clean"))
        if len(looks) == 3:
            redis_client.zadd("{clean}:heartbeats", dict.fromkeys(owners, 1))
        original(self)

    monkeypatch.setattr(RedisLockSensor, "_check_wanted", pass_away)
    with Watcher("run_free", schedule=None, lock=Lock("clean", wait=timedelta(seconds=wait))) as dag:
        look()
    assert states(run_dag(dag)) == dict.fromkeys(("acquire", "look", "release", "run"), "success")
    assert looks[:3] == [None] * 3


def test_who_is_first_may_come_after_the_deadline_of_the_next(
    run_dag, redis_client: Client, redis_server: Redis, monkeypatch
) -> None:
    """Woken from the triggerer, its task needs a while to start: the next one is not told "held by None"."""
    first = Lease(redis_client, "clean", "first", ttl=60)
    first.queue(time.time() + 60)
    redis_client.zadd("{clean}:heartbeats", {"first": int(time.time() * 1000) + 15_000})
    original, looks = RedisLockSensor._check_wanted, []

    def come_at_last(self) -> None:
        looks.append(redis_client.get("clean"))
        if len(looks) == 5:
            with redis_server.client() as client:
                assert Lease(client, "clean", "first", ttl=60).acquire()
        original(self)

    monkeypatch.setattr(RedisLockSensor, "_check_wanted", come_at_last)
    with Watcher("run_second", schedule=None, lock=BRIEF) as dag:
        look()
    run = run_dag(dag)
    assert states(run)["acquire"] == "skipped"
    assert xcom(run, "acquire", "holder")["owner"] == "first"
    assert len(looks) >= 5


def test_a_free_lock_is_taken_if_those_who_are_first_never_come(
    run_dag, redis_client: Client, monkeypatch
) -> None:
    monkeypatch.setattr("iam_watcher.lock.sensor.OTHERS_COME_WITHIN", 0.3)
    Lease(redis_client, "clean", "first", ttl=60).queue(time.time() + 60)
    redis_client.zadd("{clean}:heartbeats", {"first": int(time.time() * 1000) + 60_000})
    with Watcher("run_at_last", schedule=None, lock=BRIEF) as dag:
        look()
    assert states(run_dag(dag))["look"] == "success"


def test_another_airflow_with_our_id_is_refused(
    run_dag, redis_client: Client, monkeypatch, caplog, capsys
) -> None:
    with Watcher("run_twin", schedule=None, lock=BRIEF) as dag:
        look()
    assert states(run_dag(dag))["run"] == "success"
    monkeypatch.setenv("AIRFLOW_VAR_IAM_WATCHER_FINGERPRINT", "of another metadata database")
    run = run_dag(dag)
    assert states(run)["acquire"] == "failed"
    assert next(ti for ti in run.get_task_instances() if ti.task_id == "acquire").try_number == 1
    assert "another Airflow uses the id 'test'" in caplog.text + capsys.readouterr().out
    assert redis_client.get("clean") is None


def test_a_wait_that_is_not_longer_than_the_polling_needs_no_triggerer(
    redis_client: Client, monkeypatch
) -> None:
    monkeypatch.setattr("iam_watcher.lock.sensor.LONGEST_POLLING", 0.1)
    redis_client.set("clean", "x7Qy", px=600_000)
    grant = Grant("clean", "b/dag/run", ["iam_redis"], 60.0)
    lease = grant.lease([redis_client])
    assert not lease.acquire()
    sensor = RedisLockSensor(task_id="acquire", lock=Lock("clean", wait=timedelta(seconds=0.1)))
    assert not sensor.per_tick
    assert not sensor._wait(lease, grant)


def test_a_lock_is_held_as_long_as_another_owner_has_it(redis_client: Client) -> None:
    lease, other = (Lease(redis_client, "clean", owner, ttl=60) for owner in "ab")
    assert other.acquire()
    assert not lease.acquire()
    assert sensor_module._is_held(lease)
    assert other.release()
    assert not sensor_module._is_held(lease), "it came free after it was found busy"
    other.queue(time.time() + 60)
    assert not lease.acquire()
    assert lease.verdict == "queued"
    assert not sensor_module._is_held(lease)
    assert other.acquire()
    assert not sensor_module._is_held(lease), "the next try finds it busy"


def test_acquire_says_since_when_a_lock_is_held_as_a_text(redis_client: Client) -> None:
    lease = Lease(redis_client, "clean", "a/dag/run", ttl=60)
    assert lease.acquire()
    holder = lease.holder()
    since = sensor_module._as_xcom("clean", holder, lease)["since"]
    assert datetime.fromisoformat(since) == holder.since


def test_acquire_says_who_did_a_tick_that_is_done(redis_client: Client) -> None:
    redis_client.set("{clean}:tick:t1", "prod/dag/run/7")
    lease = Lease(redis_client, "clean", "b/dag/run", ttl=60, tick="t1")
    assert not lease.acquire()
    assert sensor_module._as_xcom("clean", None, lease) == {
        "key": "clean",
        "owner": "prod/dag/run/7",
        "deployment": "prod",
        "since": None,
        "done": True,
    }


@pytest.mark.parametrize("verdict", ["revoked", "done", "max_hold"])
def test_a_run_that_can_never_get_the_lock_leaves_the_queue(redis_client: Client, verdict: str) -> None:
    """Woken by the triggerer, it is still in the queue, and the next ones would wait for its turn to pass."""
    grant = Grant("clean", "b/dag/run", ["iam_redis"], 60.0, "skip", 60.0, True, "t1", 60.0)
    lease, other = grant.lease(), Lease(redis_client, "clean", "c/dag/run", ttl=60)
    lease.queue(time.time() + 60)
    if verdict == "revoked":
        redis_client.zadd("{clean}:revoked", {grant.owner: int(time.time() * 1000) + 60_000})
    elif verdict == "done":
        redis_client.set("{clean}:tick:t1", "a/dag/run")
    else:
        redis_client.set("clean", grant.owner, px=600_000)
        redis_client.hset("{clean}:info", mapping={"owner": grant.owner, "since": 1, "ttl": 60_000})
    assert not lease.acquire()
    assert lease.verdict == verdict
    sensor = RedisLockSensor(task_id="acquire", lock=Lock("clean", wait=timedelta(minutes=1)))
    assert not sensor._wait(lease, grant)
    assert lease.verdict == verdict
    redis_client.delete("clean")
    assert other.acquire(), other.verdict


@pytest.mark.parametrize("state", ["failed", "success", None])
def test_a_sensor_that_a_person_ended_as_it_took_the_lock_gives_it_back(
    run_dag, redis_client: Client, monkeypatch, state: str | None, caplog, capsys
) -> None:
    """Its process learns of it at its next heartbeat only."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    original, ended = RedisLockSensor._check_wanted, []

    def end(self) -> None:
        ended.append(redis_client.get("clean"))
        with create_session() as session:
            ours = TaskInstance.dag_id == dag.dag_id, TaskInstance.task_id == "acquire"
            session.execute(update(TaskInstance).where(*ours).values(state=state))
        original(self)

    monkeypatch.setattr(RedisLockSensor, "_check_wanted", end)
    with Watcher("run_ended", schedule=None, lock=BRIEF, default_args={"retries": 0}) as dag:
        look()
    run_dag(dag)
    assert ended[0].startswith(b"test/run_ended/")
    assert redis_client.get("clean") is None
    assert f"this task is {state!r} now; expected 'running'" in caplog.text + capsys.readouterr().out


def test_a_sensor_that_is_stopped_does_not_take_the_lock_any_more(
    run_dag, redis_client: Client, redis_server: Redis, monkeypatch
) -> None:
    """As by "mark failed": its process goes on for some seconds after that."""
    redis_client.set("clean", "x7Qy", px=600_000)
    original = RedisLockSensor._check_wanted

    def stop_and_free(self) -> None:
        self.on_kill()
        with redis_server.client() as client:
            client.delete("clean")
        original(self)

    monkeypatch.setattr(RedisLockSensor, "_check_wanted", stop_and_free)
    with Watcher("run_stopped", schedule=None, lock=Lock("clean", wait=timedelta(seconds=8))) as dag:
        look()
    assert states(run_dag(dag))["acquire"] == "failed"
    assert redis_client.get("clean") is None
    assert redis_client.zcard("{clean}:queue") == 0


def test_a_sensor_that_is_stopped_as_it_takes_the_lock_gives_it_back(
    run_dag, redis_client: Client, monkeypatch
) -> None:
    original = RedisLockSensor._check_wanted

    def stop(self) -> None:
        assert redis_client.get("clean") is not None
        self.on_kill()
        original(self)

    monkeypatch.setattr(RedisLockSensor, "_check_wanted", stop)
    with Watcher("run_stopped_late", schedule=None, lock=BRIEF) as dag:
        look()
    assert states(run_dag(dag))["acquire"] == "failed"
    assert redis_client.get("clean") is None
