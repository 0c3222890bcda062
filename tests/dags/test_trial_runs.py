"""Runs that are a trial: `dag.test()` with tasks marked or without Redis, and `airflow tasks test`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import task

from dev.processes import free_port
from iam_watcher import Lock, Watcher
from iam_watcher.errors import LockError
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.lock import current, trial_run
from iam_watcher.lock.lease import Lease
from iam_watcher.testing import without_locks
from tests.dags.runs import BRIEF, states, xcom

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG
    from redis import Redis as Client

    from dev.servers import MariaDB


@pytest.fixture
def tasks_test(store_dag, monkeypatch) -> Callable[..., None]:
    """`airflow tasks test`, in this process."""
    from airflow.cli.cli_parser import get_parser
    from airflow.cli.commands.task_command import task_test

    def command(dag: DAG, task_id: str, *arguments: str) -> None:
        monkeypatch.setenv("AIRFLOW_TEST_MODE", "")  # so that it is taken back
        store_dag(dag)
        task_test(get_parser().parse_args(["tasks", "test", dag.dag_id, task_id, *arguments]), dag=dag)

    return command


def looking(
    dag_id: str, seen: list[str], *, fails: bool = False, lock: Lock = BRIEF, **arguments: Any
) -> Watcher:
    with Watcher(dag_id, schedule=None, lock=lock, **arguments) as dag:

        @task
        def work() -> None:
            current.safe_point()
            seen.append(current._renewer.lease.holder().owner)
            if fails:
                raise RuntimeError("the work failed")

        work()
    return dag


@pytest.mark.parametrize("fails", [False, True])
def test_tasks_test_runs_the_task_under_the_lock_and_leaves_none(
    tasks_test, redis_client: Client, fails: bool
) -> None:
    seen: list[str] = []
    tasks_test(looking(f"trial_tasks_test_{fails}", seen, fails=fails), "work")
    (owner,) = seen
    assert owner.startswith(f"test/trial_tasks_test_{fails}/__airflow_temporary_run_")
    assert redis_client.get("clean") is None
    assert redis_client.exists("{clean}:busy") == 0


def test_task_params_of_tasks_test_that_are_no_params_are_refused(
    tasks_test, redis_client: Client, capsys, caplog
) -> None:
    seen: list[str] = []
    dag = looking("trial_params", seen, params={"dry_run": False})
    tasks_test(dag, "work", "--task-params", '{"dry-run": true}')
    assert (
        "'dry-run' is not a param of this DAG; did you mean 'dry_run'?"
        in caplog.text + capsys.readouterr().out
    )
    assert seen == []
    dag = looking("trial_params", seen, params={"dry_run": False})
    tasks_test(dag, "work", "--task-params", '{"dry_run": true}')
    assert len(seen) == 1


def test_tasks_test_of_a_run_that_is_at_work_is_refused(
    tasks_test, run_dag, redis_client: Client, capsys, caplog
) -> None:
    """It is another owner, though the run is the same: or it would work beside it, and free its lock."""
    seen: list[str] = []
    dag = looking("trial_at_work", seen)
    run = run_dag(dag)
    (owner,) = seen
    lease = Lease(redis_client, "clean", owner, ttl=60)
    assert lease.acquire()
    for name in ("work", "acquire", "release"):
        tasks_test(dag, name, run.run_id)
    assert seen == [owner]
    assert "'clean' is held by test/trial_at_work/" in caplog.text + capsys.readouterr().out
    assert lease.renew()


def test_tasks_test_of_acquire_leaves_no_lock(tasks_test, redis_client: Client, capsys, caplog) -> None:
    tasks_test(looking("trial_acquire", []), "acquire")
    assert "it is released again" in caplog.text + capsys.readouterr().out
    assert redis_client.exists("{clean}:info") == 1
    assert redis_client.get("clean") is None


def test_a_run_that_was_triggered_from_under_the_same_lock_says_so(
    tasks_test, store_dag, redis_client: Client, capsys, caplog
) -> None:
    """`airflow tasks test` runs a task of any run; this one is of the kind that a task triggers."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    dag = looking("trial_child", [])
    store_dag(dag)
    now = datetime.now(UTC)
    with create_session() as session:
        SerializedDagModel.get_dag(dag.dag_id, session=session).create_dagrun(
            run_id="operator_triggered__1",
            run_after=now,
            run_type=DagRunType.OPERATOR_TRIGGERED,
            triggered_by=DagRunTriggeredByType.OPERATOR,
            state="running",
            session=session,
        )
    texts = []
    for owner in ("test/parent/run", "other/parent/run"):
        with Lease(redis_client, "clean", owner, ttl=60):
            tasks_test(dag, "acquire", "operator_triggered__1")
        texts.append(caplog.text + capsys.readouterr().out)
        caplog.clear()
    assert "is held by test/parent/run" in texts[0]
    assert "give the two watchers locks with different keys" in texts[0]
    assert "is held by other/parent/run" in texts[1]
    assert "different keys" not in texts[1]


@pytest.fixture
def no_redis(monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"redis://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID", "")


def test_a_run_without_locks_does_its_work_without_redis(run_dag, no_redis: None) -> None:
    with Watcher("trial_without_locks", schedule=None) as dag:

        @task
        def work() -> str:
            current.safe_point()
            return "done"

        work()
    with without_locks():
        run = run_dag(dag)
    assert states(run) == {"acquire": "success", "work": "success", "release": "skipped", "run": "success"}
    assert xcom(run, "work") == "done"
    run = run_dag(dag)  # Locks are on again.
    assert states(run)["work"] != "success"


def test_a_table_job_works_without_locks(run_dag, no_redis: None, iam_schema: MariaDB) -> None:
    with Watcher("trial_table_job", schedule=None, lock=Lock(wait=timedelta(0))) as dag:
        PurgeRowsOperator(task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=180)
    with without_locks():
        run = run_dag(dag)
    assert states(run)["purge"] == "success"


def test_locks_are_never_off_in_a_task_of_a_worker() -> None:
    with without_locks(), pytest.raises(LockError, match=r"outside of dag.test\(\)"):
        trial_run.locks_are_off()
    assert not trial_run.locks_are_off()
