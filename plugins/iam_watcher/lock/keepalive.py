"""Keeps a run's lease alive while one of its tasks works, and stops the task when the lease is lost.

A Watcher gives `guard` to every task inside it as its `pre_execute`, which Airflow runs in the task's
own process right before `execute`, and again before a deferred task resumes. From then on a thread
renews the lease every BEAT seconds, together with a mark that this process is alive: a retry waits for
the mark of its predecessor, and the release for all of them.

The thread never logs and never resolves a connection: in an orphan (its supervisor is dead) logging
raises, and the channel to the supervisor is the main thread's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from iam_watcher.errors import LockBusy, LockError, LockLost, LockUnavailable
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.sensor import refuse

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from iam_watcher.lock.lease import Lease

BEAT = 2.0  # seconds between two renewals
BUSY_TTL = 6.0  # seconds: longer than the longest statement, which a server finishes for a dead client
KILL_AFTER = 5.0  # seconds between SIGTERM and the end of a process, as Airflow's supervisor has it
PREDECESSOR_GONE_WITHIN = 30.0  # seconds that a retry waits for the process it replaces
PR_SET_PDEATHSIG = 1  # see prctl(2)

LOST_BECAUSE = {
    "foreign": "another took it",
    "revoked": "it was released by force",
    "max_hold": "it was held for max_hold",
    "replaced": "a later try of this task took over",
    "gone": "its key was deleted or ran out",
    "forgotten": "Redis lost its keys, and it could not be had again",
}


class KeepAlive:
    """A thread that renews one lease for one task.

    Args:
        lease: held by this run.
        member: the task, as `task_id/map_index`.
        nonce: what tells this try of the task from another.
        stops_itself: the task calls `checkpoint` between its steps; any other gets SIGTERM when the
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
            threading.Thread(target=target, name=f"keepalive-{lease.key}", daemon=True) for target in targets
        ]

    def start(self) -> None:
        """Begin to renew."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the renewals and take the mark off. The lease stays: the run may have more tasks."""
        if not self._ended.is_set():
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

    def verify(self) -> None:
        """Ask Redis now, and return if the lease is ours.

        Raises:
            LockLost: it is not.
            LockUnavailable: Redis can't be asked.
        """
        self.check_lease()
        self.beat()

    def others_at_work(self) -> bool:
        """Return whether other tasks of our run are alive under the lock.

        Raises:
            LockUnavailable: Redis can't be asked.
        """
        with self._beating:
            holder = self.lease.holder()
        if holder is None or holder.owner != self.lease.owner:
            return False
        return bool(set(holder.busy) - {self.member})

    def _run(self) -> None:
        while not self._ended.wait(BEAT):
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
            answer = self.lease.beat(self.member, self.nonce, busy_ttl=BUSY_TTL)
            if answer == "forgotten" and self.lease.remaining > 0 and self.lease.acquire(ahead=True):
                # A Redis that lost its keys: ours again, and no one had it between.
                answer = self.lease.beat(self.member, self.nonce, busy_ttl=BUSY_TTL)
        if answer == "renewed":
            self._marked_until = started + BUSY_TTL
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


_current: KeepAlive | None = None
_grant: Grant | None = None


def checkpoint() -> None:
    """Return if the running task may go on; a job calls this between two steps.

    In a task without a lock it does nothing.

    Raises:
        LockLost, LockUnavailable: see `KeepAlive.check`.
    """
    if _current is not None:
        _current.check()


def verify() -> None:
    """Return if Redis says at this moment that the running task may go on; else as `checkpoint`."""
    if _current is not None:
        _current.verify()


def others_at_work() -> bool:
    """Return whether other tasks of the running task's run are alive; see `KeepAlive.others_at_work`."""
    return _current is not None and _current.others_at_work()


def current_grant() -> Grant | None:
    """Return what the running task works under, or None in a task without a lock."""
    return _grant


def guard(context: Context) -> None:
    """Let the task begin only under the lock that `acquire` was granted, and keep that lock alive.

    Raises:
        AirflowSkipException: the lock is another's now and `on_busy` is "skip".
        AirflowFailException: `acquire` was granted nothing (skipped, the work would end in a green run), or
            the lock is another's now and `on_busy` is "fail".
        LockBusy: the lock is another's now and the task has worked before: skipped, what it did not finish
            would look like a success.
        AirflowException: a process of this very task is still alive; a retry comes later.
        LockUnavailable: Redis can't be asked.
    """
    global _current, _grant  # noqa: PLW0603  one task at a time in a process
    stop()
    _die_with_parent()  # A supervisor that died before can't answer what comes next.
    grant = Grant.pull(context)
    if grant is None:
        raise AirflowFailException(
            "this run was not granted its lock: its task `acquire` did not run, or was marked as successful. "
            f"Clear `acquire`, or run the whole DAG: airflow dags test {context['ti'].dag_id}"
        )
    task, ti = context["task"], context["ti"]
    member, nonce = f"{ti.task_id}/{ti.map_index}", str(ti.id)
    lease = grant.lease(pause=_pause(task))
    _take(lease, grant, member, nonce, again=ti.try_number > 1 or _resumes(ti))
    _current = KeepAlive(lease, member, nonce, stops_itself=getattr(task, "calls_checkpoint", False))
    _grant = grant
    _current.start()
    _keep_while_deferred(task)
    for event in ("success", "failure", "retry", "skipped"):
        name = f"on_{event}_callback"
        setattr(task, name, [_stop_after, *getattr(task, name)])


def stop() -> None:
    """Stop the keepalive of this process, if there is one."""
    global _current, _grant  # noqa: PLW0603  one task at a time in a process
    if _current is not None:
        _current.stop()
        _current = _grant = None


def _stop_after(context: Context) -> None:  # noqa: ARG001  a callback's signature
    stop()


def _pause(task: Any) -> float:
    """Return the seconds between two processes of a sensor that works in turns; in between no one renews."""
    return float(task.poke_interval) if getattr(task, "mode", None) == "reschedule" else 0.0


def _resumes(ti: Any) -> bool:
    """Return whether this process goes on with a task that was deferred."""
    return bool(ti._ti_context_from_server and ti._ti_context_from_server.next_method)  # noqa: SLF001  no other door


def _keep_while_deferred(task: Any) -> None:
    """Have the triggerer renew the lease when the task goes there by its `defer`."""

    def defer(*, trigger: BaseTrigger, **arguments: Any) -> None:
        from iam_watcher.lock.deferred import LeaseKeepingTrigger

        global _current, _grant  # noqa: PLW0603  one task at a time in a process
        if _current is not None and _grant is not None:
            trigger = LeaseKeepingTrigger.around(trigger, _grant, _current.member, _current.nonce)
            _current.hand_over()
            _current = _grant = None
        type(task).defer(task, trigger=trigger, **arguments)

    task.defer = defer


def _take(lease: Lease, grant: Grant, member: str, nonce: str, *, again: bool = False) -> None:
    """Take the lock again and become the one live process of this task, or raise as `guard` says."""
    # Another holder's tasks have marks of the same names: only the lock tells whose they are.
    if not lease.acquire():
        _refuse(lease, grant, again=again)
    _enter(lease, member, nonce)
    if not lease.acquire():  # Nobody renewed it meanwhile.
        lease.leave(member, nonce)
        _refuse(lease, grant, again=again)


def _refuse(lease: Lease, grant: Grant, *, again: bool) -> None:
    holder = lease.holder()
    if again and lease.verdict in ("busy", "queued"):
        raise LockBusy(holder, grant.key)
    refuse(lease, holder, grant)


def _enter(lease: Lease, member: str, nonce: str) -> None:
    deadline = time.monotonic() + PREDECESSOR_GONE_WITHIN
    while not lease.enter(member, nonce, busy_ttl=BUSY_TTL):
        if time.monotonic() > deadline:
            raise AirflowException(
                f"an earlier process of task {member} still works under lock {lease.key!r} "
                f"after {PREDECESSOR_GONE_WITHIN:g} s; not starting a second one beside it"
            )
        time.sleep(0.25)


def _die_with_parent() -> None:
    """Have the kernel end this process when its supervisor dies, so that it can't work on as an orphan.

    Linux only, see prctl(2). Not for a run inside `dags test`, whose parent is a person's shell.
    """
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

    comms: Any = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if sys.platform == "linux" and not isinstance(comms, InProcessSupervisorComms):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _write_stderr(text: str) -> None:
    with suppress(OSError):
        os.write(2, text.encode())
