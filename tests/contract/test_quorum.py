"""Several independent Redis servers: what holds when some of them are down."""

from __future__ import annotations

import time
from itertools import product
from typing import TYPE_CHECKING

import pytest
from redis import Redis as Client
from redis.exceptions import TimeoutError  # noqa: A004  redis-py's name

from iam_watcher.errors import LockUnavailable
from iam_watcher.lock import renewal
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from dev.servers import Redis


def clients(servers: list[Redis], mask: tuple[bool, ...], closed_port: int) -> list[Client]:
    """Return a client per server; a server that is down is a port that nobody listens on."""
    return [
        Client(
            port=server.port if up else closed_port,
            password=server.password,
            socket_timeout=0.5,
            retry=None,
            single_connection_client=False,
        )
        for server, up in zip(servers, mask, strict=True)
    ]


@pytest.fixture(scope="session")
def closed_port() -> int:
    from dev.processes import free_port

    return free_port()


MASKS = [mask for size in (3, 5) for mask in product([True, False], repeat=size)]


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: "".join("01"[up] for up in mask))
def test_a_majority_decides(mask: tuple[bool, ...], redis_servers: list[Redis], closed_port: int) -> None:
    chosen = redis_servers[: len(mask)]
    for server in chosen:
        with server.client() as client:
            client.flushall()
    ours = Lease(clients(chosen, mask, closed_port), "clean", "a", ttl=5)
    theirs = Lease(clients(chosen, (True,) * len(mask), closed_port), "clean", "b", ttl=5)
    if sum(mask) > len(mask) // 2:
        assert ours.acquire()
        assert ours.holder().owner == "a"
        assert not theirs.acquire()
        assert ours.renew()
        assert ours.release()
    else:
        for question in (
            ours.acquire,
            ours.renew,
            ours.release,
            ours.holder,
            lambda: ours.revoke("a", "{}"),
            lambda: ours.queue(time.time() + 60),
            lambda: ours.enter("work/-1", "try-1", heartbeat_ttl=60),
        ):
            with pytest.raises(LockUnavailable, match=str(closed_port)):
                question()
        ours.unqueue()
    # What a minority was given is given back at once: the others need not wait for a ttl.
    assert theirs.acquire()
    assert theirs.holder().busy == ()


@pytest.mark.parametrize("taken", range(4))
def test_a_minority_that_another_holds_does_not_stop_us(taken: int, redis_servers: list[Redis]) -> None:
    for server in redis_servers:
        with server.client() as client:
            client.flushall()
            if redis_servers.index(server) < taken:
                client.set("clean", "x7Qy", px=5000)
    ours = Lease(clients(redis_servers, (True,) * 5, 0), "clean", "a", ttl=5)
    assert ours.acquire() == (taken <= 2)
    with redis_servers[4].client() as client:
        assert client.get("clean") == (b"a" if taken <= 2 else None)


def lost_answers(client: Client) -> Client:
    """Let the client's commands be done, and their answers be lost."""
    for name in ("evalsha", "eval"):
        original = getattr(client, name)

        def ask(*args, original=original):
            original(*args)
            raise TimeoutError("the answer was lost")

        setattr(client, name, ask)
    return client


def emptied(servers: list[Redis]) -> list[Client]:
    chosen = clients(servers, (True,) * len(servers), 0)
    for client in chosen:
        client.flushall()
    return chosen


@pytest.mark.parametrize("won", [True, False])
def test_what_may_have_been_won_where_no_answer_came_is_given_back_too(
    won: bool, redis_servers: list[Redis]
) -> None:
    ours = emptied(redis_servers[:3])
    for client in ours[1:] if not won else ours[2:]:
        client.set("clean", "x7Qy", px=5000)
    lost_answers(ours[0])
    lease = Lease(ours, "clean", "a", ttl=5)
    if won:
        with pytest.raises(LockUnavailable):
            lease.acquire()
    else:
        assert not lease.acquire()
    for server in redis_servers[:2]:
        with server.client() as client:
            assert client.get("clean") != b"a"


def test_a_miss_takes_nothing_from_a_living_process_of_the_same_owner(
    redis_servers: list[Redis], closed_port: int
) -> None:
    """A parallel task of the run has the majority, of which this one sees a part."""
    sibling = Lease(emptied(redis_servers), "clean", "a", ttl=5)
    assert sibling.acquire()
    with redis_servers[3].client() as client:
        client.delete("clean")
    with redis_servers[4].client() as client:
        client.set("clean", "x7Qy", px=5000)
    mask = (True, False, False, True, True)
    with pytest.raises(LockUnavailable):
        Lease(clients(redis_servers, mask, closed_port), "clean", "a", ttl=5).acquire()
    for server, value in zip(redis_servers, (b"a", b"a", b"a", None, b"x7Qy"), strict=True):
        with server.client() as client:
            assert client.get("clean") == value
    assert sibling.renew()


@pytest.mark.parametrize("size", [1, 3])
def test_a_miss_without_any_answer_takes_nothing_back(size: int, redis_servers: list[Redis]) -> None:
    """Nobody has said that no other process of the owner holds it."""
    sibling = Lease(emptied(redis_servers[:size]), "clean", "a", ttl=5)
    assert sibling.acquire()
    ours = [lost_answers(client) for client in clients(redis_servers[:size], (True,) * size, 0)]
    with pytest.raises(LockUnavailable):
        Lease(ours, "clean", "a", ttl=5).acquire()
    assert sibling.renew()


def test_servers_that_restart_empty_one_after_the_other_lose_nothing(redis_servers: list[Redis]) -> None:
    for server in redis_servers:
        with server.client() as client:
            client.flushall()
    ours = Lease(clients(redis_servers, (True,) * 5, 0), "clean", "a", ttl=5)
    theirs = Lease(clients(redis_servers, (True,) * 5, 0), "clean", "b", ttl=5)
    assert ours.acquire()
    for server in redis_servers[:2]:
        with server.client() as client:
            client.flushall()
    assert ours.renew()
    for server in redis_servers[2:4]:
        with server.client() as client:
            client.flushall()
    assert ours.renew()
    assert not theirs.acquire()


def test_servers_that_restart_empty_one_after_the_other_give_nothing_to_one_who_waits(
    redis_servers: list[Redis],
) -> None:
    ours, theirs = (Lease(emptied(redis_servers), "clean", owner, ttl=5) for owner in "ab")
    assert ours.acquire()
    for number in (0, 2, 4, 1, 3):
        pair = (redis_servers[number], redis_servers[(number + 1) % 5])
        theirs.queue(time.time() + 60)
        for server in pair:
            with server.client() as client:
                client.flushall()
        assert not theirs.acquire()
        theirs.queue(time.time() + 60)  # It is first in the queue of the empty servers when we renew.
        assert ours.renew()
        for server in pair:
            with server.client() as client:
                assert client.get("clean") == b"a"


@pytest.mark.parametrize("taken", range(6))
def test_only_who_has_a_majority_is_the_holder(taken: int, redis_servers: list[Redis]) -> None:
    chosen = emptied(redis_servers)
    for client in chosen[:taken]:
        client.set("clean", "x7Qy", px=5000)
    holder = Lease(chosen, "clean", "a", ttl=5).holder()
    assert (holder and holder.owner) == ("x7Qy" if taken >= 3 else None)


def test_the_work_that_any_server_knows_of_counts(redis_servers: list[Redis]) -> None:
    """A server that restarted empty knows of none, and may be the first that answers."""
    chosen = emptied(redis_servers[:3])
    lease = Lease(chosen, "clean", "a", ttl=5)
    assert lease.acquire()
    assert lease.enter("work/0", "try-1", heartbeat_ttl=5)
    for client in chosen:  # as if it had begun then
        client.hset("{clean}:info", "since", 1_000_000)
    chosen[0].flushall()
    assert lease.renew()
    assert lease.holder().busy == ("work/0",)
    assert lease.holder().since.timestamp() == 1_000


def test_a_minority_that_hangs_does_not_let_a_mark_run_out(
    redis_servers: list[Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, server in enumerate(redis_servers):
        monkeypatch.setenv(f"AIRFLOW_CONN_REDIS_{number}", server.airflow_uri)
        with server.client() as client:
            client.flushall()
    grant = Grant(
        key="clean",
        owner="a",
        redis_conn_ids=[f"redis_{number}" for number in range(5)],
        ttl=3600.0,
        on_busy="skip",
        max_hold=None,
        database_lock=True,
        tick="",
        tick_kept=0.0,
    )
    lease = grant.lease()
    assert lease.acquire()
    hung = redis_servers[:2]
    for server in hung:
        server.pause()
    try:
        began = time.monotonic()
        assert lease.heartbeat("work/-1", "try-1", heartbeat_ttl=renewal.HEARTBEAT_TTL) == "renewed"
        took = time.monotonic() - began
    finally:
        for server in hung:
            server.resume()
    assert renewal.RENEW_EVERY + took < renewal.HEARTBEAT_TTL
