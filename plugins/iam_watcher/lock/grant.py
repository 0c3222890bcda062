"""What `acquire` hands on to the other tasks of its run: which lock, for which owner, on which Redis.

The tasks after it read this from its XCom, not from the DAG file, which may have been edited meanwhile.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow.sdk.configuration import conf

from iam_watcher.errors import DeploymentIdError
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from airflow.sdk import Context

    from iam_watcher.lock import Lock, OnBusy

ACQUIRE_TASK_ID = "acquire"
RELEASE_TASK_ID = "release"


def deployment_id() -> str:
    """Return `[iam_watcher] deployment_id`: what tells this Airflow from all others on the same Redis.

    Raises:
        DeploymentIdError: if it is empty or could not stand in an owner.
    """
    value: str = conf.get("iam_watcher", "deployment_id", fallback="")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise DeploymentIdError(
            f"[iam_watcher] deployment_id is {value!r}; expected 1 to 64 letters, digits, '.', '_' or '-', "
            "the same on all machines of this Airflow and different in any other that shares its Redis. "
            "Set AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID"
        )
    return value


@dataclass(frozen=True)
class Grant:
    """A lock that a run was granted, as plain JSON values.

    Args:
        key: the lock's key.
        owner: `deployment/dag_id/run_id`.
        redis_conn_id: the Airflow connection to Redis.
        ttl: the lease, in seconds.
        on_busy: what a task does that finds the lock held by another.
    """

    key: str
    owner: str
    redis_conn_id: str
    ttl: float
    on_busy: OnBusy

    @classmethod
    def of(cls, lock: Lock, context: Context) -> Self:
        """Return what this run asks for.

        Raises:
            DeploymentIdError: see `deployment_id`.
        """
        run = context["dag_run"]
        return cls(
            key=lock.key or f"iam-watcher:{run.dag_id}",
            owner=f"{deployment_id()}/{run.dag_id}/{run.run_id}",
            redis_conn_id=lock.redis_conn_id,
            ttl=lock.lease.total_seconds(),
            on_busy=lock.on_busy,
        )

    @classmethod
    def pull(cls, context: Context) -> Self | None:
        """Return what `acquire` of this run was granted, or None if it was granted nothing."""
        value = context["ti"].xcom_pull(task_ids=ACQUIRE_TASK_ID)
        return cls(**value) if value else None

    def to_xcom(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    def lease(self) -> Lease:
        """Return the lease, on a new Redis client. Resolves a connection: call it in the main thread."""
        from iam_watcher.lock.hook import redis_client

        client = redis_client(self.redis_conn_id, lease=timedelta(seconds=self.ttl))
        return Lease(client, self.key, self.owner, ttl=self.ttl)
