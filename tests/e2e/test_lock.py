"""The lock under two real Airflows: events of docs/what-happens-when.md; test_lock_faults.py has more."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
from contextlib import suppress

import pytest

from tests.e2e.deployments import cpu_waits, until

pytestmark = pytest.mark.e2e
logger = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def begun(pair):
    """The runs of all rows begin at once: each process takes seconds to start."""
    pair.record.make_table("table_stopped")
    with pair.redis.client() as client:
        # What redsync does.
        assert client.set("any_go", secrets.token_urlsafe(), nx=True, px=7_200_000)
    runs = {
        dag_id: pair.a.trigger(dag_id) for dag_id in ("table_stopped", "any_killed", "any_marked", "any_go")
    }
    pair.unpause("any_same_tick")
    return runs


@pytest.fixture(scope="module")
def stopped(pair, begun):
    """A writer that is stopped before all other rows, which pass while its lease runs out; and its rival."""
    first = pair.record.writer(begun["table_stopped"])
    rival = pair.b.trigger("table_stopped")
    os.kill(first.pid, signal.SIGSTOP)
    yield first, rival
    with suppress(ProcessLookupError):
        os.kill(first.pid, signal.SIGCONT)


def test_go_side_holds_the_lock(pair, begun, stopped):
    run = begun["any_go"]
    run.wait("success")
    assert run.task_state() == "skipped"
    assert run.holder()["deployment"] == "unknown (Go)"
    assert pair.record.writers("any_go") == []


def test_work_kill_9(pair, begun):
    run = begun["any_killed"]
    first = pair.record.writer(run)
    other = pair.b.trigger("any_killed")
    os.kill(first.pid, signal.SIGKILL)
    killed, waits = time.time(), cpu_waits()
    second = pair.record.writer(run, after=first)
    retried = pair.record.steps_of(second)[0] - killed
    logger.info("row=kill_9 retried=%.1fs cpu_waits=%.1fs", retried, cpu_waits() - waits)
    pair.record.tell("any_killed", "end")
    run.wait("success")
    other.wait("success")
    assert retried <= 15 + cpu_waits() - waits
    assert [w.deployment for w in pair.record.writers("any_killed") if w.id <= second.id] == ["a", "a"]
    pair.record.assert_one_at_a_time("any_killed")


def test_mark_failed_in_mid_work(begun, ended_by_a_person):
    run = begun["any_marked"]
    ended_by_a_person(run, "mark_failed")
    run.wait("failed")


def test_work_sigstopped_past_its_lease_then_sigcont(pair, begun, stopped):
    dag_id = "table_stopped"
    run = begun[dag_id]
    first, rival = stopped
    second = pair.record.writer(rival)
    steps = pair.record.steps_of(first)
    logger.info("row=sigstop other_works=%.1fs", pair.record.steps_of(second)[0] - steps[-1])
    os.kill(first.pid, signal.SIGCONT)
    run.wait("failed")
    assert run.task()["try_number"] == first.attempt
    assert "LockLost" in run.log()
    pair.record.tell(dag_id, "end")
    rival.wait("success")
    assert pair.record.steps_of(first) == steps
    pair.record.assert_one_at_a_time(dag_id)


def test_normal_two_deployments_same_tick(pair, begun):
    dag_id = "any_same_tick"

    def ticks(airflow):
        return {run.id: run for run in airflow.scheduled(dag_id)}

    until(lambda: ticks(pair.a) and ticks(pair.b), "a tick in each")
    if not ticks(pair.a).keys() & ticks(pair.b).keys():
        pair.record.tell(dag_id, "end")  # On a slow machine one of them begins a tick later.
    tick = min(until(lambda: ticks(pair.a).keys() & ticks(pair.b).keys(), "a tick in both"))
    writers = until(lambda: [w for w in pair.record.writers(dag_id) if w.run_id == tick], "someone works")
    one, other = (pair.a, pair.b) if writers[0].deployment == "a" else (pair.b, pair.a)
    run, skipped = ticks(one)[tick], ticks(other)[tick]
    skipped.wait("success")
    assert skipped.task_state() == "skipped"
    assert skipped.holder()["owner"] == run.owner
    pair.record.tell(dag_id, "end")
    run.wait("success")
    for airflow in (one, other):
        airflow.pause(dag_id)
    assert run.task_state() == "success"
    assert [w.deployment for w in pair.record.writers(dag_id) if w.run_id == tick] == [one.name]
