"""The lock under two real Airflows: five of the rows of docs/lock.md; test_lock_faults.py has the others."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time

import pytest

pytestmark = pytest.mark.e2e

logger = logging.getLogger(__name__)

TICK = 20  # seconds


@pytest.fixture(scope="module")
def at_work(pair, until):
    """Work that the tests disturb. All of it begins at once: each process takes seconds to start."""
    pair.record.make_table("table_stopped")
    runs = {dag_id: pair.a.trigger(dag_id) for dag_id in ("any_killed", "any_marked", "table_stopped")}
    # The first tick must come to both.
    until(lambda: 0.5 < time.time() % TICK < TICK - 5, "the time between two ticks")
    for airflow in (pair.a, pair.b):
        airflow.pause("any_same_tick", False)
    return runs


def test_go_side_holds_the_lock(pair, at_work):
    with pair.redis.client() as client:
        # What redsync does.
        assert client.set("any_go", secrets.token_urlsafe(), nx=True, px=7_200_000)
    run = pair.a.trigger("any_go")
    run.wait("success")
    assert run.task_state() == "skipped"
    assert run.holder()["deployment"] == "unknown (Go)"
    assert pair.record.writers("any_go") == []


def test_work_kill_9(pair, at_work):
    run = at_work["any_killed"]
    first = pair.record.writer(run)
    other = pair.b.trigger("any_killed")
    os.kill(first.pid, signal.SIGKILL)
    killed = time.time()
    second = pair.record.writer(run, after=first)
    retried = pair.record.steps_of(second)[0] - killed
    logger.info("row=kill_9 retried=%.1fs", retried)
    pair.record.tell("any_killed", "end")
    run.wait("success")
    other.wait("success")
    assert retried <= 15
    assert [w.deployment for w in pair.record.writers("any_killed") if w.id <= second.id] == ["a", "a"]
    pair.record.assert_one_at_a_time("any_killed")


def test_mark_failed_in_mid_work(at_work, ended_by_a_person):
    run = at_work["any_marked"]
    ended_by_a_person(run, "mark_failed")
    run.wait("failed")


def test_work_sigstopped_past_its_lease_then_sigcont(pair, at_work):
    dag_id = "table_stopped"
    run = at_work[dag_id]
    first = pair.record.writer(run)
    other = pair.b.trigger(dag_id)
    os.kill(first.pid, signal.SIGSTOP)
    stopped = time.time()
    try:
        second = pair.record.writer(other)
        logger.info("row=sigstop other_works=%.1fs", pair.record.steps_of(second)[0] - stopped)
        steps = len(pair.record.steps_of(first))
    finally:
        os.kill(first.pid, signal.SIGCONT)
    run.wait("failed")
    assert run.task()["try_number"] == first.attempt
    assert "LockLost" in run.log()
    pair.record.tell(dag_id, "end")
    other.wait("success")
    assert len(pair.record.steps_of(first)) == steps
    pair.record.assert_one_at_a_time(dag_id)


def test_normal_two_deployments_same_tick(pair, at_work, until):
    dag_id = "any_same_tick"
    worker = until(lambda: pair.record.writers(dag_id), "someone works")[0]
    one, other = (pair.a, pair.b) if worker.deployment == "a" else (pair.b, pair.a)
    run = next(run for run in one.scheduled(dag_id) if run.id == worker.run_id)
    skipped = until(lambda: other.scheduled(dag_id), "the same tick in the other deployment")[0]
    assert skipped.id == run.id
    skipped.wait("success")
    assert skipped.task_state() == "skipped"
    assert skipped.holder()["owner"] == run.owner
    pair.record.tell(dag_id, "end")
    run.wait("success")
    for airflow in (one, other):
        airflow.pause(dag_id)
    assert run.task_state() == "success"
    assert [w.deployment for w in pair.record.writers(dag_id) if w.run_id == run.id] == [one.name]
