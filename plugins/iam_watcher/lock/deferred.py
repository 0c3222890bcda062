"""LeaseKeepingTrigger: renews a run's lease while one of its tasks is deferred.

While a task works, a thread of its process renews the lease (see `renewal`). A deferred task has no process.
So `guard` puts this trigger in the place of the task's own one, which it runs inside
and renews the lease meanwhile: what the task waits for goes on elsewhere, under the lock.
"""

from __future__ import annotations

import asyncio
import pkgutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Self
from weakref import WeakKeyDictionary, WeakValueDictionary

from airflow.triggers.base import BaseTrigger

from iam_watcher.airflow_internals.tasks import set_as_the_triggerer_does
from iam_watcher.errors import LockError, LockUnavailable
from iam_watcher.lock import renewal
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.renewal import LeaseRenewer
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from airflow.triggers.base import TriggerEvent
    from redis import Redis

logger = get_logger(__name__)

# A renewal takes a millisecond, but a second if one of several servers hangs: then so many leases are renewed
# in a second. Each thread has at most one connection to each server.
THREADS = 64
STOPPED_WITHIN = 30.0  # seconds for a trigger's `on_kill`, the same as [triggerer] on_kill_timeout


class LeaseKeepingTrigger(BaseTrigger):
    """Yields the events of a deferred task's own trigger, and renews the lease of the run meanwhile.

    If the lease is lost, this trigger stops the task's own trigger as if a person had ended the task, and
    fails.

    :param grant: the grant that the task works under, as JSON.
    :param member: the task, as `task_id/map_index`.
    :param nonce: a text that differs for each try of the task.
    :param classpath: of the task's own trigger.
    :param kwargs: arguments of the task's own trigger.
    """

    def __init__(
        self, *, grant: dict[str, Any], member: str, nonce: str, classpath: str, kwargs: dict[str, Any]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.grant = grant
        self.member = member
        self.nonce = nonce
        self.classpath = classpath
        self.kwargs = kwargs
        self._inner: BaseTrigger | None = None
        self._waits: asyncio.Task[Any] | None = None  # for the next event of the task's own trigger
        self._lost: Exception | None = None
        self._interruptions = 0  # how often this trigger interrupted that wait

    @classmethod
    def around(cls, trigger: BaseTrigger, grant: Grant, member: str, nonce: str) -> Self:
        """Return a trigger that runs `trigger` inside."""
        classpath, kwargs = trigger.serialize()
        return cls(grant=grant.to_xcom(), member=member, nonce=nonce, classpath=classpath, kwargs=kwargs)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments with which a triggerer creates this trigger."""
        names = ("grant", "member", "nonce", "classpath", "kwargs")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the events of the task's own trigger.

        Raises:
            LockLost: the run does not own the lease any more.
            LockUnavailable: it does not, because Redis did not answer for as long as the lease lasts.
        """
        try:
            renewer = await self._begin()
        except LockError:
            await self._stop_work()
            raise
        renewals = asyncio.create_task(self._renew_until_lost(renewer))
        events = aiter(self._own().run())
        try:
            while (event := await self._next(events)) is not None:
                yield event
        finally:
            renewals.cancel()
            await asyncio.gather(renewals, return_exceptions=True)
            if (close := getattr(events, "aclose", None)) is not None:
                await close()

    async def cleanup(self) -> None:
        """Clean up the task's own trigger. The heartbeat stays: another triggerer or a process goes on."""
        if self._inner is not None:
            await self._inner.cleanup()

    async def on_kill(self) -> None:
        """Forward it. The heartbeat expires on its own, which gives the task's work a few seconds to stop."""
        await self._own().on_kill()

    def _own(self) -> BaseTrigger:
        """Return the task's own trigger, created as a triggerer does it."""
        if self._inner is None:
            self._inner = pkgutil.resolve_name(self.classpath)(**self.kwargs)
            set_as_the_triggerer_does(self._inner, outer=self)
        return self._inner

    async def _begin(self) -> LeaseRenewer:
        """Renew the lease for the first time in this process.

        If Redis does not answer, ask again for as long as a lease lasts: the run may still own it.
        """
        grant = Grant.from_json(self.grant)
        lease = grant.lease(await _Shared.here().clients(grant))
        renewer = LeaseRenewer(lease, self.member, self.nonce, has_safe_points=True)
        until = time.monotonic() + grant.ttl
        while True:
            try:
                await _Shared.here().call(renewer.renew)
            except LockUnavailable:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(renewal.RENEW_EVERY)
            else:
                return renewer

    async def _renew_until_lost(self, renewer: LeaseRenewer) -> None:
        """Renew until the lease is lost; then interrupt the wait for the task's own trigger."""
        try:
            while True:
                await asyncio.sleep(renewal.RENEW_EVERY)
                await _Shared.here().call(renewer.try_renew)
                renewer.check_lease()
        except Exception as error:  # noqa: BLE001  whatever it is, nobody renews any more
            self._lost = error
            while self._waits is not None:
                self._waits.cancel()
                self._interruptions += 1
                await asyncio.sleep(
                    renewal.RENEW_EVERY
                )  # Python 3.11 can lose a cancellation: see `trigger`.

    async def _next(self, events: AsyncIterator[TriggerEvent]) -> TriggerEvent | None:
        """Return the next event of the task's own trigger, or None after the last one.

        The own trigger runs in Airflow's asyncio task, because only there can it ask the triggerer's
        supervisor for connections.
        """
        event = None
        if self._lost is None:
            self._waits = waits = asyncio.current_task()
            try:
                event = await anext(events, None)
            except asyncio.CancelledError:
                # By `_renew_until_lost`, or by Airflow, or by both.
                if waits is None or waits.cancelling() > self._interruptions:
                    raise
            finally:
                self._waits = None
        if self._lost is not None:
            await self._stop_work()
            raise self._lost
        return event

    async def _stop_work(self) -> None:
        """Call `on_kill` of the task's own trigger, as Airflow does when a person ends the task."""
        try:
            async with asyncio.timeout(STOPPED_WITHIN):
                await self._own().on_kill()
        except Exception as error:  # noqa: BLE001  the lost lease is the error to raise
            logger.warning("the deferred work could not be stopped: task=%s error=%r", self.member, error)


class _Shared:
    """Shared by all triggers of one event loop: the threads for requests, and a client for each server.

    The clients are redis-py's blocking ones, so that the triggerer uses the same `Lease` as a task.
    """

    _all: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared]] = WeakKeyDictionary()

    @classmethod
    def here(cls) -> _Shared:
        """Return the one of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in cls._all:
            cls._all[loop] = cls()
        return cls._all[loop]

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lease-keeping")
        # They are closed with the last lease that holds them.
        self._clients: WeakValueDictionary[tuple[str, float], Redis] = WeakValueDictionary()
        self._making = asyncio.Lock()  # so that a thousand triggers that begin at once create one

    async def call(self, what: Callable[[], None]) -> None:
        """Call a function that waits for Redis, in a thread."""
        await asyncio.get_running_loop().run_in_executor(self._threads, what)

    async def clients(self, grant: Grant) -> list[Redis]:
        """Return a client for each server of the lock."""
        from iam_watcher.lock.clients import redis_client_for_threads, timeout_for

        found = []
        timeout = timeout_for(grant.ttl, servers=len(grant.redis_conn_ids))
        for conn_id in grant.redis_conn_ids:
            async with self._making:
                client = self._clients.get((conn_id, timeout))
                if client is None:
                    client = await redis_client_for_threads(conn_id, answer_within=timeout)
                    self._clients[conn_id, timeout] = client
                found.append(client)
        return found
