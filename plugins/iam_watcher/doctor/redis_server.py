"""The Redis of the locks: is it there, does it keep its keys, has it room, and is its clock right?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.doctor.clocks import check_clock
from iam_watcher.doctor.finding import Finding
from iam_watcher.errors import LockError
from iam_watcher.lock.admin.server_state import clock_ahead, examined, read_state, servers
from iam_watcher.lock.answers import node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from iam_watcher.lock.admin.server_state import ServerState

FULL = 0.9  # of maxmemory


def check_redis(conn_id: str) -> Iterator[Finding]:
    """Check the Redis behind an Airflow connection; of a cluster, each primary.

    Args:
        conn_id: the connection.
    """
    from redis.exceptions import NoPermissionError

    try:
        with examined(conn_id) as client:
            for server in servers(client):
                yield from check_clock(f"the Redis {node(server)}", clock_ahead(server))
                try:
                    yield from _faults(read_state(server))
                except NoPermissionError:
                    yield _without_info(server, conn_id)
    except LockError as error:
        yield Finding(error.facts)


def _faults(state: ServerState) -> Iterator[Finding]:
    redis = f"The Redis {state.name}"
    if state.is_replica:
        yield Finding(
            f"{redis} is a replica, which takes no locks. Name its primary or its Sentinels in the connection"
        )
    if not state.appends:
        yield Finding(
            f"{redis} has no append-only file (appendonly is off), so a restart can lose the locks. "
            "Set appendonly yes"
        )
    for what in state.failed_saves:
        yield Finding(f"{redis} could not write its {what} the last time. Its own log says why")
    if state.policy != "noeviction":
        yield Finding(
            f"{redis} may evict locks when its memory is full (maxmemory-policy is {state.policy}). "
            "Set maxmemory-policy noeviction"
        )
    if state.limit and state.used >= FULL * state.limit:
        yield Finding(
            f"{redis} uses {state.used / state.limit:.0%} of its memory ({state.used} of {state.limit} "
            "bytes). When the memory is full, no lock can be acquired. Raise maxmemory, or remove other data"
        )


def _without_info(server: Redis, conn_id: str) -> Finding:
    return Finding(
        f"The account of the connection {conn_id!r} may not run INFO on the Redis {node(server)}, so its "
        "disk, memory and role are not known. Name a connection whose account may: --redis-conn-id",
        unknown=True,
    )
