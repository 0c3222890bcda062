"""A run whose task `acquire` waits in line while Redis loses its keys."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from airflow.sdk import task

from dev.sessions import wait_until
from iam_watcher import Lock, Watcher
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from redis import Redis as Client

    from dev.servers import Redis

DEADLINES = "{clean}:deadlines"
PATIENCE = 60.0


def line(client: Client, length: int) -> list[str]:
    """Wait until so many are in the queue, and return them."""
    found: list[bytes] = []

    def complete() -> bool:
        found[:] = client.zrange("{clean}:queue", 0, -1)
        return len(found) == length

    assert wait_until(complete, PATIENCE), found
    return [owner.decode() for owner in found]


def test_who_waits_keeps_place_and_deadline_when_redis_loses_its_keys(
    run_dag, redis_client: Client, redis_server: Redis, monkeypatch
) -> None:
    monkeypatch.setattr("iam_watcher.lock.sensor.LONGEST_POLLING", 120.0)
    redis_client.set("clean", "x7Qy")

    def lose_the_keys() -> None:
        with redis_server.client() as client:
            (first,) = line(client, 1)
            deadline = int(client.zscore(DEADLINES, first))
            with client.pipeline() as together:
                together.flushall().set("clean", "x7Qy").execute()
            rival = Lease(client, "clean", "rival", ttl=60)
            rival.queue(time.time() + 60)
            assert line(client, 2) == [first, "rival"]
            assert int(client.zscore(DEADLINES, first)) == pytest.approx(deadline, abs=1000)
            client.delete("clean")
            while not rival.acquire() and rival.verdict == "queued":
                time.sleep(0.005)
            assert (rival.verdict, rival.holder().owner) == ("busy", first)

    with ThreadPoolExecutor() as pool:
        losing = pool.submit(lose_the_keys)

        @task
        def work() -> None:
            losing.result(PATIENCE)  # The lock stays until it was seen to be held.

        lock = Lock("clean", wait=timedelta(seconds=100))
        with Watcher("run_forgotten", schedule=None, lock=lock, default_args={"retries": 0}) as dag:
            work()
        run = run_dag(dag)
        losing.result()
    assert {ti.task_id: str(ti.state) for ti in run.get_task_instances()} == dict.fromkeys(
        ("acquire", "work", "release"), "success"
    )
