"""Keeps a run's lease alive while one of its tasks works, and stops the task when the lease is lost.

A thread renews the lease every RENEW_EVERY seconds, together with a mark that this process is alive: a retry
waits for the mark of its predecessor, and the release for all of them. `guard` begins it.

The thread never logs and never resolves a connection: in an orphan (its supervisor is dead) logging
raises, and the channel to the supervisor is the main thread's.
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
ASK_AGAIN_AFTER = 0.25  # seconds between two questions to a Redis that can't be asked
HEARTBEAT_TTL = 6.0  # seconds: longer than the longest statement, which a server finishes for a dead client
KILL_AFTER = 5.0  # seconds between SIGTERM and the end of a process, as Airflow's supervisor has it

LOST_BECAUSE = {
    Renewal.FOREIGN: "another took it",
    Renewal.REVOKED: "it was released by force",
    Renewal.MAX_HOLD: "it was held for max_hold",
    Renewal.REPLACED: "a later try of this task took over",
    Renewal.GONE: "its key was deleted or ran out",
    Renewal.FORGOTTEN: "Redis lost its keys, and another run acquired the lock",
}


class LeaseRenewer:
    """A thread that renews one lease for one task.

    Args:
        lease: held by this run.
        member: the task, as `task_id/map_index`.
        nonce: what tells this try of the task from another.
        stops_itself: the task calls `safe_point` between its steps; any other gets SIGTERM when the
            lease is lost, or KILL_AFTER before it ends without a renewal.
    """

    def __init__(self, lease: Lease, member: str, nonce: str, *, stops_itself: bool) -> None:
        self.lease, self.member, self.nonce = lease, member, nonce
        self._lost: LockError | None = None
        self._last_error: LockUnavailable | None = None
        self._marked_until = 0.0  # by our clock: until then, no release and no retry passes our mark
        self._beating = threading.Lock()  # a Lease is for one thread at a time
        self._ended = threading.Event()
        self._renewals_over = threading.Event()
        targets = [self._run] if stops_itself else [self._run, self._end_in_time]
        self._threads = [
            threading.Thread(target=target, name=f"lease-renewal-{lease.key}", daemon=True)
            for target in targets
        ]

    def start(self) -> None:
        """Begin to renew."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the renewals and take the mark off. The lease stays: the run may have more tasks."""
        self._end()
        with suppress(LockError):  # Redis out of reach: the mark expires by itself.
            self.lease.leave(self.member, self.nonce)

    def hand_over(self) -> None:
        """End the renewals and leave a fresh mark to the one that goes on with them in our name.

        Raises:
            LockLost, LockUnavailable: see `check`; there is nothing to go on with.
        """
        self.check_lease()
        with suppress(LockUnavailable):  # The other has the rest of the lease to ask again.
            self.beat()
        self._end()

    def _end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """Return if the lease is ours at this moment.

        Judged by this process's clock and not by the thread: after SIGSTOP both wake up at once. If the
        mark may have run out, the lock may have been freed or a retry begun, so Redis is asked first.

        Raises:
            LockLost: it is not.
            LockUnavailable: it is not, because Redis could not be asked for too long.
        """
        self.check_lease()
        if time.monotonic() >= self._marked_until:
            self.renew()
            self.check_lease()

    def check_lease(self) -> None:
        """Do as `check`, without asking Redis."""
        if self._lost is None and self.lease.remaining <= 0:
            self._lost = self._last_error or LockLost(
                f"{self.lease.key!r} was not renewed for {self.lease.ttl:g} s; "
                "this process stood still, or its thread did"
            )
        if self._lost is not None:
            raise self._lost

    def verify(self, wanted: Callable[[], None]) -> None:
        """Ask Redis now, and return if the lease is ours.

        A Redis that can't be asked is asked again for as long as the lease lasts.

        Args:
            wanted: called before each further question; raises if the answer isn't wanted any more.

        Raises:
            LockLost: it is not.
            LockUnavailable: Redis could not be asked until the lease was over.
        """
        self._ask_again(self.beat, wanted)

    def others_at_work(self, wanted: Callable[[], None]) -> bool:
        """Return whether other tasks of our run are alive under the lock; see `verify`."""
        holder = self._ask_again(self._holder, wanted)
        if holder is None or holder.owner != self.lease.owner:
            return False
        return bool(set(holder.busy) - {self.member})

    def _holder(self) -> Holder | None:
        with self._beating:
            return self.lease.holder()

    def _ask_again(self, ask: Callable[[], Answer], wanted: Callable[[], None]) -> Answer:
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
            self.renew()
            if self._lost is not None or self.lease.remaining <= 0:
                break
        self._renewals_over.set()

    def _end_in_time(self) -> None:
        """End the process when the lease is lost, or so early that the lease outlives it.

        Not the renewing thread's business: that one may be waiting for an answer.
        """
        while (left := self.lease.remaining - KILL_AFTER) > 0:
            if self._renewals_over.wait(left):
                break
        if not self._ended.is_set():
            self._end_process()

    def renew(self) -> None:
        """Renew lease and mark; what goes wrong is for `check` to tell."""
        try:
            self.check_lease()
            self.beat()
        except LockUnavailable as error:
            self._last_error = error  # The next beat asks again, for as long as the lease lasts.
        except LockError as error:
            self._lost = error
        except Exception as error:  # noqa: BLE001  whatever it is, no one renews any more
            self._lost = LockLost(f"{self.lease.key!r} can't be renewed: {error!r}")

    def beat(self) -> None:
        """Renew lease and mark.

        Raises:
            LockLost: the lease is not ours any more.
            LockUnavailable: Redis can't be asked.
        """
        with self._beating:
            started = time.monotonic()
            answer = self.lease.beat(self.member, self.nonce, busy_ttl=HEARTBEAT_TTL)
            if answer is Renewal.FORGOTTEN and self.lease.remaining > 0 and self.lease.acquire(ahead=True):
                # A Redis that lost its keys: ours again, and no one had it between.
                answer = self.lease.beat(self.member, self.nonce, busy_ttl=HEARTBEAT_TTL)
        if answer is Renewal.RENEWED:
            self._marked_until = valid_until(started, HEARTBEAT_TTL)
        else:
            raise LockLost(f"{self.lease.key!r} of {self.lease.owner}: {LOST_BECAUSE[answer]}")

    def _end_process(self) -> None:
        """Stop a task that knows nothing of the lock: SIGTERM (so `on_kill`), then the end.

        Its process must go whatever it does, so nothing here may block or raise.
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
