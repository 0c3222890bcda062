"""A deployment of the version before holds, or waits for, the same lock during an upgrade."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis as Client

    from dev.servers import Redis
    from iam_watcher.lock.lease import Lease

    MakeLease = Callable[..., Lease]


@pytest.fixture
def clients(servers: list[Redis]) -> Iterator[list[Client]]:
    """Servers on which `old` holds the lock and `old-waiter` waits, as the version before wrote it."""
    made = [server.client() for server in servers]
    now = int(time.time() * 1000)
    for client in made:
        client.set("clean", "old", px=60_000)
        client.hset("{clean}:info", mapping={"owner": "old", "since": now, "ttl": 60_000})
        client.zadd("{clean}:waiters", {"old-waiter": now})
        client.hset("{clean}:until", "old-waiter", now + 60_000)
        client.hset("{clean}:offer", mapping={"owner": "old-waiter", "until": now + 15_000})
    yield made
    for client in made:
        client.close()


def test_its_lock_is_held(clients: list[Client], make_lease: MakeLease) -> None:
    lease = make_lease("new")
    assert not lease.acquire()
    assert lease.verdict == "busy"
    assert lease.holder().owner == "old"
    assert not lease.release()


def test_its_run_goes_on_under_the_lock_that_it_has(clients: list[Client], make_lease: MakeLease) -> None:
    run, teardown = make_lease("old"), make_lease("old")
    assert run.heartbeat("work/-1", "try-1", heartbeat_ttl=5) == "renewed"
    assert run.acquire()
    assert run.verdict == "held"
    run.leave("work/-1", "try-1")
    assert teardown.release()
    assert not any(client.get("clean") for client in clients)


def test_its_lock_is_released_without_having_been_acquired_anew(
    clients: list[Client], make_lease: MakeLease
) -> None:
    assert make_lease("old").release()


def test_its_queue_blocks_nobody(clients: list[Client], make_lease: MakeLease) -> None:
    for client in clients:
        client.delete("clean")
    assert make_lease("new").acquire()
    for client in clients:
        assert client.zscore("{clean}:waiters", "old-waiter"), "it is for that version to read"


def test_what_it_leaves_of_an_earlier_owner_gives_nobody_the_lock(
    clients: list[Client], make_lease: MakeLease
) -> None:
    """It writes owner, since and ttl, and leaves what this version wrote beside them."""
    for client in clients:
        client.delete("clean", "{clean}:info")
    first, run, teardown, other = (make_lease(owner) for owner in ("new", "old", "old", "other"))
    assert first.acquire()
    assert first.release()
    for client in clients:
        client.set("clean", "old", px=60_000)
        client.hset("{clean}:info", mapping={"owner": "old", "since": 1, "ttl": 60_000})
    assert not first.release()
    assert not other.acquire()
    assert run.renew()
    assert teardown.release()
    assert other.acquire()
