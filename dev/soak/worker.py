"""One process of the soak. It does the same as the tasks of a Watcher, with the same lock.

It waits in the queue (`acquire`), registers its heartbeat and acquires the lock (`guard`), works step by
step while `renewal` renews the lease, removes the heartbeat, and releases the lock (`release`). Lease,
heartbeat and the time between renewals are shorter than those of a Watcher, by one factor, so that more
happens in a minute.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from dev.soak.witness import Event, Witness, now
from iam_watcher.database.database_lock import DatabaseLock
from iam_watcher.errors import LockError, LockUnavailable
from iam_watcher.lock import SHORTEST_LEASE, renewal
from iam_watcher.lock.clients import TIMEOUT_SHARE, reconnect_once
from iam_watcher.lock.guard import PR_SET_PDEATHSIG
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.renewal import LeaseRenewer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis as Client

    from dev.servers import MariaDB, Redis

SCALE = 0.3
LEASE = SHORTEST_LEASE.total_seconds() * SCALE  # seconds, as all of these
RENEW_EVERY = renewal.RENEW_EVERY * SCALE
HEARTBEAT_TTL = renewal.HEARTBEAT_TTL * SCALE
TIMEOUT = LEASE / TIMEOUT_SHARE

WAIT = 60.0  # as `Lock(wait=…)`
POLL = (0.02, 0.1)
PREDECESSOR_GONE_WITHIN = 10.0
RELEASED_WITHIN = 10.0
STEPS = (5, 30)
STEP = (0.002, 0.02)  # seconds from a check to the end of its step, and from there to the next check
LONG_HOLD = 0.05  # of all holds: long enough to need renewals
WORK_TABLE = "soak.step"
MEMBER = "work/-1"


@dataclass(frozen=True)
class Place:
    """Where the processes meet.

    Args:
        redis: the lock's.
        mariadb: of the keys with a database lock.
        witness: the path of the witness's file.
        plain: keys that only the lease guards.
        in_database: keys that the database lock guards too.
    """

    redis: Redis
    mariadb: MariaDB
    witness: Path
    plain: tuple[str, ...]
    in_database: tuple[str, ...]

    def client(self) -> Client:
        """Return a client as the lock's hook makes them."""
        return self.redis.client(
            socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=reconnect_once()
        )


@dataclass(frozen=True)
class Run:
    """What a process does under a lock, and does again if it was killed: the same owner."""

    key: str
    owner: str


def work(place: Place, seed: int, retried: Run | None, *, only_once: bool = False) -> None:
    """Run one process: work for ever, or do one run again and end.

    Args:
        place: where.
        seed: of its own random numbers.
        retried: the run of a process that it replaces.
        only_once: end after that run.
    """
    renewal.RENEW_EVERY, renewal.HEARTBEAT_TTL = RENEW_EVERY, HEARTBEAT_TTL
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The controller's own handlers were inherited by the fork.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    worker = _Worker(place, random.Random(seed))  # noqa: S311  a repeatable run, not a secret
    if retried:
        worker.do(retried, again=True)
    while not only_once:
        worker.do(worker.new_run(), again=False)


class _Worker:
    def __init__(self, place: Place, rng: random.Random) -> None:
        self._place, self._rng = place, rng
        self._client = place.client()
        self._witness = Witness(place.witness)
        self._numbers = count()

    def new_run(self) -> Run:
        number = next(self._numbers)
        return Run(
            self._rng.choice((*self._place.plain, *self._place.in_database)),
            f"soak/{os.getpid()}/run-{number}",
        )

    def do(self, run: Run, *, again: bool) -> None:
        hold = f"{run.owner}{'-again' if again else ''}@{os.getpid()}"
        lease = Lease(self._client, run.key, run.owner, ttl=LEASE)
        since = None if again else self._tell("wait", run, hold)
        got = 0.0 if again else self._wait(lease)
        if got is None:
            self._tell("gave_up", run, hold)
            return
        try:
            if not self._enter(lease, hold):
                return
            if not lease.acquire():
                lease.leave(MEMBER, hold)
                return
        except LockUnavailable:
            return
        held_since = got if got and lease.verdict == "held" else now()
        self._tell("begin", run, hold, at=held_since, since=since)
        alive = LeaseRenewer(lease, MEMBER, hold, has_safe_points=True)
        alive.start()
        try:
            self._work(run, hold, alive)
        except LockError:
            pass  # The lease was lost: what a job does then is to stop.
        finally:
            self._tell("end", run, hold)
            alive.stop()
        self._release(lease, run)

    def _wait(self, lease: Lease) -> float | None:
        """Wait in the queue; return when this process acquired the lock, or None."""
        deadline = time.time() + WAIT
        while time.time() < deadline:
            # Redis out of reach fails the task `acquire`, and its retry goes on waiting.
            with suppress(LockUnavailable):
                if lease.acquire():
                    return now()
                lease.queue(deadline)
            time.sleep(self._rng.uniform(*POLL))
        return None

    def _enter(self, lease: Lease, hold: str) -> bool:
        deadline = now() + PREDECESSOR_GONE_WITHIN
        while not lease.enter(MEMBER, hold, heartbeat_ttl=HEARTBEAT_TTL):
            if now() > deadline:
                return False
            time.sleep(self._rng.uniform(*POLL))
        return True

    def _work(self, run: Run, hold: str, alive: LeaseRenewer) -> None:
        if run.key in self._place.plain:
            for _ in self._steps():
                checked = now()
                alive.check()
                self._take_time()
                self._tell("step", run, hold, at=checked)
            return
        import MySQLdb

        insert = f"INSERT INTO {WORK_TABLE} (lock_key, hold) VALUES (%s, %s)"
        # A session that was ended from outside: the job fails, as it should.
        with (
            suppress(MySQLdb.OperationalError),
            closing(self._place.mariadb.connect_as_watcher("soak", autocommit=False)) as session,
        ):
            DatabaseLock(run.key, lease=LEASE, verify=lambda: alive.verify(alive.check)).take(session)
            for _ in self._steps():
                alive.check()
                self._take_time()
                with closing(session.cursor()) as cursor:
                    cursor.execute(insert, (run.key, hold))
                session.commit()

    def _steps(self) -> Iterator[None]:
        long_hold = self._rng.random() < LONG_HOLD
        until = now() + self._rng.uniform(1.2, 2.0) * LEASE
        steps = self._rng.randint(*STEPS)
        while steps or (long_hold and now() < until):
            steps = max(0, steps - 1)
            yield
            self._take_time()

    def _take_time(self) -> None:
        time.sleep(self._rng.uniform(*STEP))

    def _release(self, lease: Lease, run: Run) -> None:
        deadline = now() + RELEASED_WITHIN
        # Redis out of reach: the lease runs out by itself.
        with suppress(LockUnavailable):
            while not lease.release() and now() < deadline:
                holder = lease.holder()
                if holder is None or holder.owner != run.owner:
                    return
                time.sleep(self._rng.uniform(*POLL))

    def _tell(self, what: str, run: Run, hold: str, *, at: float | None = None, **more: Any) -> float:
        at = now() if at is None else at
        self._witness.tell(Event(what, at, run.key, hold, run.owner, os.getpid(), **more))
        return at
