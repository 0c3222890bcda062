"""How a task ends that doesn't get the lock: skipped or failed, and the text that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from iam_watcher.errors import LockBusy
from iam_watcher.lock.outcome import Verdict

if TYPE_CHECKING:
    from airflow.sdk import Context

    from iam_watcher.lock.grant import Grant
    from iam_watcher.lock.holder import Holder
    from iam_watcher.lock.lease import Lease


def refuse(lease: Lease, holder: Holder | None, grant: Grant, *, hint: str = "") -> NoReturn:
    """End the task as `on_busy` says, or as skipped if another deployment did this scheduled time already.

    Args:
        lease: whose `acquire` was refused.
        holder: who holds the lock.
        grant: what the task asked for.
        hint: a sentence that follows the error, such as `hint_of_parent` gives.

    Raises:
        AirflowSkipException: for "skip".
        AirflowFailException: for "fail"; a retry would be the next run's business. Also for an owner whose
            lock was released by force, or that held it for `max_hold`.
    """
    if lease.verdict is Verdict.DONE:
        raise AirflowSkipException(f"{grant.tick} was already done by {lease.tick_done_by()}")
    if lease.verdict is Verdict.REVOKED:
        raise AirflowFailException(f"{grant.key!r} of {grant.owner} was released by force; see its history")
    if lease.verdict is Verdict.MAX_HOLD:
        raise AirflowFailException(
            f"{grant.key!r} was held by {grant.owner} for max_hold={grant.max_hold:g} s. Find out what took "
            "so long, or raise max_hold"
        )
    error = LockBusy(holder, grant.key)
    if grant.on_busy == "skip":
        raise AirflowSkipException(f"{error}{hint}")
    raise AirflowFailException(f"{error}{hint}") from error


def hint_of_parent(context: Context, holder: Holder | None, grant: Grant) -> str:
    """Return what to do if the lock holder may be the run that triggered this one and waits for it."""
    ours = grant.owner.partition("/")[0]
    if context["dag_run"].run_type != "operator_triggered" or holder is None or holder.deployment != ours:
        return ""
    return (
        ". This run was triggered by a task of another DAG. If that task waits for it under this lock, they "
        "can never work: give the two watchers locks with different keys"
    )
