"""The lock under two real Airflows: five of the rows of docs/lock.md; test_lock_faults.py has the others."""

from __future__ import annotations

import os
import secrets
import signal
import time

# Of all limits here, those in seconds stand in docs/lock.md or in the issue; waiting itself is patient.


def test_normal_two_deployments_same_tick(pair, until):
    dag_id = "any_same_tick"
    # The first tick must come to both.
    until(lambda: 1 < time.time() % 30 < 22, "the time between two ticks")
    for airflow in (pair.a, pair.b):
        airflow.pause(dag_id, False)
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
    for airflow in (pair.a, pair.b):
        airflow.pause(dag_id)
    assert run.task_state() == "success"
    assert len([writer for writer in pair.record.writers(dag_id) if writer.run_id == run.id]) == 1


def test_go_side_holds_the_lock(pair):
    with pair.redis.client() as client:
        # What redsync does.
        assert client.set("any_go", secrets.token_urlsafe(), nx=True, px=7_200_000)
    run = pair.a.trigger("any_go")
    run.wait("success")
    assert run.task_state() == "skipped"
    assert run.holder()["deployment"] == "unknown (Go)"
    assert pair.record.writers("any_go") == []


def test_work_kill_9(pair):
    dag_id = "any_killed"
    run = pair.a.trigger(dag_id)
    first = pair.record.writer(run)
    other = pair.b.trigger(dag_id)
    os.kill(first.pid, signal.SIGKILL)
    killed = time.time()
    second = pair.record.writer(run, attempt=2)
    retried = pair.record.steps_of(second)[0] - killed
    print(f"retried after {retried:.1f} s")
    pair.record.tell(dag_id, "end")
    run.wait("success")
    other.wait("success")
    assert retried <= 15
    assert [writer.id for writer in pair.record.writers(dag_id)][:2] == [first.id, second.id]
    pair.record.assert_one_at_a_time(dag_id)


def test_mark_failed_in_mid_work(pair, ended_by_a_person):
    run, first = ended_by_a_person("any_marked", "mark_failed")
    run.wait("failed")
    assert [w.attempt for w in pair.record.writers("any_marked") if w.deployment == "a"] == [first.attempt]


def test_work_sigstopped_past_its_lease_then_sigcont(pair, until):
    dag_id = "table_stopped"
    pair.record.make_table(dag_id)
    run = pair.a.trigger(dag_id)
    first = pair.record.writer(run)
    other = pair.b.trigger(dag_id)
    os.kill(first.pid, signal.SIGSTOP)
    stopped = time.time()
    try:
        second = pair.record.writer(other)
        took_over = pair.record.steps_of(second)[0] - stopped
        print(f"the other worked after {took_over:.1f} s")
        steps = len(pair.record.steps_of(first))
    finally:
        os.kill(first.pid, signal.SIGCONT)
    run.wait("failed")
    assert run.task()["try_number"] == 1
    assert "LockLost" in run.log()
    pair.record.tell(dag_id, "end")
    other.wait("success")
    assert len(pair.record.steps_of(first)) == steps
    pair.record.assert_one_at_a_time(dag_id)
