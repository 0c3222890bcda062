"""The time to acquire and release a free lock: our Lease and redis-py's Lock."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from redis.lock import Lock  # noqa: TID253  Airflow doesn't parse this

from bench.harness import Result, interleaved, ratio
from dev.servers import Redis
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis as Client

TTL = 60.0
TIMES = 100
ROUNDS = 75


def measure(folder: Path) -> list[Result]:
    """Return the time of our Lease divided by the time of redis-py's Lock."""
    with Redis(folder) as server, server.client() as client:
        _ours(client)
        _redis_py(client)
        figures = interleaved({"ours": lambda: _ours(client), "redis-py": lambda: _redis_py(client)}, ROUNDS)
    ours, theirs = figures["ours"], figures["redis-py"]
    detail = f"{statistics.median(ours):.0f} against {statistics.median(theirs):.0f} µs"
    return [Result("acquire + release / redis-py Lock", ratio(ours, theirs), at_most=1.3, detail=detail)]


def _ours(client: Client) -> float:
    lease = Lease(client, "ours", "deployment/dag_id/scheduled__2026-01-01T00:00:00+00:00", ttl=TTL)
    began = time.perf_counter()
    for _ in range(TIMES):
        if not (lease.acquire() and lease.release()):
            raise AssertionError("a free lock was not acquired and released")
    return (time.perf_counter() - began) / TIMES * 1e6


def _redis_py(client: Client) -> float:
    lock = Lock(client, "redis-py", timeout=TTL)
    began = time.perf_counter()
    for _ in range(TIMES):
        if not lock.acquire(blocking=False):
            raise AssertionError("a free lock was not acquired")
        lock.release()
    return (time.perf_counter() - began) / TIMES * 1e6
