"""The lock of the task that runs in this process: what its job asks between two steps.

`guard` calls `start` before the task begins. A task without a lock may always go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from iam_watcher.errors import LockError
    from iam_watcher.lock.grant import Grant
    from iam_watcher.lock.renewal import LeaseRenewer

# One task at a time runs in a process.
_renewer: LeaseRenewer | None = None
_grant: Grant | None = None
_loss: LockError | None = None
_failed_renewals = 0


def safe_point() -> None:
    """Return if the running task may go on; a job calls this between two steps.

    Raises:
        LockLost, LockUnavailable: see `LeaseRenewer.check`.
    """
    if _renewer is not None:
        _renewer.check()


def verify(wanted: Callable[[], None]) -> None:
    """Ask Redis now, and return if the running task may go on; see `LeaseRenewer.verify`."""
    if _renewer is not None:
        _renewer.verify(wanted)


def others_at_work(wanted: Callable[[], None]) -> bool:
    """Return whether other tasks of the same run work; see `LeaseRenewer.others_at_work`."""
    return _renewer is not None and _renewer.others_at_work(wanted)


def grant() -> Grant | None:
    """Return the grant that the running task works under, or None in a task without a lock."""
    return _grant


def loss() -> LockError | None:
    """Return why the last task of this process lost the lock, or None if it did not."""
    return _loss


def failed_renewals() -> int:
    """Return how many renewals of the last task of this process got no answer, or were refused."""
    return _failed_renewals


def start(renewer: LeaseRenewer, grant: Grant) -> None:
    """Start to renew the lease of the task that this process runs from now on."""
    global _renewer, _grant, _loss, _failed_renewals
    renewer.start()
    _renewer, _grant, _loss, _failed_renewals = renewer, grant, None, 0


def stop() -> None:
    """Stop to renew, if this process renews a lease: its task has ended."""
    global _loss, _failed_renewals
    renewer = _renewer
    forget()
    if renewer is not None:
        _loss, _failed_renewals = renewer.loss, renewer.failed
        renewer.stop()


def forget() -> None:
    """Forget the lock without a call to Redis: another process goes on with this task."""
    global _renewer, _grant  # noqa: PLW0603  one task at a time in a process
    _renewer = _grant = None
