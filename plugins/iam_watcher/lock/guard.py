"""How a task begins under the lock of its run.

A Watcher calls `begin` before every task inside it, in the task's own process: right before `execute`, and
again before a deferred task resumes.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from iam_watcher.airflow_internals.tasks import call_at_the_end, is_in_process, is_tasks_test
from iam_watcher.errors import LockBusy
from iam_watcher.lock import ACQUIRE_TASK_ID, current, renewal, trial_run
from iam_watcher.lock.deployment import claim
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.outcome import MAY_COME
from iam_watcher.lock.refusal import refuse
from iam_watcher.lock.renewal import LeaseRenewer

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from iam_watcher.lock.lease import Lease

PREDECESSOR_GONE_WITHIN = 30.0  # seconds that a retry waits for the process it replaces
PR_SET_PDEATHSIG = 1  # see prctl(2)


def begin(context: Context) -> None:
    """Let the task begin only under the lock of its run, and renew the lease from then on.

    The lock is the one that `acquire` was granted. `airflow tasks test` runs no `acquire`: the task then
    acquires the lock itself, as another owner than its run, and releases it when it ends.

    Raises:
        AirflowSkipException: another deployment did this scheduled time meanwhile; or `acquire` was skipped,
            and this is a teardown, which Airflow runs all the same.
        AirflowFailException: `acquire` was granted no lock (a skip would make the run green), or the lock was
            released by force, or held for `max_hold`.
        LockBusy: another run has the lock now, whatever `on_busy` is: after `acquire`, a skip would make work
            that is not done look like a success.
        AirflowException: an earlier process of this task is still alive; a retry comes later.
        LockError: another version of iam-watcher wrote the grant, and this one can't read it.
        LockUnavailable: Redis does not answer, or refuses the request.
    """
    current.stop()
    if trial_run.locks_are_off():
        return
    _die_with_parent()  # If the supervisor is dead already, the next request to it fails.
    grant = _grant_now(context) if is_tasks_test() else Grant.pull(context)
    if grant is None:
        if _was_skipped(context):
            raise AirflowSkipException("this run is skipped: it did not get its lock")
        raise AirflowFailException(
            "this run was not granted its lock: its task `acquire` did not run, or was marked as successful. "
            "Clear `acquire`: it then acquires the lock, and the tasks after it run. To test without Redis, "
            "see iam_watcher.testing"
        )
    task, ti = context["task"], context["ti"]
    member, nonce = f"{ti.task_id}/{ti.map_index}", str(ti.id)
    lease = grant.lease(pause=_pause(task))
    _acquire(lease, grant, member, nonce)
    renewer = LeaseRenewer(lease, member, nonce, has_safe_points=getattr(task, "has_safe_points", False))
    current.start(renewer, grant)
    _renew_while_deferred(task, renewer, grant)

    def end(context: Context) -> None:  # noqa: ARG001  a callback's signature
        current.stop()
        if is_tasks_test():
            lease.release()

    call_at_the_end(task, end)


def _was_skipped(context: Context) -> bool:
    """Return whether `acquire` of this run was skipped. Airflow runs a teardown all the same."""
    ti = context["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[ACQUIRE_TASK_ID], run_ids=[ti.run_id])
    return str(states.get(ti.run_id, {}).get(ACQUIRE_TASK_ID)) == "skipped"


def _grant_now(context: Context) -> Grant:
    acquire: Any = context["dag"].get_task(ACQUIRE_TASK_ID)
    grant = Grant.of(acquire.lock, context, per_tick=acquire.per_tick)
    claim(grant.clients())
    return grant


def _acquire(lease: Lease, grant: Grant, member: str, nonce: str) -> None:
    """Acquire the lock as the owner that `acquire` acquired it for, and start the heartbeat of this process.

    Args:
        lease: of the run.
        grant: of the run.
        member: the task, as `task_id/map_index`.
        nonce: of this process.
    """
    # First the lock: tasks of another owner have heartbeats of the same names. A run that has begun acquires
    # a free lock ahead of the waiting queue, or it would be refused a lock that nobody holds.
    if not lease.acquire(ahead=True):
        _refuse(lease, grant)
    _enter(lease, member, nonce)
    # Nobody renewed the lease while this process waited for its predecessor.
    if not lease.acquire(ahead=True):
        lease.leave(member, nonce)
        _refuse(lease, grant)


def _refuse(lease: Lease, grant: Grant) -> None:
    holder = lease.holder()
    if lease.verdict in MAY_COME:
        raise LockBusy(holder, grant.key)
    refuse(lease, holder, grant)


def _enter(lease: Lease, member: str, nonce: str) -> None:
    deadline = time.monotonic() + PREDECESSOR_GONE_WITHIN
    while not lease.enter(member, nonce, heartbeat_ttl=renewal.HEARTBEAT_TTL):
        if time.monotonic() > deadline:
            raise AirflowException(
                f"an earlier process of task {member} still works under the lock {lease.key!r} "
                f"after {PREDECESSOR_GONE_WITHIN:g} s, so this one does not begin. A retry waits for it "
                "again; if it hangs, end it on its worker"
            )
        time.sleep(0.25)


def _pause(task: Any) -> float:
    """Return the seconds between two processes of a sensor in reschedule mode: nobody renews in between."""
    return float(task.poke_interval) if getattr(task, "mode", None) == "reschedule" else 0.0


def _renew_while_deferred(task: Any, renewer: LeaseRenewer, grant: Grant) -> None:
    """Let the triggerer renew the lease when the task calls its `defer`."""

    def defer(*, trigger: BaseTrigger, **arguments: Any) -> None:
        from iam_watcher.lock.deferred import LeaseKeepingTrigger

        trigger = LeaseKeepingTrigger.around(trigger, grant, renewer.member, renewer.nonce)
        renewer.hand_over()
        current.forget()
        type(task).defer(task, trigger=trigger, **arguments)

    task.defer = defer


def _die_with_parent() -> None:
    """Let the kernel end this process when its supervisor dies, so that it can't go on as an orphan.

    Linux only, see prctl(2). Not in `dags test`: the parent of that process is a person's shell.
    """
    if sys.platform == "linux" and not is_in_process():
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
