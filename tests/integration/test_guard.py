"""What a task finds that begins under a lock: its own run's, another's, or one that was freed early."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.errors import LockBusy
from iam_watcher.lock import guard
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from redis import Redis as Client

TASK = "work/-1"


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
