"""A thousand waiters in one triggerer: their memory and CPU time, and the time until they wake.

One process has an event loop with 1,000 RedisLockTriggers, a hundred on each of ten locks. The benchmark
holds the locks, and passes each lock from one waiter to the next.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness import Result
from dev.servers import Redis
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from redis import Redis as Client

LOCKS = 10
WAITERS = 1000
TTL = 600.0
WAITING = 20.0  # seconds of waiting in which nothing happens
WITHIN = 30.0  # seconds for anything to happen


def measure(folder: Path) -> list[Result]:
    """Return memory, processor time and the time to wake."""
    with Redis(folder) as server, server.client() as client:
        os.environ["AIRFLOW_CONN_IAM_REDIS"] = server.airflow_uri
        holders = [Lease(client, f"lock-{number}", "holder", ttl=TTL) for number in range(LOCKS)]
        line = [_Place(client, number) for number in range(WAITERS)]
        for holder in holders:
            if not holder.acquire():
                raise AssertionError("a free lock was not acquired")
        for place in line:
            place.lease.queue(place.deadline)
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        places = [(place.lease.key, place.lease.owner, place.deadline) for place in line]
        arguments = (theirs, places, WAITING)
        process = context.Process(target=_triggerer, args=arguments, daemon=True)
        process.start()
        try:
            memory, share = _receive(ours)
            late = _wake(ours, [*holders, *(place.lease for place in line)])
        finally:
            process.kill()
            process.join()
    slow = statistics.quantiles(late, n=100)[-1]
    return [
        Result("1,000 waiters: memory, MB", memory, at_most=20),
        Result("1,000 waiters: share of a core, %", share * 100, at_most=5),
        Result(
            "1,000 waiters: from a release to the wake, p99, ms",
            slow * 1000,
            at_most=250,
            detail=f"median {statistics.median(late) * 1000:.1f} ms, worst {max(late) * 1000:.1f} ms",
        ),
    ]


class _Place:
    def __init__(self, client: Client, number: int) -> None:
        # Padded, because positions of the same millisecond are in the order of names.
        owner = f"bench/waiter/manual__{number:04}"
        self.lease = Lease(client, f"lock-{number % LOCKS}", owner, ttl=TTL)
        self.deadline = time.time() + TTL


def _wake(pipe: Connection, leases: list[Lease]) -> list[float]:
    """Release one lock after the other. Acquire the lease of each waiter that wakes, and release it later."""
    late = []
    for holder, following in zip(leases, leases[LOCKS:], strict=False):
        released = time.monotonic()
        if not holder.release():
            raise AssertionError(f"{holder.owner} could not release {holder.key}")
        owner, fired = _receive(pipe)
        if owner != following.owner or not following.acquire():
            raise AssertionError(f"{owner} woke in the place of {following.owner}")
        late.append(fired - released)
    return late


def _receive(pipe: Connection) -> Any:
    if not pipe.poll(WAITING + WITHIN):
        raise AssertionError("the waiters' process says nothing")
    return pipe.recv()


def _triggerer(pipe: Connection, places: list[tuple[str, str, float]], waiting: float) -> None:
    """Run as the waiters' process; send what `waiting` seconds cost, in which nothing happens."""
    from iam_watcher.lock.trigger import RedisLockTrigger

    def trigger(key: str, owner: str, deadline: float) -> RedisLockTrigger:
        return RedisLockTrigger(key=key, owner=owner, redis_conn_ids=["iam_redis"], deadline=deadline)

    async def wait(waiter: RedisLockTrigger) -> None:
        await anext(aiter(waiter.run()))
        pipe.send((waiter.owner, time.monotonic()))

    async def run() -> None:
        # One waiter waits already, so that imports and connections don't count.
        first = asyncio.create_task(wait(trigger("lock-0", "the first", time.time() + TTL)))
        await asyncio.sleep(2)
        before = _resident()
        tasks = [asyncio.create_task(wait(trigger(*place))) for place in places]
        await asyncio.sleep(2)
        used, began = time.process_time(), time.monotonic()
        await asyncio.sleep(waiting)
        share = (time.process_time() - used) / (time.monotonic() - began)
        pipe.send((_resident() - before, share))
        await asyncio.gather(*tasks)
        first.cancel()

    asyncio.run(run())


def _resident() -> float:
    """Return the memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
