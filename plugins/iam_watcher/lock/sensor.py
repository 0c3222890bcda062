"""RedisLockSensor: the first task of a Watcher, which waits for the lock and takes it."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from iam_watcher.errors import DeploymentIdError, LockBusy
from iam_watcher.lock.grant import Grant

if TYPE_CHECKING:
    from airflow.sdk import Context

    from iam_watcher.lock import Lock
    from iam_watcher.lock.lease import Holder, Lease

POLL = (0.05, 0.25)  # seconds between two tries, at random so that waiters don't march in step


class RedisLockSensor(BaseSensorOperator):
    """Acquire a Redis lock for this DAG run, or wait for it.

    It pushes the XCom `holder` (key, owner, deployment, since) of whoever holds the lock in the end,
    and returns the grant that the tasks after it work under.

    :param lock: which lock, how long to wait for it, and what to do when it stays busy.
    """

    ui_color = "#e6d8f2"

    def __init__(self, *, lock: Lock, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lock = lock

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the grant.

        Raises:
            AirflowSkipException: the lock stayed busy and `on_busy` is "skip".
            AirflowFailException: it stayed busy and `on_busy` is "fail", or there is no deployment id.
            LockUnavailable: Redis can't be asked.
        """
        try:
            grant = Grant.of(self.lock, context)
        except DeploymentIdError as error:
            raise AirflowFailException(str(error)) from error
        lease = grant.lease()
        acquired = _acquire(lease, self.lock.wait.total_seconds())
        try:
            holder = lease.holder()
            context["ti"].xcom_push(key="holder", value=_as_xcom(holder))
            if not acquired:
                busy(LockBusy(holder, grant.key), grant)
        except BaseException:
            if acquired:  # A setup that fails has no teardown.
                lease.release()
            raise
        self.log.info("lock acquired: key=%s owner=%s lease=%ss", grant.key, grant.owner, grant.ttl)
        return grant.to_xcom()


def busy(error: LockBusy, grant: Grant) -> None:
    """End the task as the lock's `on_busy` says.

    Raises:
        AirflowSkipException: for "skip".
        AirflowFailException: for "fail"; a retry would be the next run's business.
    """
    if grant.on_busy == "skip":
        raise AirflowSkipException(str(error))
    raise AirflowFailException(str(error)) from error


def _acquire(lease: Lease, wait: float) -> bool:
    deadline = time.monotonic() + wait
    while not lease.acquire():
        pause = random.uniform(*POLL)  # noqa: S311  jitter, not a secret
        if time.monotonic() + pause > deadline:
            return False
        time.sleep(pause)
    return True


def _as_xcom(holder: Holder | None) -> dict[str, Any] | None:
    if holder is None:
        return None
    return {
        "key": holder.key,
        "owner": holder.owner,
        "deployment": holder.deployment,
        "since": holder.since and holder.since.isoformat(timespec="milliseconds"),
    }
