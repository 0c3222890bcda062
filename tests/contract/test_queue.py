"""The waiting queue: who is first, who is alive, and what stays of those who are dead."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from dev.sessions import wait_until
from iam_watcher.lock import queue_scripts
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.servers import Redis

    MakeLease = Callable[..., Lease]

QUEUE, DEADLINES, HEARTBEATS = (f"{{clean}}:{name}" for name in ("queue", "deadlines", "heartbeats"))
WITHIN = 3.0  # seconds in which a free lock goes to the first waiter that is alive
MANY = 300


def age_heartbeats(servers: list[Redis], seconds: float) -> None:
    """Let so much time pass for all waiters of now."""
    for server in servers:
        with server.client() as client:
            for owner, until in client.zrange(HEARTBEATS, 0, -1, withscores=True):
                client.zadd(HEARTBEATS, {owner: until - 1000 * seconds})


@pytest.mark.parametrize("dead", [1, MANY])
def test_a_free_lock_passes_over_any_number_of_dead_waiters(
    dead: int, make_lease: MakeLease, servers: list[Redis]
) -> None:
    holder, waiter = make_lease("a"), make_lease("z")
    assert holder.acquire()
    until = time.time() + 3600
    for number in range(dead):
        Lease(holder.clients, "clean", f"dead-{number}", ttl=5).queue(until)
    waiter.queue(until)
    age_heartbeats(servers, WITHIN)
    waiter.queue(until)
    for server in servers:  # The holder is dead as well: nobody releases.
        with server.client() as client:
            client.delete("clean")
    assert waiter.acquire(), waiter.verdict


def test_dead_waiters_lose_their_turn_at_the_same_time(make_lease: MakeLease) -> None:
    holder, waiter = make_lease("a"), make_lease("z")
    assert holder.acquire()
    for owner in ("dead-1", "dead-2", "dead-3", "dead-4"):
        make_lease(owner).queue(time.time() + 3600)
    waiter.queue(time.time() + 3600)
    assert holder.release()
    assert not waiter.acquire()
    assert waiter.verdict == "queued"

    def acquired() -> bool:
        waiter.queue(time.time() + 3600)
        return waiter.acquire()

    assert wait_until(acquired, WITHIN)


def test_a_look_of_a_waiter_is_its_heartbeat(make_lease: MakeLease, servers: list[Redis]) -> None:
    holder, waiter, stranger = (make_lease(owner) for owner in "abc")
    assert holder.acquire()
    waiter.queue(time.time() + 60)
    age_heartbeats(servers, WITHIN)
    waiter.queue(time.time() + 60)
    assert holder.release()
    assert not stranger.acquire()
    assert waiter.acquire()


def test_a_waiter_that_was_skipped_has_its_position_again(
    make_lease: MakeLease, servers: list[Redis]
) -> None:
    holder, first, second, stranger = (make_lease(owner) for owner in "abcd")
    assert holder.acquire()
    for waiter in (first, second):
        waiter.queue(time.time() + 60)
    assert holder.release()
    age_heartbeats(servers, WITHIN)
    second.queue(time.time() + 60)
    assert not stranger.acquire()
    for waiter in (second, first):
        waiter.queue(time.time() + 60)
    assert not second.acquire()
    assert first.acquire()


@pytest.mark.parametrize("skew", [-300.0, 300.0])
def test_the_order_is_that_of_the_servers_whatever_the_clocks_of_the_waiters(
    skew: float, make_lease: MakeLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, right, *wrong = (make_lease(owner) for owner in "abcde")
    assert holder.acquire()
    right.queue(time.time() + 60)
    with monkeypatch.context() as patch:
        clock = time.time
        patch.setattr(time, "time", lambda: clock() + skew)
        for other in wrong:
            other.queue(time.time() + 60)
    assert holder.release()
    order = []
    waiting = [*wrong, right]
    random.Random(1).shuffle(waiting)
    while waiting:
        (winner,) = [waiter for waiter in waiting if waiter.acquire()]
        order.append(winner.owner)
        waiting.remove(winner)
        assert winner.release()
    assert order == ["b", "c", "d", "e"]


def test_all_servers_have_the_same_order(make_lease: MakeLease, servers: list[Redis]) -> None:
    """Whose clocks differ: a server that is ahead knows the same positions."""
    waiters = [make_lease(owner) for owner in "abc"]
    for waiter in waiters:
        waiter.queue(time.time() + 60)
    positions = set()
    for server in servers:
        with server.client() as client:
            positions.add(tuple(client.zrange(QUEUE, 0, -1, withscores=True)))
    (places,) = positions
    with servers[0].client() as client:
        client.delete(QUEUE)
    again = make_lease("a")  # in another process
    again.queue(time.time() + 60)
    if len(servers) > 1:
        with servers[0].client() as client, servers[1].client() as other:
            assert client.zscore(QUEUE, "a") == other.zscore(QUEUE, "a") == dict(places)[b"a"]


def test_a_waiter_begins_at_the_median_of_the_clocks(
    make_lease: MakeLease, servers: list[Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = "{redis.call('GET', KEYS[1]), '0'}"  # a server's own, in seconds
    monkeypatch.setattr(queue_scripts, "QUEUE", queue_scripts.QUEUE.replace("redis.call('TIME')", clock))
    clocks = [1040, 1000, 1030, 1010, 1020][: len(servers)]
    for server, seconds in zip(servers, clocks, strict=True):
        with server.client() as client:
            client.set("clean", seconds)
    make_lease("a").queue(time.time() + 60)
    for server in servers:
        with server.client() as client:
            assert client.zscore(QUEUE, "a") == 1000 * sorted(clocks)[len(clocks) // 2]


def test_what_dead_waiters_leave_is_bounded(make_lease: MakeLease, servers: list[Redis]) -> None:
    clients = make_lease("x").clients
    assert Lease(clients, "clean", "holder", ttl=60).acquire()
    for number in range(MANY):
        Lease(clients, "clean", f"dead-{number}", ttl=5).queue(time.time() - 0.01)
    make_lease("alive").queue(time.time() + 60)
    for server in servers:
        with server.client() as client:
            assert [client.zrange(name, 0, -1) for name in (QUEUE, DEADLINES, HEARTBEATS)] == [[b"alive"]] * 3


def test_a_waiter_that_the_queue_skips_past_its_deadline_leaves_nothing(
    make_lease: MakeLease, servers: list[Redis]
) -> None:
    make_lease("late").queue(time.time() - 1)
    assert make_lease("b").acquire()
    for server in servers:
        with server.client() as client:
            assert client.exists(QUEUE, DEADLINES, HEARTBEATS) == 0


def test_the_queue_expires_after_the_last_deadline(make_lease: MakeLease, servers: list[Redis]) -> None:
    make_lease("a").queue(time.time() + 3600)
    make_lease("b").queue(time.time() + 60)
    for server in servers:
        with server.client() as client:
            for name in (QUEUE, DEADLINES, HEARTBEATS):
                assert 3590_000 < client.pttl(name) <= 3600_000 + queue_scripts.AFTERWARDS


def test_who_leaves_the_queue_leaves_nothing(make_lease: MakeLease, servers: list[Redis]) -> None:
    first, second = make_lease("a"), make_lease("b")
    for lease in (first, second):
        lease.queue(time.time() + 60)
    first.unqueue()
    assert second.acquire()
    for server in servers:
        with server.client() as client:
            assert client.exists(QUEUE, DEADLINES, HEARTBEATS) == 0
