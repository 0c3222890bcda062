"""The lock under two real Airflows: the events of docs/what-happens-when.md that test_lock.py leaves out.

All tests share two Airflows, which take a minute to start: hence the length.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from iam_watcher.lock.admin.force_release import force_release
from tests.e2e.deployments import until

pytestmark = pytest.mark.e2e
logger = logging.getLogger(__name__)

LEASE = 10  # seconds
RENEWAL = 2  # seconds: the work notices within one that its lease is lost
KILL_AFTER = 5  # seconds between SIGTERM and the end of work that doesn't stop itself
SLACK = 1.5  # seconds that this machine may be late

KINDS = pytest.mark.parametrize("kind", ["any", "table"])


@pytest.fixture
def begin(pair):
    """A function that starts a run in `a` and waits until it works."""

    def begin(dag_id):
        if dag_id.startswith("table_"):
            pair.record.make_table(dag_id)
        run = pair.a.trigger(dag_id)
        return run, pair.record.writer(run)

    return begin


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_work_raises(pair):
    dag_id = "any_raises"
    pair.record.tell(dag_id, "raise")
    pair.unpause(dag_id)
    first = until(lambda: pair.record.writers(dag_id), "someone works")[0]
    one, other = (pair.a, pair.b) if first.deployment == "a" else (pair.b, pair.a)
    pair.record.tell(dag_id, "end", other.name)
    run = next(run for run in one.scheduled(dag_id) if run.id == first.run_id)
    until(lambda: run.task_state() == "failed", "the work fails")
    failed = time.time()
    until(lambda: pair.value(dag_id) != run.owner, "the lock is freed")
    logger.info("row=raises released=%.1fs", time.time() - failed)
    run.wait("failed")
    same = next(run for run in other.scheduled(dag_id) if run.id == first.run_id)
    same.wait("success")
    for airflow in (one, other):
        airflow.pause(dag_id)
    assert same.task_state() == "success"
    assert run.task_state("release") == "success"
    writers = [w.deployment for w in pair.record.writers(dag_id) if w.run_id == run.id]
    assert writers == [one.name, other.name]


@KINDS
def test_supervisor_kill_9(pair, begin, kind):
    dag_id = f"{kind}_supervisor"
    run, first = begin(dag_id)
    killed = time.time()
    os.kill(parent(first.pid), signal.SIGKILL)
    until(lambda: not alive(first.pid), "the orphan ends", 2)
    second = pair.record.writer(run, after=first)
    logger.info("row=supervisor retried=%.1fs", pair.record.steps_of(second)[0] - killed)
    pair.record.tell(dag_id, "end")
    run.wait("success")
    pair.record.assert_one_at_a_time(dag_id)
    assert pair.record.last_step(first) < killed + SLACK


@KINDS
def test_scheduler_kill_9(pair, begin, kind):
    dag_id = f"{kind}_scheduler"
    run, first = begin(dag_id)
    killed = time.time()
    pair.a.processes["scheduler"].kill()
    pair.a.start(["scheduler"])
    second = pair.record.writer(run, after=first)
    logger.info(
        "row=scheduler last_step=%.1fs retried=%.1fs",
        pair.record.last_step(first) - killed,
        pair.record.steps_of(second)[0] - killed,
    )
    pair.record.tell(dag_id, "end")
    run.wait("success")
    pair.record.assert_one_at_a_time(dag_id)
    assert not alive(first.pid)


def test_mark_failed_in_mid_work_of_a_table_job(pair, begin, ended_by_a_person):
    run, _ = begin("table_marked")
    ended_by_a_person(run, "mark_failed")
    run.wait("failed")


def test_mark_failed_while_the_supervisor_hangs(pair, begin):
    dag_id = "any_hung"
    run, first = begin(dag_id)
    supervisor = parent(first.pid)
    os.kill(supervisor, signal.SIGSTOP)
    try:
        run.mark_failed()
        run.wait("running", "release")
        other = pair.b.trigger(dag_id)
        other.wait("running", "acquire")
        seen = len(pair.record.steps_of(first))
        # Five seconds, in which the release would have been done.
        until(
            lambda: len(pair.record.steps_of(first)) >= seen + 25 or not alive(first.pid), "the work goes on"
        )
        pair.record.assert_one_at_a_time(dag_id)
        assert pair.value(dag_id) == run.owner
    finally:
        os.kill(supervisor, signal.SIGCONT)
    until(lambda: pair.value(dag_id) != run.owner, "the lock is freed")
    assert not alive(first.pid)
    run.wait("failed")
    pair.record.tell(dag_id, "end")
    other.wait("success")
    pair.record.assert_one_at_a_time(dag_id)


@KINDS
def test_clear_in_mid_work(pair, begin, kind):
    dag_id = f"{kind}_cleared"
    run, first = begin(dag_id)
    run.clear()
    cleared = time.time()
    second = pair.record.writer(run, after=first)
    last = pair.record.last_step(first)
    logger.info(
        "row=clear last_step=%.1fs again=%.1fs", last - cleared, pair.record.steps_of(second)[0] - cleared
    )
    pair.record.tell(dag_id, "end")
    run.wait("success")
    assert last - cleared <= 15
    assert pair.record.last_step(first) == last
    pair.record.assert_one_at_a_time(dag_id)


def test_force_released_in_mid_work_of_a_table_job(pair, begin):
    run, first, _, freed = forced_out(pair, begin, "table_forced")
    assert pair.record.last_step(first) - freed <= RENEWAL + SLACK
    pair.record.assert_one_at_a_time("table_forced")
    assert "released by force" in run.log()


def test_force_released_in_mid_work_of_any_other_task(pair, begin):
    _, first, second, _ = forced_out(pair, begin, "any_forced")
    overlap = pair.record.last_step(first) - pair.record.steps_of(second)[0]
    assert overlap <= RENEWAL + KILL_AFTER


def forced_out(pair, begin, dag_id):
    run, first = begin(dag_id)
    other = pair.b.trigger(dag_id)
    other.wait("running", "acquire")
    with pair.redis.client() as client:
        found = force_release([client], dag_id, by="a test", reason="to see what happens")
    freed = time.time()
    assert found.owner == run.owner
    second = pair.record.writer(other)
    run.wait("failed")
    pair.record.tell(dag_id, "end")
    other.wait("success")
    last, began = pair.record.last_step(first), pair.record.steps_of(second)[0]
    logger.info("row=forced %s last_step=%.1fs other_works=%.1fs", dag_id, last - freed, began - freed)
    return run, first, second, freed


@pytest.mark.parametrize("lost", [False, True])
def test_paused_between_acquire_and_work_for_longer_than_the_lease(pair, lost):
    dag_id = "any_paused_lost" if lost else "any_paused"
    with pair.redis.client() as client:
        client.set(dag_id, "someone", px=60_000)
        run = pair.a.trigger(dag_id)
        run.wait("running", "acquire")
        pair.a.pause(dag_id)
        client.delete(dag_id)
    run.wait("success", "acquire")
    assert pair.value(dag_id) == run.owner
    until(lambda: not pair.value(dag_id), "the lease ends")
    if lost:
        other = pair.b.trigger(dag_id)
        writer = pair.record.writer(other)
    pair.a.pause(dag_id, False)
    if lost:
        run.wait("failed")
        assert run.task_state() == "failed"
        assert pair.record.writers(dag_id) == [writer]
    else:
        pair.record.writer(run)
        assert pair.value(dag_id) == run.owner
    pair.record.tell(dag_id, "end")
    (other if lost else run).wait("success")


def test_triggerer_kill_9_while_waiting(pair):
    dag_id = "any_triggerer"
    pair.a.start(["triggerer"])
    pair.a.wait_healthy()
    with pair.redis.client() as client:
        client.set(dag_id, "someone", px=600_000)
        run = pair.a.trigger(dag_id)

        def triggerer():
            return (run.task("acquire")["trigger"] or {}).get("triggerer_id")

        first = until(triggerer, "a triggerer waits")
        deadline = client.zscore(f"{{{dag_id}}}:deadlines", run.owner)
        pair.a.processes["triggerer"].kill()
        killed = time.time()
        pair.a.start(["triggerer"])
        until(
            lambda: (run.task("acquire")["trigger"] or {}).get("triggerer_id") not in (first, None), "another"
        )
        logger.info("row=triggerer taken_over=%.1fs", time.time() - killed)
        assert client.zscore(f"{{{dag_id}}}:deadlines", run.owner) == deadline
        # As a Go holder does it: no message tells.
        client.delete(dag_id)
    freed = time.time()
    pair.record.writer(run)
    logger.info("row=triggerer works=%.1fs", time.time() - freed)
    pair.record.tell(dag_id, "end")
    run.wait("success")


def test_deferred_for_longer_than_the_lease(pair):
    dag_id = "any_deferred"
    if "triggerer" not in pair.a.processes:
        pair.a.start(["triggerer"])
    run = pair.a.trigger(dag_id)
    run.wait("deferred", "work")
    deferred, holders = time.time(), set()

    def back():
        holders.add(pair.value(dag_id))
        return run.task_state() != "deferred"

    until(lambda: back() or time.time() > deferred + LEASE + 2, "the first lease would be over")
    other = pair.b.trigger(dag_id)
    other.wait("success")
    assert other.task_state() == "skipped"
    assert other.holder()["owner"] == run.owner
    until(back, "the work is back")
    assert holders == {run.owner}
    run.wait("success")
    assert pair.value(dag_id) == ""


@KINDS
def test_redis_restarted_empty(pair, begin, kind):
    dag_id = f"{kind}_emptied"
    run, first = begin(dag_id)
    pair.redis.restart()
    emptied = time.time()
    until(lambda: pair.value(dag_id) == run.owner, "the holder takes it again")
    logger.info("row=emptied taken_again=%.1fs", time.time() - emptied)
    other = pair.b.trigger(dag_id)
    other.wait("success")
    assert other.task_state() == "skipped"
    assert other.holder()["owner"] == run.owner
    pair.record.tell(dag_id, "end")
    run.wait("success")
    assert [writer.id for writer in pair.record.writers(dag_id)] == [first.id]


@KINDS
def test_redis_gone_for_longer_than_the_lease(pair, begin, kind):
    dag_id = f"{kind}_redis_gone"
    run, first = begin(dag_id)
    pair.redis.stop()
    gone = time.time()
    try:
        other = pair.b.trigger(dag_id)
        run.wait("failed", "work")
        other.wait("failed")
    finally:
        pair.redis.start()
    run.wait("failed")  # `release` is retried until Redis is back.
    stopped = pair.record.last_step(first) - gone
    logger.info("row=redis_gone last_step=%.1fs", stopped)
    assert stopped <= LEASE + (0 if kind == "table" else KILL_AFTER)
    assert "did not answer" in run.log()
    assert [writer.id for writer in pair.record.writers(dag_id)] == [first.id]


def test_clocks_30_seconds_apart(pair):
    dag_id = "any_clocks"
    pair.record.tell(dag_id, "end")
    pair.b.stop()
    pair.b.env |= {"CLOCK_AHEAD": "30", "PYTHONPATH": str(Path(__file__).parent / "clock")}
    pair.b.start(["api-server", "scheduler", "dag-processor"])
    pair.b.wait_healthy()
    pair.unpause(dag_id)

    def done(airflow):
        return {run.id: run for run in airflow.scheduled(dag_id) if run.state() == "success"}

    def both():
        return sorted(done(pair.a).keys() & done(pair.b).keys())

    ticks = until(lambda: len(both()) >= 2 and both(), "two ticks in both", 240)
    for airflow in (pair.a, pair.b):
        airflow.pause(dag_id)
    assert [w.run_id for w in pair.record.writers(dag_id) if w.run_id in ticks] == ticks
    for run_id in ticks:
        assert {done(pair.a)[run_id].task_state(), done(pair.b)[run_id].task_state()} == {
            "success",
            "skipped",
        }
    # The clock that is ahead comes first, and the other names it.
    assert done(pair.a)[ticks[-1]].holder()["deployment"] == "b"
