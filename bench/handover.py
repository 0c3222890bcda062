"""A lock with waiters: how fast the next waiter gets it, and whether all waiters get it equally often.

Our waiters wait in two ways: as deferred sensors, which RedisLockTriggers wake in one event loop, and as
sensors with a short wait, which poll. The other locks block in acquire: redis-py's Lock polls every 0.1 s,
and python-redis-lock is woken through a list.

Hand-over: the time from the call of release to the end of the waiter's acquire.

Fairness: sixteen waiters, each in a thread, acquire the lock, hold it for 2 ms and release it, again and
again. Jain's index is 1 if all waiters got the lock equally often, and 1/16 if one waiter always got it (R.
Jain, D. Chiu, W. Hawe, "A Quantitative Measure of Fairness", 1984).
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bench.harness import Result, interleaved, ratio
from dev.servers import Redis
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.sensor import POLL
from iam_watcher.lock.trigger import RedisLockTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from redis import Redis as Client

CONTENDERS = 16
SECONDS = 5.0
HANDOVERS = 25
UNTIL_RELEASE = (0.05, 0.15)
ROUNDS = 3
HOLD = 0.002
TTL = 60.0


class Blocking(Protocol):
    """The interface of the other locks."""

    def acquire(self) -> bool:
        """Wait for the lock."""

    def release(self) -> Any:
        """Release the lock."""


def measure(folder: Path) -> list[Result]:
    """Return latencies and fairness."""
    with Redis(folder) as server, server.client() as client, _event_loop() as loop:
        os.environ["AIRFLOW_CONN_IAM_REDIS"] = server.airflow_uri
        kinds: dict[str, Callable[[int], Blocking]] = {
            "woken": lambda number: _Woken(client, number, loop),
            "polling": lambda number: _Ours(client, "polling", number),
            "redis-py": lambda _: client.lock("redis-py", timeout=TTL),
            "python-redis-lock": lambda _: _python_redis_lock(client),
        }
        latency = interleaved({name: partial(_handover, make) for name, make in kinds.items()}, ROUNDS)
        fair = interleaved({name: partial(_fairness, make) for name, make in kinds.items()}, ROUNDS)
    ms = {name: statistics.median(found) * 1000 for name, found in latency.items()}
    index = {name: statistics.median(found) for name, found in fair.items()}
    return [
        *(
            Result(
                f"hand-over to a woken waiter / {peer}",
                ratio(latency["woken"], latency[peer]),
                at_most=target,
                detail=f"{ms['woken']:.1f} against {ms[peer]:.1f} ms",
            )
            for peer, target in (("redis-py", 0.25), ("python-redis-lock", 5.0))
        ),
        Result("hand-over to a polling waiter, ms", ms["polling"], at_most=POLL[1] * 1000),
        *(
            Result(
                f"fairness, {kind} / {peer}",
                ratio(fair[kind], fair[peer]),
                at_least=target,
                detail=f"{index[kind]:.3f} against {index[peer]:.3f}",
            )
            for kind, target in (("woken", 0.99), ("polling", 0.95))
            for peer in ("redis-py", "python-redis-lock")
        ),
    ]


def _handover(make: Callable[[int], Blocking]) -> float:
    """Return the median of the seconds from a release to the waiter's acquisition."""
    holder, waiter = make(0), make(1)
    acquired: list[float] = []

    def wait() -> None:
        waiter.acquire()
        acquired.append(time.monotonic())
        waiter.release()  # here: redis-py's Lock is its thread's

    found = []
    for _ in range(HANDOVERS):
        holder.acquire()
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(random.uniform(*UNTIL_RELEASE))  # noqa: S311  not in step with a poll
        released = time.monotonic()
        holder.release()
        thread.join()
        found.append(acquired[-1] - released)
    return statistics.median(found)


def _fairness(make: Callable[[int], Blocking]) -> float:
    """Return Jain's index of how often each waiter got the lock."""
    counts = [0] * CONTENDERS
    until = time.monotonic() + SECONDS

    def contend(number: int) -> None:
        lock = make(number)
        while time.monotonic() < until:
            lock.acquire()
            time.sleep(HOLD)
            counts[number] += 1
            lock.release()

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(CONTENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return float(sum(counts) ** 2 / (CONTENDERS * sum(count * count for count in counts)))


class _Ours:
    """One waiter. Each of its acquisitions has its own owner, as each run of a Watcher has."""

    def __init__(self, client: Client, key: str, number: int) -> None:
        self._client, self._key, self._number, self._turn = client, key, number, 0
        self._lease = self._next()

    def _next(self) -> Lease:
        self._turn += 1
        return Lease(self._client, self._key, f"{self._number}/{self._turn}", ttl=TTL)

    def acquire(self) -> bool:
        while not self._lease.acquire():
            self._wait(self._lease, self._lease.queue(time.time() + TTL))
        return True

    def _wait(self, lease: Lease, deadline: float) -> None:  # noqa: ARG002  for those that are woken
        time.sleep(random.uniform(*POLL))  # noqa: S311  jitter, not a secret

    def release(self) -> None:
        self._lease.release()
        self._lease = self._next()


class _Woken(_Ours):
    def __init__(self, client: Client, number: int, triggerer: asyncio.AbstractEventLoop) -> None:
        super().__init__(client, "woken", number)
        self._triggerer = triggerer

    def _wait(self, lease: Lease, deadline: float) -> None:
        waiter = RedisLockTrigger(
            key=lease.key, owner=lease.owner, redis_conn_ids=["iam_redis"], deadline=deadline
        )

        async def wait() -> None:
            await anext(aiter(waiter.run()))

        asyncio.run_coroutine_threadsafe(wait(), self._triggerer).result()


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread of its own, as a triggerer does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _python_redis_lock(client: Client) -> Blocking:
    import redis_lock  # what only `make bench` installs

    lock: Blocking = redis_lock.Lock(client, "python-redis-lock", expire=int(TTL))
    return lock
