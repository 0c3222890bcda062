"""RedisLockTrigger: waits in the triggerer until it is a sensor's turn. It observes; the sensor acquires.

All triggers of a process share one subscription to the channels on which releases are told, and one slow
poll for what no release tells: keys that expired, those that the Go side deleted, and a line that a Redis
has lost.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger, TriggerEvent

from iam_watcher.lock import scripts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

POLL = 5.0  # seconds between two looks at all locks that are waited for
TIMEOUT = 5.0  # seconds for Redis to answer
RECONNECT = 1.0  # seconds after Redis failed


class RedisLockTrigger(BaseTrigger):
    """Fires when a lock is free and it is this owner's turn, or when its deadline is over.

    :param key: the lock's key.
    :param owner: who waits.
    :param redis_conn_id: the Airflow connection to Redis.
    :param deadline: seconds since 1970.
    """

    def __init__(self, *, key: str, owner: str, redis_conn_id: str, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.key = key
        self.owner = owner
        self.redis_conn_id = redis_conn_id
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer makes the same trigger of."""
        names = ("key", "owner", "redis_conn_id", "deadline")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: `{"key": …, "reason": "turn" | "deadline"}`."""
        turn = await _Watch.of(self.redis_conn_id).wait(self.key, self.owner, self.deadline)
        event = {"key": self.key, "reason": "turn" if turn else "deadline"}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Leave the line, so that the next one is not kept waiting for a task that a person ended."""
        _Watch.of(self.redis_conn_id).forget(self.key, self.owner)
        client = await _client(self.redis_conn_id)
        try:
            script = client.register_script(scripts.UNQUEUE)
            channel = scripts.released_channel(self.key)
            await script(keys=scripts.keys(self.key), args=[self.owner, channel])
        finally:
            await client.aclose()


class _Watch:
    """What all triggers of one event loop and one connection share; it lives while one of them waits."""

    _all: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Watch]]] = WeakKeyDictionary()

    @classmethod
    def of(cls, conn_id: str) -> _Watch:
        """Return the one of the running loop."""
        return cls._all.setdefault(asyncio.get_running_loop(), {}).setdefault(conn_id, cls(conn_id))

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._turns: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._places: dict[str, dict[str, tuple[float, float]]] = {}  # key -> owner -> since, deadline
        self._listener: asyncio.Task[None] | None = None
        self._next_poll = 0.0

    async def wait(self, key: str, owner: str, deadline: float) -> bool:
        """Return True when it is the owner's turn, False when the deadline is over."""
        turn = self._turns[key, owner] = asyncio.get_running_loop().create_future()
        self._places.setdefault(key, {})[owner] = time.time(), deadline
        self._next_poll = 0.0  # What happened before we listened is found by a poll.
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen())
        listener = self._listener
        try:
            left = max(0.0, deadline - time.time())
            await asyncio.wait({turn, listener}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done() and listener.done():
                listener.result()  # raises what ended it
            return turn.done()
        finally:
            self.forget(key, owner)
            if not self._turns and self._listener is listener:
                self._listener = None
                listener.cancel()
                await asyncio.wait({listener})  # It closes its connections.

    def forget(self, key: str, owner: str) -> None:
        """Don't wait for this owner's turn any more."""
        self._turns.pop((key, owner), None)
        places = self._places.get(key, {})
        places.pop(owner, None)
        if not places:
            self._places.pop(key, None)

    async def _listen(self) -> None:
        from redis.exceptions import RedisClusterException, RedisError

        while True:
            try:
                client = await _client(self._conn_id)
                try:
                    async with client.pubsub() as subscription:
                        await subscription.psubscribe(scripts.released_channel("*"))
                        self._next_poll = 0.0
                        while True:
                            await self._hear(client, subscription)
                finally:
                    await client.aclose()
            except (RedisError, RedisClusterException):
                # Not the end: the sensor, woken at its deadline, reports a Redis that stays away.
                await asyncio.sleep(RECONNECT)

    async def _hear(self, client: Redis, subscription: Any) -> None:
        pause = min(0.2, max(0.0, self._next_poll - time.monotonic()))
        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=pause)
        if message:
            key = _text(message["channel"]).removeprefix("{").rpartition("}")[0]
            self._wake(key, _text(message["data"]))
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + POLL
            await self._poll(client)

    async def _poll(self, client: Redis) -> None:
        waiting = {key: list(owners.items()) for key, owners in self._places.items()}
        async with client.pipeline(transaction=False) as pipeline:
            for key, owners in waiting.items():
                names = scripts.keys(key)
                places = [
                    text
                    for owner, (since, deadline) in owners
                    for text in (owner, _ms(since), _ms(deadline - time.time()))
                ]
                pipeline.eval(scripts.TURN, len(names), *names, *places)
            for key, owner in zip(waiting, await pipeline.execute(), strict=True):
                self._wake(key, _text(owner))

    def _wake(self, key: str, owner: str) -> None:
        turn = self._turns.get((key, owner))
        if turn is not None and not turn.done():
            turn.set_result(None)


async def _client(conn_id: str) -> Redis:
    from iam_watcher.lock.hook import async_redis_client

    return await async_redis_client(conn_id, answer_within=TIMEOUT)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
