"""The trigger in an event loop of its own, on a real Redis.

All tests share the event loop, its subscriptions and the waits for them: hence the length.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import AuthenticationError, ConnectionError  # noqa: A004  redis-py's name

from dev.processes import free_port
from dev.servers import Redis
from iam_watcher.errors import LockUnavailable
from iam_watcher.lock import subscription as module
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.trigger import RedisLockTrigger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from redis import Redis as Client

WITHIN = 15.0


def trigger(owner: str, key: str = "clean", wait: float = 60.0, *conn_ids: str) -> RedisLockTrigger:
    return RedisLockTrigger(
        key=key, owner=owner, redis_conn_ids=conn_ids or ["iam_redis"], deadline=time.time() + wait
    )


async def fired(waiter: RedisLockTrigger) -> dict:
    return (await anext(aiter(waiter.run()))).payload


async def until(what) -> None:
    async with asyncio.timeout(WITHIN):
        while not await asyncio.to_thread(what):  # noqa: ASYNC110  what is waited for is in Redis
            await asyncio.sleep(0.01)


def run(scene: Awaitable[Any]) -> Any:
    """Run a scene, end its waits, and let the listeners end: the end of the loop would interrupt them."""

    async def to_the_end() -> Any:
        try:
            return await scene
        finally:
            watches = module.Subscription._all.get(asyncio.get_running_loop(), {}).values()
            listeners = {watch._listener for watch in watches} - {None}
            others = asyncio.all_tasks() - {asyncio.current_task()} - listeners
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            if listeners:
                _, pending = await asyncio.wait(listeners, timeout=WITHIN)
                assert not pending

    return asyncio.run(to_the_end())


def subscriptions(client: Client) -> int:
    return client.pubsub_numpat()


def test_another_triggerer_makes_the_same_of_it() -> None:
    classpath, arguments = trigger("a").serialize()
    assert classpath == "iam_watcher.lock.trigger.RedisLockTrigger"
    made = RedisLockTrigger(**arguments)
    assert made.serialize() == (classpath, arguments)
    assert made.trigger_id is None  # by Airflow's constructor; the triggerer sets the id later


def test_the_release_wakes_the_first_in_line_and_no_one_else(redis_client: Client, monkeypatch) -> None:
    monkeypatch.setattr(module, "POLL", 3600.0)
    holder, first, second = (Lease(redis_client, "clean", owner, ttl=60) for owner in "abc")
    assert holder.acquire()
    for waiter in (first, second):
        waiter.queue(time.time() + 60)
        time.sleep(0.002)

    async def scene() -> None:
        waiting = {owner: asyncio.create_task(fired(trigger(owner))) for owner in "bc"}
        await until(lambda: subscriptions(redis_client) == 1)
        await asyncio.sleep(0.5)  # time enough to be woken wrongly
        assert not any(task.done() for task in waiting.values())
        assert await asyncio.to_thread(holder.release)
        async with asyncio.timeout(WITHIN):
            assert await waiting["b"] == {"key": "clean", "reason": "free"}
        assert not waiting["c"].done()
        assert await asyncio.to_thread(first.acquire)
        assert await asyncio.to_thread(first.release)
        async with asyncio.timeout(WITHIN):
            assert (await waiting["c"])["reason"] == "free"

    run(scene())
    assert subscriptions(redis_client) == 0


def test_a_forced_release_wakes_the_first_in_line(redis_client: Client, looked, monkeypatch) -> None:
    monkeypatch.setattr(module, "POLL", 3600.0)
    holder, waiter = (Lease(redis_client, "clean", owner, ttl=60) for owner in "ab")
    assert holder.acquire()
    waiter.queue(time.time() + 60)

    async def scene() -> None:
        waiting = asyncio.create_task(fired(trigger("b")))
        await until(lambda: looked)
        assert await asyncio.to_thread(holder.revoke, "a", "{}")
        async with asyncio.timeout(WITHIN):
            assert (await waiting)["reason"] == "free"

    run(scene())


def test_a_release_wakes_although_redis_fails_in_the_next_moment(
    redis_client: Client, looked, monkeypatch
) -> None:
    monkeypatch.setattr(module, "POLL", 3600.0)
    monkeypatch.setattr(module, "RECONNECT", 0.01)
    holder, waiter = (Lease(redis_client, "clean", owner, ttl=60) for owner in "ab")
    assert holder.acquire()
    waiter.queue(time.time() + 60)

    async def fail(*_: Any) -> None:
        raise ConnectionError("closed by the server")

    async def scene() -> None:
        waiting = asyncio.create_task(fired(trigger("b")))
        await until(lambda: looked)
        monkeypatch.setattr(module.Subscription, "_poll", fail)
        assert await asyncio.to_thread(holder.release)
        async with asyncio.timeout(WITHIN):
            assert (await waiting)["reason"] == "free"

    run(scene())


@pytest.mark.parametrize("how", ["expired", "deleted by the Go side", "free before we listened"])
def test_a_poll_finds_what_no_release_tells(redis_client: Client, monkeypatch, how: str) -> None:
    monkeypatch.setattr(module, "POLL", 0.1)
    if how != "free before we listened":
        redis_client.set("clean", "x7Qy", px=300 if how == "expired" else 60_000)
    Lease(redis_client, "clean", "b", ttl=60).queue(time.time() + 60)

    async def scene() -> None:
        waiting = asyncio.create_task(fired(trigger("b")))
        if how == "deleted by the Go side":
            await until(lambda: subscriptions(redis_client) == 1)
            assert not waiting.done()
            redis_client.delete("clean")
        async with asyncio.timeout(WITHIN):
            assert (await waiting)["reason"] == "free"

    run(scene())


def test_between_two_polls_redis_runs_no_script(redis_client: Client, monkeypatch) -> None:
    monkeypatch.setattr(module, "POLL", 3600.0)
    receive, received = module.Subscription._receive, []

    async def receive_and_count(*arguments) -> None:
        await receive(*arguments)
        received.append(1)

    monkeypatch.setattr(module.Subscription, "_receive", receive_and_count)
    redis_client.set("clean", "x7Qy")

    def scripts_run() -> int:
        return redis_client.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"]

    async def scene() -> tuple[int, int]:
        before = scripts_run()
        waiting = asyncio.create_task(fired(trigger("b")))
        await until(lambda: received)
        first = scripts_run() - before
        begun = len(received)
        await until(lambda: len(received) > begun + 5)
        later = scripts_run() - before - first
        waiting.cancel()
        await asyncio.wait({waiting})
        return first, later

    assert run(scene()) == (1, 0)


def test_who_waits_keeps_its_place_in_a_redis_that_lost_its_keys(redis_client: Client, monkeypatch) -> None:
    monkeypatch.setattr(module, "POLL", 0.1)
    holder, first, second = (Lease(redis_client, "clean", owner, ttl=60) for owner in "acb")
    assert holder.acquire()

    async def scene() -> None:
        waiting = {}
        for waiter in (first, second):
            waiter.queue(time.time() + 60)
            waiting[waiter.owner] = asyncio.create_task(fired(trigger(waiter.owner)))
            await asyncio.sleep(0.002)  # their places in the line are a clock's milliseconds
        redis_client.delete("{clean}:heartbeats")
        await until(lambda: redis_client.zcard("{clean}:heartbeats") == 2)  # They have looked once.
        redis_client.flushall()
        assert holder.acquire()
        await until(lambda: redis_client.zcard("{clean}:queue") == 2)
        deadlines = redis_client.zrange("{clean}:deadlines", 0, -1, withscores=True)
        assert len(deadlines) == 2
        for _, deadline in deadlines:
            assert deadline / 1000 == pytest.approx(time.time() + 60, abs=WITHIN)
        assert await asyncio.to_thread(holder.release)
        async with asyncio.timeout(WITHIN):
            assert (await waiting["c"])["reason"] == "free"
        assert not waiting["b"].done()
        assert await asyncio.to_thread(first.acquire)
        assert await asyncio.to_thread(first.release)
        async with asyncio.timeout(WITHIN):
            assert (await waiting["b"])["reason"] == "free"

    run(scene())


def test_it_fires_at_the_deadline(redis_client: Client) -> None:
    redis_client.set("clean", "x7Qy")
    Lease(redis_client, "clean", "b", ttl=60).queue(time.time() + 0.3)
    waiter = trigger("b", wait=0.3)
    assert run(fired(waiter)) == {"key": "clean", "reason": "deadline"}
    assert time.time() >= waiter.deadline


def test_many_triggers_share_one_subscription(redis_client: Client) -> None:
    redis_client.set("clean", "x7Qy")
    before = redis_client.info("clients")["connected_clients"]

    async def scene() -> int:
        waiting = [asyncio.create_task(fired(trigger(f"owner-{n}", f"lock-{n % 7}"))) for n in range(200)]
        await until(lambda: subscriptions(redis_client) == 1)
        await asyncio.sleep(0.3)
        connected = redis_client.info("clients")["connected_clients"]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        return connected

    assert run(scene()) <= before + 2


def test_a_waiter_that_a_person_ends_leaves_the_queue(redis_client: Client) -> None:
    holder, first, second = (Lease(redis_client, "clean", owner, ttl=60) for owner in "abc")
    assert holder.acquire()
    first.queue(time.time() + 60)
    time.sleep(0.002)
    second.queue(time.time() + 60)
    asyncio.run(trigger("b").on_kill())
    assert holder.release()
    assert second.acquire()


def test_redis_restarts_while_triggers_wait(redis_client: Client, redis_server: Redis, monkeypatch) -> None:
    monkeypatch.setattr(module, "POLL", 0.1)
    monkeypatch.setattr(module, "RECONNECT", 0.05)
    redis_client.set("clean", "x7Qy")

    async def scene() -> None:
        waiting = asyncio.create_task(fired(trigger("b")))
        await until(lambda: subscriptions(redis_client) == 1)
        assert not waiting.done()
        redis_server.restart()  # not in a thread: it would end with that thread
        async with asyncio.timeout(WITHIN):
            assert (await waiting)["reason"] == "free"

    run(scene())


def test_each_outage_is_logged_once(
    redis_client: Client, redis_server: Redis, monkeypatch, caplog, capsys
) -> None:
    monkeypatch.setattr(module, "RECONNECT", 0.01)
    original, hear, tries, heard = module.connect, module.Subscription._receive, [], []

    async def counted(conn_id: str):
        tries.append(conn_id)
        return await original(conn_id)

    async def hear_and_count(*arguments):
        await hear(*arguments)
        heard.append(1)

    async def listens() -> None:
        begun = len(heard)
        await until(lambda: len(heard) > begun + 1)  # The outage is over for it once it has heard.

    monkeypatch.setattr(module, "connect", counted)
    monkeypatch.setattr(module.Subscription, "_receive", hear_and_count)
    redis_client.set("clean", "x7Qy")

    async def scene() -> None:
        waiting = asyncio.create_task(fired(trigger("b")))
        for _ in range(2):
            await listens()
            redis_server.stop()
            begun = len(tries)
            await until(lambda begun=begun: len(tries) > begun + 5)
            redis_server.start()  # not in a thread: it would end with that thread
            redis_client.set("clean", "x7Qy")
        await listens()
        waiting.cancel()
        await asyncio.wait({waiting})

    run(scene())
    errors = re.findall(
        "the triggerer can't see which locks are free: iam_redis did not answer for .*: .*Error: .+",
        caplog.text + capsys.readouterr().out,
    )
    assert len(errors) == 2


def test_an_outage_that_is_there_from_the_start_is_logged(monkeypatch, caplog, capsys) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"redis://127.0.0.1:{free_port()}")
    monkeypatch.setattr(module, "RECONNECT", 0.01)
    assert run(fired(trigger("b", wait=0.3)))["reason"] == "deadline"
    said = caplog.text + capsys.readouterr().out
    assert said.count("the triggerer can't see which locks are free") == 1


@pytest.mark.parametrize(
    ("account", "error"), [("deaf:pass", "iam_redis refused 'clean': NOPERM"), (":wrong-one", "WRONGPASS")]
)
def test_a_redis_that_refuses_us_ends_the_wait(
    redis_client: Client, redis_server: Redis, monkeypatch, account: str, error: str
) -> None:
    everything = {"keys": ["*"], "categories": ["+@all"]}  # but no channel
    redis_client.acl_setuser("deaf", enabled=True, passwords=["+pass"], **everything)
    redis_client.set("clean", "x7Qy")
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"redis://{account}@127.0.0.1:{redis_server.port}")

    async def scene() -> None:
        async with asyncio.timeout(WITHIN):
            await fired(trigger("b"))

    try:
        with pytest.raises(LockUnavailable, match=error):
            run(scene())
    finally:
        redis_client.acl_deluser("deaf")


def test_an_earlier_trigger_of_the_same_owner_takes_nothing_from_the_later_one(
    redis_client: Client, monkeypatch
) -> None:
    """As after "clear": the trigger of the first try may end when that of the second waits already."""
    monkeypatch.setattr(module, "POLL", 3600.0)
    holder, waiter = (Lease(redis_client, "clean", owner, ttl=60) for owner in "ab")
    assert holder.acquire()
    waiter.queue(time.time() + 60)

    async def scene() -> None:
        earlier = asyncio.create_task(fired(trigger("b")))
        await until(lambda: subscriptions(redis_client) == 1)
        later = asyncio.create_task(fired(trigger("b")))
        await asyncio.sleep(0.1)  # it waits
        earlier.cancel()
        await asyncio.wait({earlier})
        await trigger("b").on_kill()  # of the earlier one
        waiter.queue(time.time() + 60)
        assert await asyncio.to_thread(holder.release)
        async with asyncio.timeout(WITHIN):
            assert (await later)["reason"] == "free"

    run(scene())


def test_a_connection_that_does_not_exist_fails_at_once(redis_client: Client) -> None:
    with pytest.raises(Exception, match="no_such_redis"):
        run(fired(trigger("b", "clean", 60.0, "no_such_redis")))


@pytest.fixture
def two_of_three(
    redis_client: Client, redis_server: Redis, tmp_path: Path, monkeypatch
) -> Iterator[Callable[[str], Lease]]:
    """A function that gives leases on the connections `redis_0` to `redis_2`; the first server is down."""
    with Redis(tmp_path / "gone") as gone, Redis(tmp_path / "third") as third, ExitStack() as stack:
        servers = [gone, redis_server, third]
        for number, server in enumerate(servers):
            monkeypatch.setenv(f"AIRFLOW_CONN_REDIS_{number}", server.airflow_uri)
        clients = [stack.enter_context(server.client(socket_timeout=1.0)) for server in servers]
        gone.stop()
        yield lambda owner: Lease(clients, "clean", owner, ttl=60)


NAMES = [f"redis_{number}" for number in range(3)]


def test_it_wakes_also_if_the_first_of_three_servers_is_down(two_of_three, redis_client: Client) -> None:
    holder, waiter = two_of_three("a"), two_of_three("b")
    assert holder.acquire()
    waiter.queue(time.time() + 60)

    async def scene() -> None:
        waiting = asyncio.create_task(fired(trigger("b", "clean", 60.0, *NAMES)))
        await until(lambda: subscriptions(redis_client) == 1)
        assert await asyncio.to_thread(holder.release)
        async with asyncio.timeout(WITHIN):
            assert (await waiting)["reason"] == "free"
        assert waiter.acquire()

    run(scene())
    assert subscriptions(redis_client) == 0


@pytest.fixture
def three_by_conn_id(
    redis_client: Client, redis_server: Redis, tmp_path: Path, monkeypatch
) -> Iterator[Callable[[str], list[Client]]]:
    """A function that makes the connections `redis_0` to `redis_2`, some with a wrong password."""
    with Redis(tmp_path / "second") as second, Redis(tmp_path / "third") as third, ExitStack() as stack:
        servers = [redis_server, second, third]
        clients = [stack.enter_context(server.client()) for server in servers]

        def connect(wrong: str) -> list[Client]:
            for number, server in enumerate(servers):
                password = "wrong-one" if str(number) in wrong else server.password
                uri = f"redis://:{password}@{server.host}:{server.port}"
                monkeypatch.setenv(f"AIRFLOW_CONN_REDIS_{number}", uri)
            return clients

        yield connect


@pytest.fixture
def looked(monkeypatch) -> list[str]:
    """The connection of each look that is over."""
    look, over = module.Subscription._poll, []

    async def look_and_tell(watch: module.Subscription, *arguments) -> None:
        await look(watch, *arguments)
        over.append(watch._conn_id)

    monkeypatch.setattr(module.Subscription, "_poll", look_and_tell)
    return over


def test_a_wrong_password_of_one_of_three_servers_leaves_the_wait_to_the_others(
    three_by_conn_id, looked, caplog, capsys
) -> None:
    clients = three_by_conn_id("0")
    holder, waiter = (Lease(clients, "clean", owner, ttl=60) for owner in "ab")
    assert holder.acquire()
    waiter.queue(time.time() + 60)

    async def scene() -> None:
        waiting = asyncio.create_task(fired(trigger("b", "clean", 60.0, *NAMES)))
        await until(lambda: "without one of the servers" in caplog.text + capsys.readouterr().out)
        await until(lambda: set(looked) == {"redis_1", "redis_2"})
        assert await asyncio.to_thread(holder.release)
        async with asyncio.timeout(WITHIN):
            assert (await waiting)["reason"] == "free"

    run(scene())


def test_no_server_keeps_a_subscription_of_a_wait_that_is_over(three_by_conn_id, looked) -> None:
    """All servers publish the release: each wakes the waiter, which ends its waits for the others."""
    clients = three_by_conn_id("")
    holder = Lease(clients, "clean", "a", ttl=60)

    async def scene() -> None:
        for number in range(10):
            assert await asyncio.to_thread(holder.acquire)
            waiter = Lease(clients, "clean", f"b-{number}", ttl=60)
            await asyncio.to_thread(waiter.queue, time.time() + 60)
            looked.clear()
            waiting = asyncio.create_task(fired(trigger(waiter.owner, "clean", 60.0, *NAMES)))
            await until(lambda: set(looked) == set(NAMES))
            assert await asyncio.to_thread(holder.release)
            async with asyncio.timeout(WITHIN):
                assert (await waiting)["reason"] == "free"
            await until(lambda: [subscriptions(client) for client in clients] == [0, 0, 0])
            await asyncio.to_thread(waiter.unqueue)

    run(scene())


def test_two_of_three_servers_that_refuse_us_end_the_wait() -> None:
    """Without servers: a cancellation may find the third one's client as it connects, and leave a socket."""

    async def refuse() -> bool:
        raise AuthenticationError("invalid username-password pair", status_code="WRONGPASS")

    async def scene() -> None:
        answers = (refuse(), asyncio.Event().wait(), refuse())
        waits = {asyncio.ensure_future(one): name for one, name in zip(answers, NAMES, strict=True)}
        with pytest.raises(LockUnavailable, match=r"redis_[02] refused 'clean': WRONGPASS"):
            await trigger("b", "clean", 60.0, *NAMES)._first(waits)
        for one in waits:
            one.cancel()

    run(scene())


def test_who_is_killed_by_a_person_leaves_the_line_of_each_server(two_of_three, caplog, capsys) -> None:
    holder, first, second = map(two_of_three, "abc")
    assert holder.acquire()
    first.queue(time.time() + 60)
    time.sleep(0.002)
    second.queue(time.time() + 60)
    asyncio.run(trigger("b", "clean", 60.0, *NAMES).on_kill())
    assert (
        "could not leave the waiting queue" in caplog.text + capsys.readouterr().out
    )  # Airflow's logger: stdout
    assert holder.release()
    assert second.acquire()


def alive_for(client: Client, owner: str) -> float:
    """The seconds until a waiter counts as dead, unless it looks again."""
    seconds, _ = client.time()
    return (client.zscore("{clean}:heartbeats", owner) or 0.0) / 1000 - seconds


def test_who_was_woken_has_the_time_that_airflow_needs_to_start_its_task(redis_client: Client) -> None:
    holder, waiter = (Lease(redis_client, "clean", owner, ttl=60) for owner in "ab")
    assert holder.acquire()
    waiter.queue(time.time() + 60)

    async def scene() -> None:
        waiting = asyncio.create_task(fired(trigger("b")))
        await until(lambda: subscriptions(redis_client) == 1)
        assert alive_for(redis_client, "b") < 5
        assert await asyncio.to_thread(holder.release)
        async with asyncio.timeout(WITHIN):
            await waiting
        assert alive_for(redis_client, "b") > 10

    run(scene())


def test_all_servers_know_who_was_woken(two_of_three, looked, monkeypatch) -> None:
    """One server tells of the release; the lock of the other one came free in silence."""
    monkeypatch.setattr(module, "POLL", 3600.0)
    holder, waiter = two_of_three("a"), two_of_three("b")
    assert holder.acquire()
    waiter.queue(time.time() + 60)
    _, telling, silent = holder.clients

    async def scene() -> None:
        waiting = asyncio.create_task(fired(trigger("b", "clean", 60.0, *NAMES)))
        await until(lambda: set(looked) == set(NAMES[1:]))
        silent.delete("clean")
        assert await asyncio.to_thread(Lease(telling, "clean", "a", ttl=60).release)
        async with asyncio.timeout(WITHIN):
            await waiting
        assert all(alive_for(client, "b") > 10 for client in (telling, silent))

    run(scene())


def test_dead_waiters_do_not_keep_the_lock_from_one_in_the_triggerer(redis_client: Client) -> None:
    """Holder and waiters died together, and nothing tells that the key ran out."""
    for number in range(4):
        Lease(redis_client, "clean", f"dead-{number}", ttl=60).queue(time.time() + 3600)
    Lease(redis_client, "clean", "b", ttl=60).queue(time.time() + 60)

    async def scene() -> None:
        async with asyncio.timeout(WITHIN):
            assert (await fired(trigger("b")))["reason"] == "free"

    run(scene())
    assert Lease(redis_client, "clean", "b", ttl=60).acquire()
