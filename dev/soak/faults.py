"""The faults of a soak: one after the other, often before the last one is over."""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.backoff import NoBackoff  # noqa: TID253  Airflow doesn't parse this
from redis.retry import Retry  # noqa: TID253  the same

from dev.sessions import wait_until
from dev.soak.witness import Event, Witness, now
from dev.soak.worker import HEARTBEAT_TTL, LEASE, Run
from iam_watcher.errors import LockError, LockUnavailable
from iam_watcher.lock.admin.force_release import force_release
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from dev.soak.crew import Crew
    from dev.soak.worker import Place

ON_ITS_OWN = 0.7  # of all faults: the next one waits until all locks change hands again
SETTLED_WITHIN = 30.0  # seconds for that
PAUSE = (0.0, 0.7)  # seconds between two faults


class Faults:
    """Injects faults, and measures how long a crash of a holder blocked the others.

    Args:
        place: where.
        crew: the processes.
        witness: tells who holds what.
        rng: decides everything.
    """

    def __init__(self, place: Place, crew: Crew, witness: Witness, rng: random.Random) -> None:
        self._place, self._crew, self._witness, self._rng = place, crew, witness, rng
        # Its own patience is not what is tested.
        self._client = place.redis.client(socket_timeout=10, retry=Retry(NoBackoff(), 3))
        self.injected: Counter[str] = Counter()
        self.blocks: list[float] = []
        self.not_settled: list[str] = []
        self._crash: Event | None = None
        self._kinds: tuple[tuple[int, Callable[[], str | None]], ...] = (
            (8, self._holder_killed),
            (1, self._waiter_killed),
            (3, self._holder_stopped),
            (2, self._holder_stopped_and_retried),
            (2, self._holder_stopped_and_released),
            (2, self._redis_restarted),
            (1, self._redis_crashed),
            (3, self._redis_paused),
            (2, self._keys_flushed),
            (2, self._connections_killed),
            (2, self._released_by_force),
        )

    def inject(self) -> str:
        """Do one fault, and mostly wait until all goes on as before; return what was done."""
        time.sleep(self._rng.uniform(*PAUSE))
        weights, kinds = zip(*self._kinds, strict=True)
        (kind,) = self._rng.choices(kinds, weights)
        alone = self._rng.random() < ON_ITS_OWN
        self._crash = None
        text = kind()
        if text is None:
            return "no one holds, or waits for, a lock at this moment"
        self.injected[kind.__name__.strip("_").replace("_", " ")] += 1
        if not alone:
            return f"{text}; the next fault at once"
        seconds = self._settle(text)
        return f"{text}; {seconds:.1f} s"

    def _settle(self, text: str) -> float:
        """Wait until work began under every key since now, and return how long that took."""
        started = now()
        keys = {*self._place.plain, *self._place.in_database}
        crash = self._crash

        def begun() -> bool:
            self._crew.tend()
            events = self._witness.read()
            fresh = [event for event in events if event.what == "begin" and event.at > started]
            if crash is not None:
                after = [event for event in fresh if event.key == crash.key and event.hold != crash.hold]
                if not after:
                    return False
            return {event.key for event in fresh} == keys

        if not wait_until(begun, SETTLED_WITHIN):
            self.not_settled.append(text)
        elif crash is not None:
            self.blocks.append(self._block(crash, started))
        return now() - started

    def _block(self, crash: Event, killed: float) -> float:
        """Return how long those who wanted the lock of a process that was killed waited for its end."""
        begins = [event for event in self._witness.events if event.what == "begin" and event.key == crash.key]
        following = next(event for event in begins if event.at > killed)
        return following.at - max(killed, following.since or killed)

    def _holder(self) -> Event | None:
        holds = [event for event in self._witness.open_holds().values() if self._crew.alive(event.pid)]
        return self._rng.choice(sorted(holds, key=lambda event: event.key)) if holds else None

    def _holder_killed(self) -> str | None:
        holder, retry = self._holder(), self._rng.random() < 0.5  # noqa: PLR2004  one way or the other
        if holder is None:
            return None
        self._crew.kill(holder, retry=retry)
        self._crash = holder
        return f"killed {holder.hold}, holder of {holder.key}{', and retried' if retry else ''}"

    def _waiter_killed(self) -> str | None:
        waiting = [event for event in self._witness.waiting() if self._crew.alive(event.pid)]
        if not waiting:
            return None
        victim = self._rng.choice(waiting)
        self._crew.kill(victim, retry=False)
        return f"killed {victim.hold}, waiting for {victim.key}"

    def _stop(self, holder: Event, seconds: float) -> None:
        self._crew.signal(holder.pid, signal.SIGSTOP)
        time.sleep(seconds)
        self._crew.signal(holder.pid, signal.SIGCONT)

    def _holder_stopped(self) -> str | None:
        holder, seconds = self._holder(), self._rng.uniform(0.9, 1.6) * LEASE
        if holder is None:
            return None
        self._stop(holder, seconds)
        return f"stopped {holder.hold}, holder of {holder.key}, for {seconds:.1f} s"

    def _holder_stopped_and_retried(self) -> str | None:
        """Stop the holder and retry it, as Airflow does when the task's heartbeat is missing."""
        holder, seconds = self._holder(), self._rng.uniform(HEARTBEAT_TTL + 0.3, LEASE)
        if holder is None:
            return None
        self._crew.start(Run(holder.key, holder.owner), only_once=True)
        self._stop(holder, seconds)
        return f"stopped {holder.hold}, holder of {holder.key}, for {seconds:.1f} s, and retried it"

    def _holder_stopped_and_released(self) -> str | None:
        """Stop the holder and release its lock, as the teardown does after "mark failed"."""
        holder, seconds = self._holder(), self._rng.uniform(HEARTBEAT_TTL + 0.3, LEASE)
        if holder is None:
            return None
        self._crew.signal(holder.pid, signal.SIGSTOP)
        until = now() + seconds
        teardown = Lease(self._client, holder.key, holder.owner, ttl=LEASE)
        with suppress(LockUnavailable):
            wait_until(teardown.release, seconds)
        time.sleep(max(0.0, until - now()))
        self._crew.signal(holder.pid, signal.SIGCONT)
        return f"stopped {holder.hold}, holder of {holder.key}, for {seconds:.1f} s, and released its lock"

    def _redis_restarted(self) -> str:
        at = now()
        self._place.redis.restart()
        self._lost_keys(at)
        return "restarted Redis, empty"

    def _redis_crashed(self) -> str:
        seconds = self._rng.uniform(0.0, LEASE)
        at = now()
        self._place.redis.crash()
        time.sleep(seconds)
        self._place.redis.start()
        self._lost_keys(at)
        return f"killed Redis, started it empty after {seconds:.1f} s"

    def _redis_paused(self) -> str:
        seconds = self._rng.uniform(0.1, 1.5) * LEASE
        self._place.redis.pause()
        time.sleep(seconds)
        self._place.redis.resume()
        return f"paused Redis for {seconds:.1f} s"

    def _keys_flushed(self) -> str:
        at = now()
        self._client.flushall()
        self._lost_keys(at)
        return "FLUSHALL"

    def _connections_killed(self) -> str:
        killed = self._client.client_kill_filter(_type="normal", skipme=True)
        return f"killed {killed} connections to Redis"

    def _released_by_force(self) -> str | None:
        holder = self._holder()
        if holder is None:
            return None
        at = now()
        try:
            released = force_release([self._client], holder.key, by="soak", reason="a fault")
        except LockError:
            return None  # Its holder was faster.
        self._witness.tell(Event("forced", at, holder.key, owner=released.owner, until=now()))
        return f"released {holder.key} of {released.owner} by force"

    def _lost_keys(self, at: float) -> None:
        self._witness.tell(Event("lost_keys", at, until=now()))
