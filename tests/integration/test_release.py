"""The task `release` on its own: what it stores of the run's tick."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator

from iam_watcher import Watcher
from iam_watcher.errors import LockUnavailable
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.release import ReleaseLockOperator
from iam_watcher.lock.tick import Tick
from iam_watcher.watcher_dag import LOCK_TASK, RELEASE_TASK
from tests.dags.runs import BRIEF, states

if TYPE_CHECKING:
    from redis import Redis as Client

OWNER = "a/dag/run"


@pytest.mark.parametrize(
    ("tick", "work", "done_by"), [("t1", "success", OWNER), ("t1", "failed", None), ("", "success", None)]
)
def test_a_tick_is_stored_as_done_if_there_is_one_and_its_work_succeeded(
    redis_client: Client, tick: str, work: str, done_by: str | None
) -> None:
    grant = Grant("clean", OWNER, ["iam_redis"], 60.0, tick=tick, tick_kept=60.0)
    assert grant.lease([redis_client]).acquire()
    states = {"acquire": "success", "work": work, "release": "running"}
    ti = SimpleNamespace(
        dag_id="dag",
        run_id="run",
        xcom_pull=lambda **_: grant.to_xcom(),
        get_task_states=lambda **_: {"run": states},
    )
    ReleaseLockOperator(task_id="release").execute({"ti": ti, "dag": SimpleNamespace(tasks=[])})
    assert redis_client.get("clean") is None
    assert Lease(redis_client, "clean", "b", ttl=60, tick=tick).tick_done_by() == done_by


def test_a_lock_that_another_run_has_by_now_is_left_alone_at_once(redis_client: Client) -> None:
    grant = Grant("clean", OWNER, ["iam_redis"], 60.0)
    ti = SimpleNamespace(xcom_pull=lambda **_: grant.to_xcom())
    for value in (None, "x7Qy"):
        if value:
            redis_client.set("clean", value, px=60_000)
        ReleaseLockOperator(task_id="release").execute({"ti": ti})
        assert redis_client.get("clean") == (value and value.encode())


MAPPED = [[("id", ">", 0)], [("id", ">", 1)]]


@pytest.mark.parametrize(
    ("arguments", "expanded", "of_the_dag", "done"),
    [
        ({"dry_run": "{{ params.dryRun }}"}, {}, {"params": {"dryRun": True}}, False),
        ({"dry_run": "{{ params.dryRun }}"}, {}, {"params": {"dryRun": False}}, True),
        ({"dry_run": "{{ 1 == 1 }}"}, {}, {}, False),
        ({"dry_run": "{{ 1 == 1 }}", "do_xcom_push": False}, {}, {}, False),
        ({"dry_run": "{{ 1 == 2 }}", "do_xcom_push": False}, {}, {}, True),
        ({"do_xcom_push": False}, {"dry_run": [False, True]}, {}, False),
        ({"dry_run": "{{ params.dry_run }}", "params": {"dry_run": True}}, {}, {}, False),
        ({}, {"where": MAPPED}, {"default_args": {"dry_run": True}}, False),
        ({}, {"where": MAPPED}, {}, True),
        ({}, {"dry_run": [False, True]}, {}, False),
        ({}, {"dry_run": [False, False]}, {}, True),
        ({}, {}, {}, True),
    ],
)
def test_a_run_that_only_its_jobs_know_to_be_dry_leaves_its_tick_to_others(
    run_dag, redis_client: Client, scratch, monkeypatch, arguments, expanded, of_the_dag, done
) -> None:
    monkeypatch.setattr("iam_watcher.lock.grant.tick_of", lambda _: Tick("t1", 60.0))
    scratch.run("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME)")
    options = {"task_id": "purge", "table": "t", "age_column": "at", "older_than": "90d", **arguments}
    with Watcher("run_dry", schedule=None, lock=BRIEF, **of_the_dag) as dag:
        if expanded:
            PurgeRowsOperator.partial(mysql_conn_id="scratch", **options).expand(**expanded)
        else:
            PurgeRowsOperator(mysql_conn_id="scratch", **options)
    run = run_dag(dag)
    assert states(run)["run"] == "success"
    assert redis_client.get("clean") is None
    assert (Lease(redis_client, "clean", "b", ttl=60, tick="t1").tick_done_by() is not None) is done


def test_a_redis_that_restarts_during_the_release_gets_the_tick(
    run_dag, redis_client: Client, monkeypatch
) -> None:
    monkeypatch.setattr("iam_watcher.lock.grant.tick_of", lambda _: Tick("t1", 60.0))
    for options in (LOCK_TASK, RELEASE_TASK):
        for name in {"retry_delay", "max_retry_delay"} & set(options):
            monkeypatch.setitem(options, name, timedelta(0))
    release, calls = Lease.release, []

    def fail_at_first(lease: Lease, **options: float) -> bool:
        calls.append(lease)
        if len(calls) < 6:
            raise LockUnavailable("made by the test")
        return release(lease, **options)

    monkeypatch.setattr(Lease, "release", fail_at_first)
    with Watcher("run_restart", schedule=None, lock=BRIEF) as dag:
        EmptyOperator(task_id="work")
    assert states(run_dag(dag))["release"] == "success"
    assert Lease(redis_client, "clean", "b", ttl=60, tick="t1").tick_done_by() is not None


def test_the_tries_of_a_release_last_longer_than_a_killed_redis_is_away() -> None:
    """149 s, by the table of faults in docs/operate.md."""
    first, factor = LOCK_TASK["retry_delay"], RELEASE_TASK["retry_exponential_backoff"]
    delays = [first * factor**number for number in range(RELEASE_TASK["retries"])]
    assert sum(min(delay, RELEASE_TASK["max_retry_delay"]).seconds for delay in delays) > 149
