"""Tells waiters in a triggerer when their lock is free: one subscription and one poll for each Redis.

All triggers of a process share a `Subscription` for each Airflow connection. It listens to the channels on
which releases are published. Its poll is the heartbeat of all waiters of this process. The poll also finds
what no release publishes: keys that expired, keys that the Go iam-watcher deleted, and a queue that Redis has
lost.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from iam_watcher.lock import queue_scripts, scripts
from iam_watcher.lock.answers import explain
from iam_watcher.lock.scripts import ms, text
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

logger = get_logger(__name__)

# Seconds between two polls of all locks with a waiter here: half of `queue_scripts.HEARTBEAT`.
POLL = 1.0
TIMEOUT = 5.0  # seconds for an answer of Redis
RECONNECT = 1.0  # seconds after Redis failed
CONFIRMED_WITHIN = 1.0  # seconds for the other servers to learn that a waiter was woken


@dataclass
class _Waiter:
    deadline: float
    position: str = ""  # in the queue, as Redis said


class Subscription:
    """Shared by all triggers of one event loop and one Airflow connection, while one of them waits."""

    _all: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Subscription]]] = (
        WeakKeyDictionary()
    )

    @classmethod
    def of(cls, conn_id: str) -> Subscription:
        """Return the one of the running loop."""
        return cls._all.setdefault(asyncio.get_running_loop(), {}).setdefault(conn_id, cls(conn_id))

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._wakes: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._waiting: dict[str, dict[str, _Waiter]] = {}  # key -> owner -> how it waits
        self._client: Redis | None = None  # while it is connected
        self._confirming = asyncio.Lock()  # held while Redis learns that a waiter was woken
        self._listener: asyncio.Task[None] | None = None
        self._next_poll = 0.0

    async def wait(self, key: str, owner: str, deadline: float) -> bool:
        """Return True when the owner is first in the queue of a free lock, False when the deadline is over.

        Two triggers can wait for one owner: its task was cleared, and the trigger of its earlier try has not
        ended yet. The later one is woken then, and the end of the earlier one changes nothing.
        """
        wake = self._wakes[key, owner] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, {})[owner] = _Waiter(deadline)
        self._next_poll = 0.0  # A poll finds what was published before the subscription.
        try:
            while not wake.done() and (left := deadline - time.time()) > 0:
                if self._listener is None or self._listener.done():
                    self._listener = asyncio.create_task(self._listen())
                listener = self._listener
                await asyncio.wait({wake, listener}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not wake.done() and listener.done():
                    listener.result()  # raises what ended it, or it ended before this wait began
            with suppress(TimeoutError):
                async with asyncio.timeout(CONFIRMED_WITHIN), self._confirming:
                    pass
            return wake.done()
        finally:
            # After the last wait the listener ends by itself, and closes its connections. If a wait had to
            # end it, a wait that is cancelled could leave it, and redis-py would leave sockets open.
            if self._wakes.get((key, owner)) is wake:
                self._forget(key, owner)

    def _forget(self, key: str, owner: str) -> None:
        del self._wakes[key, owner]
        del self._waiting[key][owner]
        if not self._waiting[key]:
            del self._waiting[key]

    async def confirm_wake(self, key: str) -> None:
        """Let this server know that its first waiter was woken, so that it counts as alive meanwhile."""
        from redis.exceptions import RedisClusterException, RedisError

        if self._client is not None:
            with suppress(RedisError, RedisClusterException, TimeoutError):
                async with asyncio.timeout(CONFIRMED_WITHIN):
                    await self._poll(self._client, [key])

    async def _listen(self) -> None:
        """Listen until no trigger waits any more."""
        from redis.exceptions import RedisClusterException, RedisError

        interrupted = False
        while self._wakes:
            try:
                client = await connect(self._conn_id)
                try:
                    async with client.pubsub() as subscription:
                        await subscription.psubscribe(scripts.released_channel("*"))
                        self._client, self._next_poll, interrupted = client, 0.0, False
                        while self._wakes:
                            await self._receive(client, subscription)
                finally:
                    self._client = None
                    await client.aclose()
            except (RedisError, RedisClusterException) as error:
                if isinstance(error, refused()):
                    raise  # Only a person can repair that; the sensor fails with this error.
                # The wait goes on. If Redis does not come back, the sensor reports it at its deadline.
                if not interrupted:
                    why = explain(self._conn_id, scripts.released_channel("*"), error)
                    logger.warning("the triggerer can't see which locks are free: %s", why)
                interrupted = True
                await asyncio.sleep(RECONNECT)

    async def _receive(self, client: Redis, subscription: Any) -> None:
        pause = min(0.2, max(0.0, self._next_poll - time.monotonic()))
        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=pause)
        if message:
            key = text(message["channel"]).removeprefix("{").rpartition("}")[0]
            if (wake := self._wakes.get((key, text(message["data"])))) is not None and not wake.done():
                wake.set_result(None)
                async with self._confirming:
                    await self._poll(client, [key])
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + POLL
            await self._poll(client, list(self._waiting))

    async def _poll(self, client: Redis, keys: Sequence[str]) -> None:
        """Send the heartbeats of all waiters of these locks, and wake the first ones of free locks."""
        asked = [(key, dict(self._waiting[key])) for key in keys if key in self._waiting]
        async with client.pipeline(transaction=False) as pipeline:
            for key, waiters in asked:
                names = scripts.keys(key)
                values = [
                    value
                    for owner, waiter in waiters.items()
                    for value in (owner, waiter.position, ms(waiter.deadline - time.time()))
                ]
                pipeline.eval(queue_scripts.POLL, len(names), *names, *values)
            for (key, waiters), (first, *positions) in zip(asked, await pipeline.execute(), strict=True):
                for waiter, position in zip(waiters.values(), positions, strict=True):
                    waiter.position = text(position)
                wake = self._wakes.get((key, text(first)))
                if wake is not None and not wake.done():
                    wake.set_result(None)


def refused() -> tuple[type[Exception], ...]:
    """Return the errors of a server that refuses the account: only a person can repair that."""
    from redis import exceptions

    return (
        exceptions.AuthenticationError,
        exceptions.AuthenticationWrongNumberOfArgsError,
        exceptions.AuthorizationError,
        exceptions.NoPermissionError,
    )


async def connect(conn_id: str) -> Redis:
    """Return a new client for an Airflow connection."""
    from iam_watcher.lock.clients import async_redis_client

    return await async_redis_client(conn_id, answer_within=TIMEOUT)
