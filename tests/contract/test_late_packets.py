"""Commands that reach a server late, twice, or whose answer is lost: never two owners.

All tests send through the same proxies, one for each server: hence the length.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest
from redis import Redis as Client
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError  # noqa: A004  redis-py's name
from redis.retry import Retry

from iam_watcher.errors import LockUnavailable
from iam_watcher.lock.admin.force_release import force_release
from iam_watcher.lock.admin.inspection import history
from iam_watcher.lock.clients import async_redis_client, reconnect_once, redis_client
from iam_watcher.lock.lease import Lease
from tests.contract.conftest import ACCOUNT
from tests.contract.proxy import Fate, FaultyProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dev.servers import Redis

    MakeLease = Callable[..., Lease]

TTL = 60.0  # seconds: no key runs out in a test


@pytest.fixture
def proxies(redis_servers: list[Redis]) -> Iterator[list[FaultyProxy]]:
    """Three empty servers that know all scripts, each behind a proxy."""
    from iam_watcher.lock import queue_scripts, scripts

    texts = [
        text
        for module in (scripts, queue_scripts)
        for name, text in vars(module).items()
        if name.isupper() and not name.startswith("_") and isinstance(text, str) and "redis.call" in text
    ]
    with ExitStack() as stack:
        for server in redis_servers[:3]:
            with server.client() as client:
                client.flushall()
                for text in texts:
                    client.script_load(text)
        yield [stack.enter_context(FaultyProxy(server)) for server in redis_servers[:3]]


@pytest.fixture
def through(proxies: list[FaultyProxy]) -> Iterator[MakeLease]:
    """A function that gives a lease of a process whose packets pass the proxies."""
    with ExitStack() as stack:

        def make(owner: str, *, retry: Retry | None = None, servers: int = 3) -> Lease:
            clients = [
                stack.enter_context(
                    Client(
                        port=proxy.port,
                        **ACCOUNT,
                        socket_timeout=5.0,
                        retry=retry or Retry(NoBackoff(), 0),
                    )
                )
                for proxy in proxies[:servers]
            ]
            return Lease(clients, "clean", owner, ttl=TTL)

        yield make


def directly(proxies: list[FaultyProxy], owner: str, *numbers: int) -> None:
    """Give the key of these servers to an owner, or to no one if that is ''."""
    for number in numbers:
        with proxies[number].server.client() as client:
            if owner:
                client.set("clean", owner, px=60_000)
            else:
                client.delete("clean")


def values(proxies: list[FaultyProxy]) -> list[bytes | None]:
    found = []
    for proxy in proxies:
        with proxy.server.client() as client:
            found.append(client.get("clean"))
    return found


def test_giving_back_late_takes_nothing_from_a_later_attempt(
    proxies: list[FaultyProxy], through: MakeLease
) -> None:
    first, retry, other = through("a"), through("a"), through("b")
    directly(proxies, "x", 1, 2)
    proxies[0].fates.extend([Fate.DONE, Fate.LATE])
    assert not first.acquire()
    directly(proxies, "", 1, 2)
    proxies[2].unreachable = True
    assert retry.acquire()
    proxies[2].unreachable = False
    proxies[0].deliver()
    assert not other.acquire()
    assert values(proxies) == [b"a", b"a", None]
    assert retry.renew()


def test_giving_back_late_takes_nothing_from_a_process_that_renews(
    proxies: list[FaultyProxy], through: MakeLease
) -> None:
    holder, sibling = through("a"), through("a")
    directly(proxies, "x", 0)
    assert holder.acquire()
    directly(proxies, "", 0)
    proxies[1].unreachable = proxies[2].unreachable = True
    proxies[0].fates.extend([Fate.DONE, Fate.LATE])
    with pytest.raises(LockUnavailable):
        sibling.acquire()
    proxies[1].unreachable = False
    assert holder.renew()
    proxies[0].deliver()
    assert values(proxies) == [b"a", b"a", b"a"]


def test_what_an_attempt_may_have_won_is_given_back_before_it_comes(
    proxies: list[FaultyProxy], through: MakeLease
) -> None:
    """The two commands go over different connections, so the second may be executed first."""
    lease = through("a", servers=1)
    proxies[0].fates.append(Fate.LATE)
    with pytest.raises(LockUnavailable):
        lease.acquire()
    proxies[0].deliver()
    assert values(proxies)[0] is None


def test_an_acquisition_that_is_repeated_after_the_release_holds_nothing(
    proxies: list[FaultyProxy], through: MakeLease
) -> None:
    lease = through("a", servers=1)
    proxies[0].fates.append(Fate.TWICE)
    assert lease.acquire()
    assert lease.release()
    proxies[0].deliver()
    assert values(proxies)[0] is None


def test_a_release_that_comes_late_frees_nothing_that_was_acquired_since(
    proxies: list[FaultyProxy], through: MakeLease
) -> None:
    first, again, other = through("a"), through("a"), through("b")
    assert first.acquire()
    proxies[0].fates.extend([Fate.LATE, Fate.LATE])
    assert first.release()
    proxies[2].unreachable = True
    assert again.acquire()
    proxies[2].unreachable = False
    while proxies[0].late:
        proxies[0].deliver()
    assert not other.acquire()
    assert again.renew()


def test_a_release_by_an_acquisition_that_was_executed_late_frees_nothing(
    proxies: list[FaultyProxy], through: MakeLease
) -> None:
    first, again, other = through("a"), through("a"), through("b")
    proxies[0].fates.append(Fate.LATE)
    assert first.acquire()
    proxies[0].fates.extend([Fate.LATE, Fate.LATE])
    assert first.release()
    proxies[2].unreachable = True
    assert again.acquire()
    proxies[2].unreachable = False
    while proxies[0].late:
        proxies[0].deliver()
    assert not other.acquire()
    assert again.renew()


@pytest.mark.parametrize("says", ["foreign", "forgotten", "gone"])
def test_what_a_renewal_returns_when_one_server_is_silent(
    proxies: list[FaultyProxy], through: MakeLease, says: str
) -> None:
    lease, other = through("a"), through("b")
    assert lease.acquire()
    with proxies[0].server.client() as client:
        if says == "forgotten":
            client.flushall()
        else:
            directly(proxies, "" if says == "gone" else "b", 0)
    proxies[2].unreachable = True
    if says == "gone":
        with pytest.raises(LockUnavailable):
            lease.heartbeat("", "")
        return
    assert lease.heartbeat("", "") == says
    if says == "forgotten":  # It can be had again, before another with the silent server has a majority.
        assert lease.acquire(ahead=True)
        proxies[2].unreachable = False
        assert not other.acquire()


def test_a_foreign_key_counts_unless_a_majority_is_ours(redis_servers: list[Redis]) -> None:
    """Of five: with the two that are silent, the other may have three."""
    clients = [server.client(socket_timeout=5.0) for server in redis_servers]
    for client in clients:
        client.flushall()
    lease = Lease(clients, "clean", "a", ttl=TTL)
    assert lease.acquire()
    clients[0].set("clean", "b", px=60_000)
    assert lease.heartbeat("", "") == "renewed"
    with FaultyProxy(redis_servers[0]) as proxy:
        proxy.unreachable = True
        silent = Client(port=proxy.port, retry=Retry(NoBackoff(), 0))
        cut_off = Lease([*clients[:3], silent, silent], "clean", "a", ttl=TTL)
        assert cut_off.heartbeat("", "") == "foreign"
        silent.close()
    for client in clients:
        client.close()


def test_an_acquisition_whose_answer_was_lost_is_given_back_too(
    proxies: list[FaultyProxy], through: MakeLease
) -> None:
    """redis-py asks again, and finds the key to be the owner's."""
    lease = through("a", retry=reconnect_once())
    directly(proxies, "x", 1, 2)
    proxies[0].fates.append(Fate.LOST)
    assert not lease.acquire()
    assert values(proxies)[0] is None


@pytest.mark.parametrize("asyncio_client", [False, True])
def test_a_connection_that_breaks_is_tried_again_once(
    proxies: list[FaultyProxy], monkeypatch: pytest.MonkeyPatch, asyncio_client: bool
) -> None:
    fates = proxies[0].fates
    account = f"{ACCOUNT['username']}:{ACCOUNT['password']}"
    monkeypatch.setenv("AIRFLOW_CONN_PROXIED", f"redis://{account}@127.0.0.1:{proxies[0].port}")
    fates.extend([Fate.LOST] * 9)

    def ask() -> None:
        with redis_client("proxied") as client:
            client.eval("return 1", 0)

    async def ask_with_asyncio() -> None:
        async with await async_redis_client("proxied", answer_within=5.0) as client:
            await client.eval("return 1", 0)

    with pytest.raises(ConnectionError):
        asyncio.run(ask_with_asyncio()) if asyncio_client else ask()
    assert len(fates) == 7


@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("servers", [1, 3])
def test_a_release_whose_answer_was_lost_is_a_release(
    proxies: list[FaultyProxy], through: MakeLease, servers: int, retry: bool
) -> None:
    lease = through("a", retry=reconnect_once() if retry else None, servers=servers)
    assert lease.acquire()
    for proxy in proxies[:2]:
        proxy.fates.append(Fate.LOST)
    assert lease.release()
    assert not any(values(proxies))


@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("servers", [1, 3])
def test_a_forced_release_whose_answer_was_lost_did_free(
    proxies: list[FaultyProxy], through: MakeLease, servers: int, retry: bool
) -> None:
    assert through("a", servers=servers).acquire()
    clients = through("person", retry=reconnect_once() if retry else None, servers=servers).clients
    for proxy in proxies[:2]:
        proxy.fates.extend([Fate.DONE, Fate.LOST])
    assert force_release(clients, "clean", by="ops", reason="its worker is gone").owner == "a"
    assert [past.owner for past in history(clients, "clean")] == ["a"]
    assert not any(values(proxies))


SEEDS = range(12)
STEPS = 120
FATES = [Fate.DONE] * 12 + [Fate.LOST, Fate.LATE, Fate.LATE, Fate.TWICE]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_order_of_packets_makes_two_owners(
    proxies: list[FaultyProxy], through: MakeLease, seed: int
) -> None:
    """Three owners with two processes each, whose packets are late, lost and repeated at random.

    No key runs out and no server loses any: so nobody may hold the lock beside one who acquired it and has
    neither begun to release it nor learnt that it is lost.
    """
    rng = random.Random(seed)
    processes = [through(owner) for owner in "aabbcc"]
    holds: set[Lease] = set()
    for step in range(STEPS):
        for proxy in proxies:
            proxy.fates = type(proxy.fates)(rng.choices(FATES, k=4))
            while proxy.late and rng.random() < 0.3:
                proxy.deliver(rng.randrange(len(proxy.late)))
        process = rng.choice(processes)
        with suppress(LockUnavailable):
            what = rng.choice(["acquire", "acquire", "renew", "release"])
            if what == "acquire":
                if process.acquire():
                    holds.add(process)
            elif what == "renew":
                if not process.renew():
                    holds.discard(process)
            else:
                holds = {one for one in holds if one.owner != process.owner}
                process.release()
        assert len({one.owner for one in holds}) <= 1, f"two owners after step {step}, seed {seed}"
