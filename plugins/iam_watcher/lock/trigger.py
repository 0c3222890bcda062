"""RedisLockTrigger: waits in the triggerer until a sensor is first in the queue of a free lock.

The trigger only observes; the sensor acquires the lock when it runs again. If the lock has several servers,
the first one that says so wakes the sensor; a majority decides when it acquires.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from airflow.triggers.base import BaseTrigger, TriggerEvent

from iam_watcher.lock import queue_scripts, scripts
from iam_watcher.lock.answers import explain, unavailable
from iam_watcher.lock.subscription import Subscription, connect, refused
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

logger = get_logger(__name__)

Reason = Literal["free", "deadline"]
"""Why the sensor is woken."""


class RedisLockTrigger(BaseTrigger):
    """Fires when a lock is free and the run that waits is first in the queue, or when the deadline is over.

    :param key: the key of the lock.
    :param owner: the owner that waits: the run, as the lock names it.
    :param redis_conn_ids: ids of the Airflow connections to the servers of the lock.
    :param deadline: end of the wait, in seconds since 1970.
    """

    def __init__(self, *, key: str, owner: str, redis_conn_ids: Sequence[str], deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.key = key
        self.owner = owner
        self.redis_conn_ids = redis_conn_ids
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments with which a triggerer creates this trigger."""
        names = ("key", "owner", "redis_conn_ids", "deadline")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: `{"key": …, "reason": "free" | "deadline"}`.

        Raises:
            LockUnavailable: so many servers refuse the account that no majority is left.
        """
        waits = {
            asyncio.create_task(Subscription.of(conn_id).wait(self.key, self.owner, self.deadline)): conn_id
            for conn_id in self.redis_conn_ids
        }
        try:
            reason = await self._first(waits)
            if reason == "free":
                others = [Subscription.of(conn_id) for one, conn_id in waits.items() if not one.done()]
                await asyncio.gather(*(watch.confirm_wake(self.key) for watch in others))
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        yield TriggerEvent({"key": self.key, "reason": reason})  # type: ignore[no-untyped-call]

    async def _first(self, waits: dict[asyncio.Task[bool], str]) -> Reason:
        """Return the reason that the first server gives, of those that don't refuse the account."""
        pending, refusals = set(waits), 0
        while True:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            errors = [(waits[one], error) for one in done if (error := one.exception())]
            if len(errors) < len(done):
                return "free" if any(one.result() for one in done if not one.exception()) else "deadline"
            refusals += len(errors)
            for conn_id, error in errors:
                if 2 * refusals >= len(waits):
                    if isinstance(error, refused()):
                        raise unavailable(conn_id, self.key, error) from error
                    raise error
                why = explain(conn_id, self.key, error)
                logger.warning("waiting without one of the servers: %s", why)

    async def on_kill(self) -> None:
        """Leave the queue, because a person ended the task: the next waiter need not wait for it."""
        answers = await asyncio.gather(*map(self._leave, self.redis_conn_ids), return_exceptions=True)
        for conn_id, error in zip(self.redis_conn_ids, answers, strict=True):
            if isinstance(error, Exception):
                # Without a heartbeat, the queue skips the owner within seconds.
                logger.warning("could not leave the waiting queue: %s", explain(conn_id, self.key, error))

    async def _leave(self, conn_id: str) -> None:
        client = await connect(conn_id)
        try:
            script = client.register_script(queue_scripts.UNQUEUE)
            channel = scripts.released_channel(self.key)
            await script(keys=scripts.keys(self.key), args=[self.owner, channel])
        finally:
            await client.aclose()
