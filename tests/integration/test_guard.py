"""What a task finds that begins under a lock: its own run's, another's, or one that was freed early."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from iam_watcher.errors import LockBusy
from iam_watcher.lock import guard
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from redis import Redis as Client

TASK = "work/-1"
PLUGINS = Path(__file__).parents[2] / "plugins"


def grant_of(owner: str, on_busy: str) -> Grant:
    return Grant(
        key="clean",
        owner=owner,
        redis_conn_ids=["iam_redis"],
        ttl=60,
        on_busy=on_busy,
        max_hold=None,
        database_lock=True,
        tick="",
        tick_kept=0,
    )


@pytest.mark.parametrize("on_busy", ["skip", "fail"])
def test_another_run_at_work_in_a_task_of_the_same_name(redis_client: Client, on_busy) -> None:
    """Its mark is no predecessor's: there is nothing to wait for. Skipped, the work would look done."""
    holder = Lease(redis_client, "clean", "a/dag/run", ttl=60)
    assert holder.acquire()
    assert holder.enter(TASK, "a's try", heartbeat_ttl=60)
    grant = grant_of("b/dag/run", on_busy)
    lease = Lease(redis_client, grant.key, grant.owner, ttl=60)
    began = time.monotonic()
    with pytest.raises(LockBusy, match="held by a/dag/run"):
        guard._acquire(lease, grant, TASK, "b's try")
    assert time.monotonic() - began < guard.PREDECESSOR_GONE_WITHIN / 2
    assert holder.holder().busy == (TASK,)


def test_a_retry_whose_predecessor_does_not_end(redis_client: Client, monkeypatch) -> None:
    monkeypatch.setattr(guard, "PREDECESSOR_GONE_WITHIN", 0.0)
    lease = Lease(redis_client, "clean", "a/dag/run", ttl=60)
    assert lease.enter(TASK, "first try", heartbeat_ttl=60)
    with pytest.raises(AirflowException, match="A retry waits for it again; if it hangs, end it on its"):
        guard._enter(lease, TASK, "second try")


def test_a_task_that_was_forced_out_is_not_tried_again(redis_client: Client) -> None:
    grant = grant_of("b/dag/run", "skip")
    lease = Lease(redis_client, grant.key, grant.owner, ttl=60)
    assert lease.acquire()
    assert lease.revoke(lease.owner, "{}")
    with pytest.raises(AirflowFailException, match="released by force"):
        guard._acquire(lease, grant, TASK, "b's second try")


@pytest.mark.parametrize(("max_hold", "ttl"), [(None, 360), (600, 360), (100, 100)])
def test_a_lease_for_a_pause_lasts_max_hold_at_most(redis_client: Client, max_hold, ttl: float) -> None:
    grant = replace(grant_of("a/dag/run", "skip"), max_hold=max_hold)
    assert grant.lease([redis_client], pause=300).ttl == ttl
    assert grant.lease([redis_client]).ttl == grant.ttl


def test_the_last_process_of_a_holder_that_was_forced_out(redis_client: Client) -> None:
    holder = Lease(redis_client, "clean", "a/dag/run", ttl=60)
    assert holder.acquire()
    assert holder.enter(TASK, "a's try", heartbeat_ttl=1)
    assert holder.revoke(holder.owner, "{}")
    grant = grant_of("b/dag/run", "skip")
    lease = Lease(redis_client, grant.key, grant.owner, ttl=60)
    began = time.monotonic()
    guard._acquire(lease, grant, TASK, "b's try")
    assert time.monotonic() - began > 0.5
    assert lease.holder().owner == grant.owner
    assert lease.holder().busy == (TASK,)


@pytest.mark.parametrize(("mode", "pause"), [("reschedule", 300.0), ("poke", 0.0)])
def test_only_a_sensor_in_mode_reschedule_pauses(mode: str, pause: float) -> None:
    assert guard._pause(BaseSensorOperator(task_id="wait", mode=mode, poke_interval=300)) == pause


DEATH_SIGNAL = """
import ctypes
from iam_watcher.lock import guard
guard.is_in_process = lambda: {in_process}
guard._die_with_parent()
signal = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(signal))  # PR_GET_PDEATHSIG
print(signal.value)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
@pytest.mark.parametrize(("in_process", "number"), [(False, signal.SIGKILL), (True, 0)])
def test_a_task_dies_with_its_supervisor_but_a_dags_test_not_with_its_shell(
    in_process: bool, number: int
) -> None:
    script = DEATH_SIGNAL.format(in_process=in_process)
    done = subprocess.run([sys.executable, "-c", script], cwd=PLUGINS, capture_output=True, check=True)
    assert int(done.stdout) == number
