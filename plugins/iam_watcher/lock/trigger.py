"""RedisLockTrigger: waits in the triggerer until it is a sensor's turn. It observes; the sensor acquires.

All triggers of a process share one subscription for each Redis to the channels on which releases are told,
and one poll, which is the heartbeat of all who wait here, and finds what no release tells: keys that expired,
those that the Go side deleted, and a queue that a Redis has lost. Of several servers the first one that says
so wakes; a majority decides afterwards.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger, TriggerEvent

from iam_watcher.lock import queue_scripts, scripts
from iam_watcher.lock.answers import told, unavailable
from iam_watcher.lock.scripts import ms, text
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

logger = get_logger(__name__)

# Seconds between two looks at all locks that are waited for: half of `queue_scripts.HEARTBEAT`.
POLL = 1.0
TIMEOUT = 5.0  # seconds for Redis to answer
RECONNECT = 1.0  # seconds after Redis failed
TOLD_WITHIN = 1.0  # seconds for the other servers of a quorum to learn that a waiter was woken


class RedisLockTrigger(BaseTrigger):
    """Fires when a lock is free and it is this owner's turn, or when its deadline is over.

    :param key: the lock's key.
    :param owner: who waits.
    :param redis_conn_ids: the Airflow connections to the lock's servers.
    :param deadline: seconds since 1970.
    """

    def __init__(self, *, key: str, owner: str, redis_conn_ids: Sequence[str], deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.key = key
        self.owner = owner
        self.redis_conn_ids = redis_conn_ids
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer makes the same trigger of."""
        names = ("key", "owner", "redis_conn_ids", "deadline")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: `{"key": …, "reason": "turn" | "deadline"}`.

        Raises:
            LockUnavailable: so many servers refuse us that no majority is left.
        """
        waits = {
            asyncio.create_task(_Watch.of(conn_id).wait(self.key, self.owner, self.deadline)): conn_id
            for conn_id in self.redis_conn_ids
        }
        try:
            reason = await self._first(waits)
            if reason == "turn":
                others = [_Watch.of(conn_id) for one, conn_id in waits.items() if not one.done()]
                await asyncio.gather(*(watch.tell_of_turn(self.key) for watch in others))
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        yield TriggerEvent({"key": self.key, "reason": reason})  # type: ignore[no-untyped-call]

    async def _first(self, waits: dict[asyncio.Task[bool], str]) -> str:
        """Return what the first server tells, of those that don't refuse us."""
        pending, refusals = set(waits), 0
        while True:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            errors = [(waits[one], error) for one in done if (error := one.exception())]
            if len(errors) < len(done):
                return "turn" if any(one.result() for one in done if not one.exception()) else "deadline"
            refusals += len(errors)
            for conn_id, error in errors:
                if 2 * refusals >= len(waits):
                    if isinstance(error, _refusals()):
                        raise unavailable(conn_id, self.key, error) from error
                    raise error
                why = told(conn_id, self.key, error)
                logger.warning("waiting without one of the servers: %s", why)

    async def on_kill(self) -> None:
        """Leave the queue, so that the next one is not kept waiting for a task that a person ended."""
        answers = await asyncio.gather(*map(self._leave, self.redis_conn_ids), return_exceptions=True)
        for conn_id, error in zip(self.redis_conn_ids, answers, strict=True):
            if isinstance(error, Exception):
                # Without a heartbeat it is skipped there within seconds.
                logger.warning("could not leave the waiting queue: %s", told(conn_id, self.key, error))

    async def _leave(self, conn_id: str) -> None:
        client = await _client(conn_id)
        try:
            script = client.register_script(queue_scripts.UNQUEUE)
            channel = scripts.released_channel(self.key)
            await script(keys=scripts.keys(self.key), args=[self.owner, channel])
        finally:
            await client.aclose()


@dataclass
class _Waiter:
    deadline: float
    position: str = ""  # in the queue, as Redis said


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
        self._waiting: dict[str, dict[str, _Waiter]] = {}  # key -> owner -> how it waits
        self._client: Redis | None = None  # while it is connected
        self._telling = asyncio.Lock()  # held while Redis is told that a waiter was woken
        self._listener: asyncio.Task[None] | None = None
        self._next_poll = 0.0

    async def wait(self, key: str, owner: str, deadline: float) -> bool:
        """Return True when it is the owner's turn, False when the deadline is over.

        Of two that wait for one owner (its task was cleared, and the trigger of its earlier try has not
        ended yet) the later one is told, and the earlier one takes nothing away with it.
        """
        turn = self._turns[key, owner] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, {})[owner] = _Waiter(deadline)
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
            if self._turns.get((key, owner)) is turn:
                self._forget(key, owner)
            if not self._turns and self._listener is listener:
                self._listener = None
                with suppress(TimeoutError):
                    async with asyncio.timeout(TOLD_WITHIN), self._telling:
                        pass
                listener.cancel()
                await asyncio.wait({listener})  # It closes its connections.

    def _forget(self, key: str, owner: str) -> None:
        del self._turns[key, owner]
        del self._waiting[key][owner]
        if not self._waiting[key]:
            del self._waiting[key]

    async def tell_of_turn(self, key: str) -> None:
        """Tell this server that the waiter whose turn it is was woken: its heartbeat stops for a while."""
        from redis.exceptions import RedisClusterException, RedisError

        if self._client is not None:
            with suppress(RedisError, RedisClusterException, TimeoutError):
                async with asyncio.timeout(TOLD_WITHIN):
                    await self._look(self._client, [key])

    async def _listen(self) -> None:
        from redis.exceptions import RedisClusterException, RedisError

        interrupted = False
        while not _told_to_end():
            try:
                client = await _client(self._conn_id)
                try:
                    async with client.pubsub() as subscription:
                        await subscription.psubscribe(scripts.released_channel("*"))
                        self._client, self._next_poll, interrupted = client, 0.0, False
                        while not _told_to_end():
                            await self._hear(client, subscription)
                finally:
                    self._client = None
                    await client.aclose()
            except (RedisError, RedisClusterException) as error:
                if isinstance(error, _refusals()):
                    raise  # Only a person can mend that; the sensor fails with it.
                # Not the end: the sensor, woken at its deadline, reports a Redis that stays away.
                if not interrupted:
                    why = told(self._conn_id, scripts.released_channel("*"), error)
                    logger.warning("the triggerer can't see locks come free: %s", why)
                interrupted = True
                await asyncio.sleep(RECONNECT)

    async def _hear(self, client: Redis, subscription: Any) -> None:
        pause = min(0.2, max(0.0, self._next_poll - time.monotonic()))
        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=pause)
        if message:
            key = text(message["channel"]).removeprefix("{").rpartition("}")[0]
            if (turn := self._turns.get((key, text(message["data"])))) is not None and not turn.done():
                turn.set_result(None)
                async with self._telling:
                    await self._look(client, [key])
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + POLL
            await self._look(client, list(self._waiting))

    async def _look(self, client: Redis, keys: Sequence[str]) -> None:
        """Give a sign of life of all who wait for these locks, and wake those whose turn it is."""
        asked = [(key, dict(self._waiting[key])) for key in keys if key in self._waiting]
        async with client.pipeline(transaction=False) as pipeline:
            for key, waiters in asked:
                names = scripts.keys(key)
                values = [
                    value
                    for owner, waiter in waiters.items()
                    for value in (owner, waiter.position, ms(waiter.deadline - time.time()))
                ]
                pipeline.eval(queue_scripts.TURN, len(names), *names, *values)
            for (key, waiters), (head, *positions) in zip(asked, await pipeline.execute(), strict=True):
                for waiter, position in zip(waiters.values(), positions, strict=True):
                    waiter.position = text(position)
                turn = self._turns.get((key, text(head)))
                if turn is not None and not turn.done():
                    turn.set_result(None)


def _told_to_end() -> bool:
    """Return whether this task was cancelled.

    In Python 3.11 that can be lost (python/cpython#81839, in `asyncio.wait_for`, which redis-py sends by):
    the listener would go on, and the trigger that waits for its end would never fire.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _refusals() -> tuple[type[Exception], ...]:
    from redis import exceptions

    return (
        exceptions.AuthenticationError,
        exceptions.AuthenticationWrongNumberOfArgsError,
        exceptions.AuthorizationError,
        exceptions.NoPermissionError,
    )


async def _client(conn_id: str) -> Redis:
    from iam_watcher.lock.clients import async_redis_client

    return await async_redis_client(conn_id, answer_within=TIMEOUT)
