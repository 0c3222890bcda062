"""Whole runs of Watchers by `dag.test()`, on a real Redis and a real MariaDB.

Each test is a whole run with its own Watcher: hence the length.
"""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import BaseOperator, BaseSensorOperator, PokeReturnValue, task
from airflow.triggers.base import BaseTrigger, TriggerEvent

from dev.sessions import wait_until
from iam_watcher import Lock, Watcher
from iam_watcher.lock import current, guard, release, renewal
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.sensor import RedisLockSensor
from tests.dags.runs import BRIEF, look, states, xcom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis import Redis as Client

    from dev.servers import Redis


def test_success(run_dag, redis_client: Client) -> None:
    with Watcher("run_success", schedule=None, lock=BRIEF) as dag:
        look()
    run = run_dag(dag)
    assert states(run) == {"acquire": "success", "look": "success", "release": "success", "run": "success"}
    seen = xcom(run, "look")
    assert seen["owner"] == f"test/run_success/{seen['run_id']}"
    assert seen["busy"] == ["look/-1"]
    holder = xcom(run, "acquire", "holder")
    assert (holder["key"], holder["owner"], holder["deployment"]) == ("clean", seen["owner"], "test")
    assert holder["since"]
    assert redis_client.get("clean") is None


def test_work_that_fails_is_a_failed_run_and_a_free_lock(run_dag, redis_client: Client) -> None:
    with Watcher("run_failure", schedule=None, lock=BRIEF, default_args={"retries": 0}) as dag:
        BashOperator(task_id="work", bash_command="exit 3")
    run = run_dag(dag)
    assert states(run) == {"acquire": "success", "work": "failed", "release": "success", "run": "failed"}
    assert redis_client.get("clean") is None


def test_mapped_and_parallel_tasks_each_work_under_the_lock(run_dag, redis_client: Client) -> None:
    with Watcher("run_mapped", schedule=None, lock=BRIEF) as dag:

        @task
        def each(x: int) -> list[str]:
            from iam_watcher.lock import current

            return list(current._renewer.lease.holder().busy)

        each.expand(x=[1, 2])
        look()
    run = run_dag(dag)
    assert set(states(run).values()) == {"success"}
    assert redis_client.get("clean") is None


def test_a_task_that_does_not_stop_by_itself_has_a_thread_that_ends_it(
    run_dag, redis_client: Client, monkeypatch
) -> None:
    threads: list[str] = []
    with Watcher("run_ended_in_time", schedule=None, lock=BRIEF) as dag:

        @task
        def work() -> None:
            names = [thread.name for thread in threading.enumerate()]
            threads.extend(name for name in names if name.startswith("lease-renewal"))

        work()
    monkeypatch.setattr(guard, "_die_with_parent", lambda: threads.append("bound to its supervisor"))
    run_dag(dag)
    assert threads == ["bound to its supervisor", "lease-renewal-clean", "lease-renewal-clean"]


def test_a_task_that_the_skip_does_not_reach_does_not_run_without_the_lock(
    run_dag, redis_client: Client
) -> None:
    redis_client.set("clean", "x7Qy", px=600_000)
    with Watcher("run_all_done", schedule=None, lock=BRIEF) as dag:
        first = BashOperator(task_id="first", bash_command="true")
        first >> look.override(trigger_rule="all_done")()
    assert states(run_dag(dag)) == {
        "acquire": "skipped",
        "first": "skipped",
        "look": "skipped",
        "release": "skipped",
        "run": "success",
    }


def test_work_whose_acquire_a_person_marked_as_successful_is_no_green_run(
    run_dag, redis_client: Client, caplog, capsys
) -> None:
    with Watcher("run_marked", schedule=None, lock=BRIEF) as dag:
        look()
    run = run_dag(dag, mark_success_pattern="acquire|release")
    assert (states(run)["look"], states(run)["run"]) == ("failed", "failed")
    assert "Clear `acquire`" in caplog.text + capsys.readouterr().out
    assert redis_client.get("clean") is None


def test_the_lock_is_taken_over_between_acquire_and_work(
    run_dag, redis_client: Client, redis_server: Redis
) -> None:
    """As when the DAG was paused in between for longer than the lease. A skip would be a green run."""

    class Slow(RedisLockSensor):
        def execute(self, context):
            granted = super().execute(context)
            with redis_server.client() as client:
                client.set("clean", "x7Qy", px=600_000)
            return granted

    with Watcher("run_taken", schedule=None, lock=BRIEF, default_args={"retries": 0}) as dag:
        look()
    dag.task_dict["acquire"].__class__ = Slow
    assert states(run_dag(dag)) == {
        "acquire": "success",
        "look": "failed",
        "release": "success",
        "run": "failed",
    }
    assert redis_client.get("clean") == b"x7Qy"


def test_a_retry_that_finds_the_lock_busy_is_no_green_run(run_dag, redis_client: Client) -> None:
    with Watcher("run_retry_busy", schedule=None, lock=BRIEF) as dag:

        @task(retries=1, retry_delay=timedelta(0))
        def work() -> None:
            redis_client.set("clean", "x7Qy", px=600_000)
            raise RuntimeError

        work()
    run = run_dag(dag)
    assert (states(run)["work"], states(run)["run"]) == ("failed", "failed")
    assert next(ti for ti in run.get_task_instances() if ti.task_id == "work").try_number == 2


class Outside(BaseTrigger):
    """What a deferred task waits for: something that is done elsewhere, under its lock."""

    scene: ClassVar[Callable[[], Awaitable[Any]]]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{type(self).__name__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(await type(self).scene())


class Deferring(BaseOperator):
    """It goes to the triggerer, and then returns what that gave it and who is at work."""

    def execute(self, context) -> None:
        self.defer(trigger=Outside(), method_name="complete")

    def complete(self, context, event) -> dict[str, Any]:
        return {"there": event, "here": list(current._renewer.lease.holder().busy)}


def test_a_deferred_task_keeps_its_lock(run_dag, redis_client: Client, monkeypatch) -> None:
    monkeypatch.setattr(renewal, "RENEW_EVERY", 0.05)

    async def renewed() -> dict[str, Any]:
        assert current._renewer is None
        assert "lease-renewal-clean" not in {thread.name for thread in threading.enumerate()}
        for _ in range(3):
            redis_client.pexpire("clean", 5000)
            redis_client.delete("{clean}:busy")
            assert await asyncio.to_thread(wait_until, lambda: redis_client.pttl("clean") > 30_000, 15)
        holder = Lease(redis_client, "clean", "observer", ttl=60).holder()
        return {"owner": holder.owner, "busy": list(holder.busy)}

    monkeypatch.setattr(Outside, "scene", renewed, raising=False)
    with Watcher("run_deferred", schedule=None, lock=BRIEF) as dag:
        Deferring(task_id="work")
    run = run_dag(dag)
    assert set(states(run).values()) == {"success"}
    there = {"owner": f"test/run_deferred/{run.run_id}", "busy": ["work/-1"]}
    assert xcom(run, "work") == {"there": there, "here": ["work/-1"]}
    assert redis_client.get("clean") is None


@pytest.mark.parametrize("noticed", [True, False])
def test_a_deferred_task_that_loses_its_lock_fails(
    run_dag, redis_client: Client, monkeypatch, noticed: bool, caplog, capsys
) -> None:
    """By the triggerer, or else by the process that goes on with it; skipped it would be a green run."""
    monkeypatch.setattr(renewal, "RENEW_EVERY", 0.05 if noticed else 3600.0)

    async def lose() -> None:
        redis_client.set("clean", "x7Qy", px=600_000)
        if noticed:
            await asyncio.Event().wait()

    monkeypatch.setattr(Outside, "scene", lose, raising=False)
    with Watcher("run_deferred_lost", schedule=None, lock=BRIEF, default_args={"retries": 0}) as dag:
        Deferring(task_id="work")
    run = run_dag(dag)
    assert (states(run)["work"], states(run)["run"]) == ("failed", "failed")
    said = "another run acquired it" if noticed else "is held by unknown (Go)"
    assert said in caplog.text + capsys.readouterr().out
    assert redis_client.get("clean") == b"x7Qy"


def test_the_lock_of_a_sensor_in_mode_reschedule_outlives_its_pauses(run_dag, redis_client: Client) -> None:
    class Once(BaseSensorOperator):
        def poke(self, context) -> PokeReturnValue:
            return PokeReturnValue(is_done=True, xcom_value=redis_client.pttl("clean"))

    with Watcher("run_reschedule", schedule=None, lock=BRIEF) as dag:
        Once(task_id="pausing", mode="reschedule", poke_interval=300) >> Once(task_id="polling")
    run = run_dag(dag)
    assert set(states(run).values()) == {"success"}
    assert 300_000 < xcom(run, "pausing") <= 360_000
    assert redis_client.get("clean") is None


def test_release_goes_by_what_acquire_did_and_not_by_the_file(run_dag, redis_client: Client) -> None:
    with Watcher("run_edited", schedule=None, lock=BRIEF) as dag:

        @task
        def edit() -> None:
            dag.task_dict["acquire"].lock = Lock("another")
            dag.lock = Lock("another")

        edit()
    assert states(run_dag(dag))["release"] == "success"
    assert redis_client.get("clean") is None


def test_a_quorum_of_three_does_without_one(run_dag, tmp_path, monkeypatch) -> None:
    from contextlib import ExitStack

    from dev.servers import Redis as Server

    with ExitStack() as stack:
        servers = [stack.enter_context(Server(tmp_path / str(n), name=f"q{n}")) for n in range(3)]
        for number, server in enumerate(servers):
            monkeypatch.setenv(f"AIRFLOW_CONN_LOCK_{number}", server.airflow_uri)
        servers[0].stop()
        conn_ids = [f"lock_{number}" for number in range(3)]
        lock = Lock("clean", redis_conn_id=conn_ids, wait=timedelta(0))
        with Watcher("run_quorum", schedule=None, lock=lock) as dag:
            look()
        assert set(states(run_dag(dag)).values()) == {"success"}


def test_runs_beside_each_other_have_a_key_for_each_tick(run_dag, redis_client: Client) -> None:
    with Watcher("run_allow", schedule="@every 1d", overlap="allow", max_active_runs=2, lock=BRIEF) as dag:
        look()
    run = run_dag(dag)
    assert xcom(run, "acquire", "holder")["key"] == f"clean:{run.run_after:%Y-%m-%dT%H:%M:%S.%f}Z"
    assert set(states(run).values()) == {"success"}


def test_the_default_key_is_the_watchers_own(run_dag, redis_client: Client) -> None:
    with Watcher("run_default_key", schedule=None) as dag:
        look()
    assert xcom(run_dag(dag), "acquire", "holder")["key"] == "iam-watcher:run_default_key"


@pytest.mark.parametrize("has_safe_points", [True, False])
def test_the_lock_is_lost_in_mid_work(
    run_dag, redis_client: Client, redis_server: Redis, monkeypatch, has_safe_points: bool
) -> None:
    monkeypatch.setattr(renewal, "RENEW_EVERY", 0.05)
    with Watcher("run_lost", schedule=None, lock=BRIEF, default_args={"retries": 0}) as dag:
        if has_safe_points:

            @task
            def work() -> None:
                import time

                redis_client.set("clean", "x7Qy", px=600_000)
                for _ in range(300):
                    time.sleep(0.05)
                    current.safe_point()

            work().operator.has_safe_points = True
        else:
            BashOperator(
                task_id="work",
                bash_command=f"redis-cli -p {redis_server.port} set clean x7Qy px 60000 && sleep 60",
                env={"REDISCLI_AUTH": redis_server.password},
                append_env=True,
            )
    run = run_dag(dag)
    assert states(run)["work"] == "failed"
    assert states(run)["run"] == "failed"
    assert redis_client.get("clean") == b"x7Qy"


def test_other_operators_see_templates_as_in_any_dag(run_dag, redis_client: Client) -> None:
    """As Python values, `env` would get a number, and "1.10" be 1.1."""
    params = {"n": 3, "version": "1.10"}
    with Watcher("run_texts", schedule=None, lock=BRIEF, params=params) as dag:
        BashOperator(
            task_id="work",
            bash_command='echo "$N $VERSION"',
            env={"N": "{{ params.n }}", "VERSION": "{{ params.version }}"},
            append_env=True,
        )
    assert xcom(run_dag(dag), "work") == "3 1.10"


@pytest.mark.parametrize(("log_every", "lines"), [(3600.0, 1), (0.0, 3)])
def test_release_says_at_once_and_again_what_it_waits_for(
    run_dag, redis_client: Client, monkeypatch, caplog, log_every: float, lines: int
) -> None:
    """Here for another process of the run, which a person ended in Airflow and which still works."""
    seen: list[str] = []
    with Watcher("run_release_waits", schedule=None, lock=BRIEF) as dag:

        @task
        def work() -> None:
            lease = current._renewer.lease
            seen.append(lease.owner)
            assert lease.enter("other/-1", "of another process", heartbeat_ttl=60)

        work()

    def sleep(seconds: float) -> None:
        seen.append("slept")
        if seen.count("slept") == 3:
            Lease(redis_client, "clean", seen[0], ttl=60).leave("other/-1", "of another process")

    monkeypatch.setattr(release.time, "sleep", sleep)
    monkeypatch.setattr(release, "WAITING_EVERY", log_every)
    assert states(run_dag(dag))["run"] == "success"
    logged = [record for record in caplog.messages if "waiting for tasks that still work" in record]
    assert len(logged) == lines
    assert all("tasks=other/-1" in line for line in logged)
    assert redis_client.get("clean") is None
