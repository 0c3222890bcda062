"""LeaseKeepingTrigger: renews a run's lease while one of its tasks is deferred.

The keepalive is a thread of the task's process, and a deferred task has none. So `guard.begin` lets the
task's `defer` hand this trigger to Airflow. It runs the task's own trigger inside, and renews lease and mark
beside it as the thread would: the work that is waited for goes on elsewhere, and the lock must not be free.
"""

from __future__ import annotations

import asyncio
import pkgutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
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

# A beat is a millisecond, but a second if one of several servers hangs: then so many leases are renewed a
# second. Each thread has a connection to each server at most.
logger = get_logger(__name__)

THREADS = 64
STOPPED_WITHIN = 30.0  # seconds for a trigger's `on_kill`, as Airflow's own [triggerer] on_kill_timeout


class LeaseKeepingTrigger(BaseTrigger):
    """Fires what a deferred task's own trigger fires, and renews the lease of its run meanwhile.

    When the lease is lost, the other trigger is stopped as when a person ends the task, and this one fails.

    :param grant: what the task works under, as JSON.
    :param member: the task, as `task_id/map_index`.
    :param nonce: what tells this try of the task from another.
    :param classpath: of the task's own trigger.
    :param kwargs: of that one.
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
        self._waits: asyncio.Task[Any] | None = None  # for the inner trigger's next event
        self._lost: Exception | None = None
        self._interruptions = 0  # of the one that waits, by us

    @classmethod
    def around(cls, trigger: BaseTrigger, grant: Grant, member: str, nonce: str) -> Self:
        """Return one that runs `trigger` inside."""
        classpath, kwargs = trigger.serialize()
        return cls(grant=grant.to_xcom(), member=member, nonce=nonce, classpath=classpath, kwargs=kwargs)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer makes the same trigger of."""
        names = ("grant", "member", "nonce", "classpath", "kwargs")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the other trigger's events.

        Raises:
            LockLost: the lease is not ours any more.
            LockUnavailable: it is not, because Redis could not be asked for too long.
        """
        try:
            renewer = await self._begin()
        except LockError:
            await self._stop_work()
            raise
        keeping = asyncio.create_task(self._keep(renewer))
        events = aiter(self._own().run())
        try:
            while (event := await self._next(events)) is not None:
                yield event
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            if (close := getattr(events, "aclose", None)) is not None:
                await close()

    async def cleanup(self) -> None:
        """Pass it on. The mark stays: another triggerer may go on, or the task's next process."""
        if self._inner is not None:
            await self._inner.cleanup()

    async def on_kill(self) -> None:
        """Pass it on. The mark runs out by itself, which gives the work some seconds to stop."""
        await self._own().on_kill()

    def _own(self) -> BaseTrigger:
        """Return the task's own trigger, as the triggerer would have made it."""
        if self._inner is None:
            self._inner = pkgutil.resolve_name(self.classpath)(**self.kwargs)
            set_as_the_triggerer_does(self._inner, outer=self)
        return self._inner

    async def _begin(self) -> LeaseRenewer:
        """Renew for the first time: this process knows nothing of the lease yet.

        A Redis that is away may still have it, so it is asked for as long as a lease lasts.
        """
        grant = Grant.from_json(self.grant)
        lease = grant.lease(await _Shared.here().clients(grant))
        renewer = LeaseRenewer(lease, self.member, self.nonce, stops_itself=True)
        until = time.monotonic() + grant.ttl
        while True:
            try:
                await _Shared.here().call(renewer.beat)
            except LockUnavailable:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(renewal.RENEW_EVERY)
            else:
                return renewer

    async def _keep(self, renewer: LeaseRenewer) -> None:
        """Renew until the lease is lost; then interrupt the wait for the other trigger."""
        try:
            while True:
                await asyncio.sleep(renewal.RENEW_EVERY)
                await _Shared.here().call(renewer.renew)
                renewer.check_lease()
        except Exception as error:  # noqa: BLE001  whatever it is, no one renews any more
            self._lost = error
            while self._waits is not None:
                self._waits.cancel()
                self._interruptions += 1
                await asyncio.sleep(renewal.RENEW_EVERY)  # In Python 3.11 it can be lost: see `trigger`.

    async def _next(self, events: AsyncIterator[TriggerEvent]) -> TriggerEvent | None:
        """Return the other trigger's next event, or None after the last one.

        It runs in Airflow's own task, not in one of ours: the way of a trigger to the triggerer's
        supervisor, for connections, is bound to that.
        """
        event = None
        if self._lost is None:
            self._waits = waits = asyncio.current_task()
            try:
                event = await anext(events, None)
            except asyncio.CancelledError:
                # By us, or by Airflow; it may be both.
                if waits is None or waits.cancelling() > self._interruptions:
                    raise
            finally:
                self._waits = None
        if self._lost is not None:
            await self._stop_work()
            raise self._lost
        return event

    async def _stop_work(self) -> None:
        """Stop what the other trigger waits for, as Airflow does: first the trigger, then its work."""
        try:
            async with asyncio.timeout(STOPPED_WITHIN):
                await self._own().on_kill()
        except Exception as error:  # noqa: BLE001  whatever it is, that the lease is lost is said
            logger.warning("event=work_not_stopped task=%s error=%r", self.member, error)


class _Shared:
    """What all triggers of one event loop share: the threads they ask in, and a client for each server.

    The client is redis-py's blocking one: so all that `Lease` promises, quorum included, holds here too.
    """

    _all: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared]] = WeakKeyDictionary()

    @classmethod
    def here(cls) -> _Shared:
        """Return that of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in cls._all:
            cls._all[loop] = cls()
        return cls._all[loop]

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lease-keeping")
        # They are closed with the last lease that holds them.
        self._clients: WeakValueDictionary[tuple[str, float, int], Redis] = WeakValueDictionary()
        self._making = asyncio.Lock()  # or a thousand triggers that begin at once make a thousand of them

    async def call(self, what: Callable[[], None]) -> None:
        """Do what waits for Redis in a thread."""
        await asyncio.get_running_loop().run_in_executor(self._threads, what)

    async def clients(self, grant: Grant) -> list[Redis]:
        """Return the clients of a grant's servers."""
        from iam_watcher.lock.clients import redis_client_for_threads

        found = []
        servers, lease = len(grant.redis_conn_ids), timedelta(seconds=grant.ttl)
        for conn_id in grant.redis_conn_ids:
            async with self._making:
                client = self._clients.get((conn_id, grant.ttl, servers))
                if client is None:
                    client = await redis_client_for_threads(conn_id, lease=lease, servers=servers)
                    self._clients[conn_id, grant.ttl, servers] = client
                found.append(client)
        return found
