"""A deferred task's lease, which the triggerer renews, on one Redis and on five.

All tests run the same trigger around a gate that they open: hence the length.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from airflow.models.trigger import Trigger
from airflow.sdk.serde import serialize
from airflow.serialization.decoders import smart_decode_trigger_kwargs
from airflow.triggers.base import BaseTrigger, TriggerEvent

from iam_watcher.errors import LockError, LockLost, LockUnavailable
from iam_watcher.lock import deferred, renewal
from iam_watcher.lock.deferred import LeaseKeepingTrigger
from iam_watcher.lock.grant import Grant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dev.servers import Redis
    from iam_watcher.lock.lease import Lease

    MakeLease = Callable[..., Lease]

OWNER, MEMBER = "a/dag/run", "work/-1"
TTL = 1.0
WITHIN = 15.0
MOMENT = datetime(2027, 3, 10, 8, tzinfo=UTC)


class Gate(BaseTrigger):
    """A task's own trigger: it fires when the test opens it, and tells what is done with it."""

    opened: ClassVar[asyncio.Event]
    seen: ClassVar[list[str]] = []

    def __init__(self, moment: datetime, ignores: int = 0) -> None:
        super().__init__()
        self.moment, self.ignores = moment, ignores

    def serialize(self) -> tuple[str, dict[str, Any]]:
        name = f"{type(self).__module__}.{type(self).__name__}"
        return name, {"moment": self.moment, "ignores": self.ignores}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        self.seen.append("begun")
        for _ in range(self.ignores):  # as asyncio.wait_for does at times
            try:
                await self.opened.wait()
            except asyncio.CancelledError:
                self.seen.append("ignored")
        try:
            await self.opened.wait()
            yield TriggerEvent({"trigger": self.trigger_id, "moment": self.moment})
        finally:
            self.seen.append("ended")

    async def on_kill(self) -> None:
        self.seen.append("killed")

    async def cleanup(self) -> None:
        self.seen.append("cleaned")


@pytest.fixture
def grant(servers: list[Redis], monkeypatch: pytest.MonkeyPatch) -> Grant:
    """What `acquire` was granted on these servers; heartbeats come fast."""
    monkeypatch.setattr(renewal, "RENEW_EVERY", 0.05)
    monkeypatch.setattr(renewal, "HEARTBEAT_TTL", 0.5)
    monkeypatch.setattr(Gate, "seen", [])
    names = [f"redis_{number}" for number in range(len(servers))]
    for name, server in zip(names, servers, strict=True):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", server.airflow_uri)
    return Grant("clean", OWNER, names, TTL, "skip", None, True, "", 0.0)


@pytest.fixture
def make_trigger(grant: Grant, make_lease: MakeLease) -> Callable[..., LeaseKeepingTrigger]:
    """A function that gives the trigger of a task that was deferred under the lock."""

    def make(*, ignores: int = 0) -> LeaseKeepingTrigger:
        worker = make_lease(OWNER, ttl=TTL)
        assert worker.acquire()
        assert worker.enter(MEMBER, "try-1", heartbeat_ttl=renewal.HEARTBEAT_TTL)
        return LeaseKeepingTrigger.around(Gate(MOMENT, ignores), grant, MEMBER, "try-1")

    return make


def test_a_grant_of_another_version_that_can_be_read_is_worked_under(make_trigger) -> None:
    trigger = make_trigger()
    trigger.grant |= {"of a newer version": 1}
    del trigger.grant["database_lock"]  # unknown to an older one
    assert Grant.from_json(trigger.grant).database_lock

    async def scene() -> list[Any]:
        running = await begin(trigger)
        Gate.opened.set()
        return await running

    assert len(asyncio.run(scene())) == 1


def test_a_grant_of_another_version_that_cannot_be_read_is_refused_clearly(make_trigger) -> None:
    trigger = make_trigger()
    trigger.grant["ttl"] = {"seconds": 60}

    async def scene() -> None:
        await anext(aiter(trigger.run()))

    with pytest.raises(LockError, match="another version of iam-watcher wrote what 'acquire'"):
        asyncio.run(scene())
    assert Gate.seen == ["killed"]


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN):
        while not await asyncio.to_thread(what):  # noqa: ASYNC110  what is waited for is in Redis
            await asyncio.sleep(0.01)


async def begin(trigger: LeaseKeepingTrigger) -> asyncio.Task[Any]:
    """Run it as the triggerer does, to its end, in a task that gives its events."""
    Gate.opened = asyncio.Event()

    async def run() -> list[Any]:
        try:
            return [event.payload async for event in trigger.run()]
        finally:
            await trigger.cleanup()

    return asyncio.create_task(run())


async def ended(waiting: asyncio.Task[Any]) -> list[Any]:
    """Return its events, without a cancellation that would end it."""
    done, _ = await asyncio.wait({waiting}, timeout=WITHIN)
    assert done
    return await waiting


def set_everywhere(servers: list[Redis], value: str) -> None:
    for server in servers:
        with server.client() as client:
            client.set("clean", value, px=60_000)


def test_it_renews_for_longer_than_the_lease_and_passes_the_events_on(
    make_trigger, make_lease: MakeLease
) -> None:
    other = make_lease("b", ttl=TTL)

    async def scene() -> None:
        trigger = make_trigger()
        trigger.trigger_id = 7
        waiting = await begin(trigger)
        deadline = time.monotonic() + 3 * TTL
        while time.monotonic() < deadline:
            assert not await asyncio.to_thread(other.acquire)
            assert not waiting.done()
            await asyncio.sleep(0.05)
        assert other.holder().busy == (MEMBER,)
        Gate.opened.set()
        assert await ended(waiting) == [{"trigger": 7, "moment": MOMENT}]

    asyncio.run(scene())
    assert Gate.seen == ["begun", "ended", "cleaned"]
    assert make_lease(OWNER, ttl=TTL).enter(MEMBER, "try-1", heartbeat_ttl=1), (
        "the task goes on in a new process"
    )


@pytest.mark.parametrize("ignores", [0, 1])
def test_a_lease_that_is_lost_stops_the_work(make_trigger, servers: list[Redis], ignores: int) -> None:
    async def scene() -> None:
        waiting = await begin(make_trigger(ignores=ignores))
        await until(lambda: Gate.seen)
        set_everywhere(servers, "x7Qy")
        with pytest.raises(LockLost, match="another run acquired it"):
            await ended(waiting)

    asyncio.run(scene())
    assert Gate.seen == ["begun", *["ignored"] * ignores, "ended", "killed", "cleaned"]


def test_a_lease_that_was_lost_before_stops_the_work_too(make_trigger, servers: list[Redis]) -> None:
    """As after all triggerers were down for longer than it."""
    trigger = make_trigger()
    set_everywhere(servers, "x7Qy")

    async def scene() -> None:
        with pytest.raises(LockLost, match="another run acquired it"):
            await (await begin(trigger))

    asyncio.run(scene())
    assert Gate.seen == ["killed", "cleaned"]


@pytest.mark.parametrize("lasts", [True, False])
def test_redis_out_of_reach(
    make_trigger, servers: list[Redis], make_lease: MakeLease, *, lasts: bool
) -> None:
    hung = servers[: len(servers) // 2 + 1]

    async def scene() -> None:
        waiting = await begin(make_trigger())
        await until(lambda: Gate.seen)
        for server in hung:
            server.pause()
        try:
            if lasts:
                with pytest.raises(LockUnavailable):
                    await ended(waiting)
                return
            await asyncio.sleep(0.3)
        finally:
            for server in hung:
                server.resume()
        await asyncio.sleep(1.5 * TTL)
        assert not waiting.done()
        assert not make_lease("b").acquire()
        Gate.opened.set()
        assert len(await ended(waiting)) == 1

    asyncio.run(scene())
    assert ("killed" in Gate.seen) == lasts


def test_another_triggerer_that_can_not_ask_at_once_asks_again(make_trigger, servers: list[Redis]) -> None:
    trigger = make_trigger()

    async def scene() -> None:
        for server in servers:
            server.pause()
        try:
            waiting = await begin(trigger)
            await asyncio.sleep(0.3)
            assert not Gate.seen
        finally:
            for server in servers:
                server.resume()
        await until(lambda: Gate.seen)
        Gate.opened.set()
        assert len(await ended(waiting)) == 1

    asyncio.run(scene())


def test_who_ends_the_task_stops_its_work_and_the_mark_runs_out(make_trigger, make_lease: MakeLease) -> None:
    """As the triggerer does it: first `run` is cancelled, then comes `on_kill`."""
    teardown = make_lease(OWNER, ttl=TTL)

    async def scene() -> None:
        trigger = make_trigger()
        waiting = await begin(trigger)
        await until(lambda: Gate.seen)
        waiting.cancel("by a person")
        with pytest.raises(asyncio.CancelledError, match="by a person"):
            await waiting
        await trigger.on_kill()
        await until(lambda: not teardown.holder().busy)
        assert teardown.release()

    asyncio.run(scene())
    assert Gate.seen == ["begun", "ended", "cleaned", "killed"]


def test_who_ends_a_task_that_has_just_lost_its_lock_ends_it(make_trigger, servers: list[Redis]) -> None:
    """Both interrupt the wait, and the task's own trigger ignores the first interruption."""

    async def scene() -> None:
        waiting = await begin(make_trigger(ignores=1))
        await until(lambda: Gate.seen)
        set_everywhere(servers, "x7Qy")
        async with asyncio.timeout(WITHIN):
            while "ignored" not in Gate.seen:  # noqa: ASYNC110  before the next interruption
                await asyncio.sleep(0)
        waiting.cancel("by a person")
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scene())
    assert "killed" not in Gate.seen


def test_many_share_their_connections(
    grant: Grant, make_lease: MakeLease, servers: list[Redis], monkeypatch
) -> None:
    monkeypatch.setattr(deferred, "THREADS", 4)
    monkeypatch.setattr(renewal, "HEARTBEAT_TTL", 60.0)
    lasting = replace(grant, ttl=60.0)
    assert make_lease(OWNER, ttl=60.0).acquire()

    async def scene() -> int:
        triggers = [
            LeaseKeepingTrigger.around(Gate(MOMENT), lasting, f"work/{number}", "try-1")
            for number in range(100)
        ]
        with servers[0].client() as client:
            before = client.info("clients")["connected_clients"]
            waiting = [await begin(trigger) for trigger in triggers]
            await until(lambda: len(Gate.seen) == len(triggers))
            await until(lambda: len(make_lease(OWNER).holder().busy) == len(triggers))
            added = client.info("clients")["connected_clients"] - before
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        return added

    assert asyncio.run(scene()) <= 4 + 5  # threads, and what the test itself asks by


def test_another_triggerer_makes_the_same_of_it(make_trigger) -> None:
    """As Airflow's database hands it on: from the worker to the API server to the triggerer."""
    classpath, kwargs = make_trigger().serialize()
    assert classpath == "iam_watcher.lock.deferred.LeaseKeepingTrigger"
    stored = Trigger._decrypt_kwargs(json.dumps(serialize(kwargs)))
    again = LeaseKeepingTrigger(
        **{name: smart_decode_trigger_kwargs(value) for name, value in stored.items()}
    )
    assert again.serialize() == (classpath, kwargs)
    assert again.trigger_id is None  # by Airflow's constructor; the triggerer sets the id later
    assert again._own().moment == MOMENT


def test_a_trigger_that_cannot_be_stopped_hides_no_loss(
    make_trigger, servers: list[Redis], monkeypatch
) -> None:
    async def fail(self) -> None:
        raise RuntimeError

    monkeypatch.setattr(Gate, "on_kill", fail)

    async def scene() -> None:
        waiting = await begin(make_trigger())
        await until(lambda: Gate.seen)
        set_everywhere(servers, "x7Qy")
        with pytest.raises(LockLost, match="another run acquired it"):
            await ended(waiting)

    asyncio.run(scene())
