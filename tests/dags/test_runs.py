"""Whole runs of Watchers by `dag.test()`, on a real Redis and a real MariaDB."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import task

from iam_watcher import Lock, Watcher
from iam_watcher.lock.sensor import RedisLockSensor

if TYPE_CHECKING:
    from redis import Redis as Client

    from dev.servers import Redis

BRIEF = Lock("clean", wait=timedelta(0))


def states(run) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()} | {"run": str(run.state)}


def xcom(run, task_id: str, key: str = "return_value"):
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        row = session.scalars(
            XComModel.get_many(run_id=run.run_id, dag_ids=run.dag_id, task_ids=task_id, key=key)
        ).first()
        return None if row is None else XComModel.deserialize_value(row)


@task
def look(context_key: str = "seen") -> dict:
    """Return what Redis says of the lock while the work goes on."""
    from airflow.sdk import get_current_context

    from iam_watcher.lock import keepalive

    keepalive.checkpoint()
    holder = keepalive._current.lease.holder()
    return {"owner": holder.owner, "busy": list(holder.busy), "run_id": get_current_context()["run_id"]}


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


def test_a_busy_lock_skips_and_names_the_holder(run_dag, redis_client: Client, caplog) -> None:
    redis_client.set("clean", "x7Qy", px=60_000)
    with Watcher("run_busy", schedule=None, lock=BRIEF) as dag:
        look()
    run = run_dag(dag)
    assert states(run) == {"acquire": "skipped", "look": "skipped", "release": "skipped", "run": "success"}
    holder = xcom(run, "acquire", "holder")
    assert (holder["owner"], holder["deployment"], holder["since"]) == ("x7Qy", "unknown (Go)", None)
    assert redis_client.get("clean") == b"x7Qy"


def test_a_busy_lock_fails_if_it_should(run_dag, redis_client: Client) -> None:
    redis_client.set("clean", "x7Qy", px=60_000)
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


def test_mapped_and_parallel_tasks_each_work_under_the_lock(run_dag, redis_client: Client) -> None:
    with Watcher("run_mapped", schedule=None, lock=BRIEF) as dag:

        @task
        def each(x: int) -> list[str]:
            from iam_watcher.lock import keepalive

            return list(keepalive._current.lease.holder().busy)

        each.expand(x=[1, 2])
        look()
    run = run_dag(dag)
    assert set(states(run).values()) == {"success"}
    assert redis_client.get("clean") is None


def test_a_task_that_the_skip_does_not_reach_does_not_run_without_the_lock(
    run_dag, redis_client: Client
) -> None:
    redis_client.set("clean", "x7Qy", px=60_000)
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


def test_the_lock_is_taken_over_between_acquire_and_work(
    run_dag, redis_client: Client, redis_server: Redis
) -> None:
    """As when the DAG was paused in between for longer than the lease."""

    class Slow(RedisLockSensor):
        def execute(self, context):
            granted = super().execute(context)
            with redis_server.client() as client:
                client.set("clean", "x7Qy", px=60_000)
            return granted

    with Watcher("run_taken", schedule=None, lock=BRIEF) as dag:
        look()
    dag.task_dict["acquire"].__class__ = Slow
    assert states(run_dag(dag)) == {
        "acquire": "success",
        "look": "skipped",
        "release": "success",
        "run": "success",
    }
    assert redis_client.get("clean") == b"x7Qy"


def test_release_goes_by_what_acquire_did_and_not_by_the_file(run_dag, redis_client: Client) -> None:
    with Watcher("run_edited", schedule=None, lock=BRIEF) as dag:

        @task
        def edit() -> None:
            dag.task_dict["acquire"].lock = Lock("another")
            dag.lock = Lock("another")

        edit()
    assert states(run_dag(dag))["release"] == "success"
    assert redis_client.get("clean") is None


def test_an_acquire_that_fails_after_it_got_the_lock_gives_it_back(
    run_dag, redis_client: Client, monkeypatch
) -> None:
    def fail(holder):
        raise RuntimeError

    monkeypatch.setattr("iam_watcher.lock.sensor._as_xcom", fail)
    with Watcher("run_leak", schedule=None, lock=BRIEF, default_args={"retries": 0}) as dag:
        look()
    assert states(run_dag(dag))["acquire"] == "failed"
    assert redis_client.get("clean") is None


def test_a_long_wait_is_left_to_the_triggerer(run_dag, redis_client: Client, caplog) -> None:
    redis_client.set("clean", "x7Qy", px=3000)
    with Watcher("run_defer", schedule=None, lock=Lock("clean", wait=timedelta(minutes=2))) as dag:
        look()
    run = run_dag(dag)
    assert states(run)["look"] == "success"
    assert "running trigger in line" in caplog.text
    assert redis_client.zcard("{clean}:waiters") == 0


def test_a_long_wait_ends_at_its_deadline(run_dag, redis_client: Client, monkeypatch) -> None:
    redis_client.set("clean", "x7Qy", px=600_000)
    monkeypatch.setattr("iam_watcher.lock.sensor.LONGEST_POLLING", 0.5)
    with Watcher("run_deadline", schedule=None, lock=Lock("clean", wait=timedelta(seconds=2))) as dag:
        look()
    run = run_dag(dag)
    assert states(run)["acquire"] == "skipped"
    assert xcom(run, "acquire", "holder")["owner"] == "x7Qy"
    assert redis_client.zcard("{clean}:waiters") == 0


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
    assert "another Airflow goes by the id 'test'" in caplog.text + capsys.readouterr().out
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


def test_a_sensor_that_is_stopped_does_not_take_the_lock_any_more(
    run_dag, redis_client: Client, redis_server: Redis, monkeypatch
) -> None:
    """As by "mark failed": its process goes on for some seconds after that."""
    redis_client.set("clean", "x7Qy", px=60_000)
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
    assert redis_client.zcard("{clean}:waiters") == 0


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


@pytest.mark.parametrize("stops_itself", [True, False])
def test_the_lock_is_lost_in_mid_work(
    run_dag, redis_client: Client, redis_server: Redis, monkeypatch, stops_itself: bool
) -> None:
    from iam_watcher.lock import keepalive

    monkeypatch.setattr(keepalive, "BEAT", 0.05)
    with Watcher("run_lost", schedule=None, lock=BRIEF, default_args={"retries": 0}) as dag:
        if stops_itself:

            @task
            def work() -> None:
                import time

                redis_client.set("clean", "x7Qy", px=60_000)
                for _ in range(300):
                    time.sleep(0.05)
                    keepalive.checkpoint()

            work().operator.calls_checkpoint = True
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
