"""Renews a run's lease while one of its tasks works, and stops the task when the lease is lost.

A thread renews the lease every RENEW_EVERY seconds. The same request is the heartbeat of this process: a
retry waits until the heartbeat of its predecessor is over, and `release` waits for those of all tasks.

The race between the renewals and the end of the lease, if a lease lasts 60 s and Redis is gone after t0:

    t0           The last renewal that Redis answered. The times below count from the moment before its
                 request, so that they are over in this process before they are over in Redis (see `lease`).
    t0 + 2 s     The next renewal gets no answer. Nothing is lost: the thread tries again every 2 s.
    t0 + 6 s     The heartbeat is over. From now on a retry may begin, or `release` may free the lock. So
                 `check` asks Redis before the work goes on, and `verify` waits until Redis answers.
    t0 + 55 s    A task without safe points gets SIGTERM, and its process ends at t0 + 60 s.
    t0 + 60 s    The lease is over: `check` raises. After that Redis deletes the key, and another run may
                 acquire the lock.

A renewal that Redis refuses (another run has the lock, or it was released by force) ends the work at once.
After a SIGSTOP the main thread and the renewing thread wake up together, so `check` goes by the clock and not
by what the thread has done.

The thread never logs and never resolves a connection. In an orphan (a process whose supervisor is dead)
logging raises, and only the main thread may use the connection to the supervisor.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from iam_watcher.errors import LockError, LockLost, LockUnavailable
from iam_watcher.lock.lease import valid_until
from iam_watcher.lock.outcome import Renewal

if TYPE_CHECKING:
    from collections.abc import Callable

    from iam_watcher.lock.holder import Holder
    from iam_watcher.lock.lease import Lease

Answer = TypeVar("Answer")

RENEW_EVERY = 2.0  # seconds between two renewals
ASK_AGAIN_AFTER = 0.25  # seconds between two requests of `verify` to a Redis that does not answer
# Seconds for which a heartbeat counts: more than the longest statement, which a server finishes although its
# client is dead.
HEARTBEAT_TTL = 6.0
KILL_AFTER = 5.0  # seconds between SIGTERM and the end of a process, as in Airflow's supervisor

LOST_BECAUSE = {
    Renewal.FOREIGN: "another run acquired it",
    Renewal.REVOKED: "it was released by force",
    Renewal.MAX_HOLD: "it was held for max_hold",
    Renewal.REPLACED: "a later try of this task took over",
    Renewal.GONE: "its key was deleted or expired",
    Renewal.FORGOTTEN: "Redis lost its keys, and another run acquired the lock",
}


class LeaseRenewer:
    """Renews one lease for one task, in a thread.

    Args:
        lease: held by this run.
        member: the task, as `task_id/map_index`.
        nonce: a text that differs for each try of the task.
        has_safe_points: the task calls `current.safe_point` between its steps. Any other task gets SIGTERM
            when the lease is lost, or KILL_AFTER before the lease ends without a renewal.

    Attributes:
        failed: renewals so far that got no answer, or were refused.
    """

    def __init__(self, lease: Lease, member: str, nonce: str, *, has_safe_points: bool) -> None:
        self.lease, self.member, self.nonce = lease, member, nonce
        self.failed = 0
        self._lost: LockError | None = None
        self._last_error: LockUnavailable | None = None
        self._heartbeat_until = 0.0  # by our clock: until then, no release and no retry begins
        self._lease_in_use = threading.Lock()  # a Lease is for one thread at a time
        self._ended = threading.Event()
        self._renewals_over = threading.Event()
        targets = [self._run] if has_safe_points else [self._run, self._end_in_time]
        self._threads = [
            threading.Thread(target=target, name=f"lease-renewal-{lease.key}", daemon=True)
            for target in targets
        ]

    def start(self) -> None:
        """Start to renew the lease."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop to renew, and remove the heartbeat. The lease stays: the run may have more tasks."""
        self._end()
        with suppress(LockError):  # Redis does not answer: the heartbeat expires.
            self.lease.leave(self.member, self.nonce)

    def hand_over(self) -> None:
        """Stop to renew, and leave a new heartbeat to the triggerer, which renews the lease from now on.

        Raises:
            LockLost, LockUnavailable: the lease is lost; see `check`.
        """
        self.check_lease()
        with suppress(LockUnavailable):  # The triggerer can ask again until the lease ends.
            self.renew()
        self._end()

    def _end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def loss(self) -> LockError | None:
        """Why the lease was lost; None as long as that is not known."""
        return self._lost

    def check(self) -> None:
        """Return if this process still owns the lease; ask Redis only if the heartbeat is over.

        Raises:
            LockLost: it does not.
            LockUnavailable: it does not, because Redis did not answer for as long as the lease lasts.
        """
        self.check_lease()
        if time.monotonic() >= self._heartbeat_until:
            self.try_renew()
            self.check_lease()

    def check_lease(self) -> None:
        """Raise as `check` does if the lease is lost by the local clock, without a request to Redis."""
        if self._lost is None and self.lease.remaining <= 0:
            self._lost = self._last_error or LockLost(
                f"{self.lease.key!r} was not renewed for {self.lease.ttl:g} s; "
                "this process or its renewing thread was stopped"
            )
        if self._lost is not None:
            raise self._lost

    def verify(self, wanted: Callable[[], None]) -> None:
        """Ask Redis now, and return if this process still owns the lease.

        If Redis does not answer, ask again for as long as the lease lasts.

        Args:
            wanted: called before each further request; raises if the answer isn't needed any more.

        Raises:
            LockLost: it does not.
            LockUnavailable: Redis did not answer until the lease was over.
        """
        self._until_answered(self.renew, wanted)

    def others_at_work(self, wanted: Callable[[], None]) -> bool:
        """Return whether other tasks of the same run have a heartbeat; see `verify`."""
        holder = self._until_answered(self._holder, wanted)
        if holder is None or holder.owner != self.lease.owner:
            return False
        return bool(set(holder.busy) - {self.member})

    def _holder(self) -> Holder | None:
        with self._lease_in_use:
            return self.lease.holder()

    def _until_answered(self, ask: Callable[[], Answer], wanted: Callable[[], None]) -> Answer:
        while True:
            self.check_lease()
            try:
                return ask()
            except LockUnavailable as error:
                self._last_error = error
            time.sleep(ASK_AGAIN_AFTER)
            wanted()

    def _run(self) -> None:
        while not self._ended.wait(RENEW_EVERY):
            self.try_renew()
            if self._lost is not None:
                break
        self._renewals_over.set()

    def _end_in_time(self) -> None:
        """End the process when the lease is lost, or KILL_AFTER before the lease ends.

        This is a thread of its own, because the renewing thread may be waiting for an answer.
        """
        while (left := self.lease.remaining - KILL_AFTER) > 0:
            if self._renewals_over.wait(left):
                break
        if not self._ended.is_set():
            self._end_process()

    def try_renew(self) -> None:
        """Renew the lease, and keep an error for `check` to raise."""
        try:
            self.check_lease()
            self.renew()
        except LockUnavailable as error:
            self._last_error = error  # The next renewal asks again, for as long as the lease lasts.
        except LockError as error:
            self._lost = error
        except Exception as error:  # noqa: BLE001  whatever it is, nobody renews any more
            self._lost = LockLost(f"{self.lease.key!r} can't be renewed: {error!r}")
        else:
            return
        self.failed += 1

    def renew(self) -> None:
        """Renew the lease and the heartbeat.

        Raises:
            LockLost: the lease is not ours any more.
            LockUnavailable: Redis does not answer.
        """
        with self._lease_in_use:
            started = time.monotonic()
            answer = self.lease.heartbeat(self.member, self.nonce, heartbeat_ttl=HEARTBEAT_TTL)
            if answer is Renewal.FORGOTTEN and self.lease.remaining > 0 and self.lease.acquire(ahead=True):
                # Redis lost its keys, and no other run acquired the lock meanwhile.
                answer = self.lease.heartbeat(self.member, self.nonce, heartbeat_ttl=HEARTBEAT_TTL)
        if answer is Renewal.RENEWED:
            self._heartbeat_until = valid_until(started, HEARTBEAT_TTL)
        else:
            raise LockLost(f"{self.lease.key!r} of {self.lease.owner}: {LOST_BECAUSE[answer]}")

    def _end_process(self) -> None:
        """Send SIGTERM to this process, for the task's `on_kill`, and end the process after KILL_AFTER.

        Nothing here may block or raise: the process must end whatever the task does.
        """
        reason = self._lost or self._last_error or f"{self.lease.key!r} was not renewed in time"
        text = f"iam_watcher: {reason}; ending this task\n"
        threading.Thread(target=_write_stderr, args=(text,), daemon=True).start()
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._ended.wait(KILL_AFTER):
            os._exit(1)


def _write_stderr(text: str) -> None:
    with suppress(OSError):
        os.write(2, text.encode())
