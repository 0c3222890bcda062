"""The grant: what `acquire` passes to the other tasks of its run. Which lock, which owner, which Redis.

The tasks after it read this from its XCom, not from the DAG file, which may have been edited meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence  # noqa: TC003  msgspec reads the types
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from iam_watcher.airflow_internals.tasks import is_tasks_test
from iam_watcher.errors import LockError
from iam_watcher.lock import ACQUIRE_TASK_ID, OnBusy
from iam_watcher.lock.deployment import deployment_id
from iam_watcher.lock.key import key_of
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.tick import tick_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from redis import Redis

    from iam_watcher.lock import Lock


@dataclass(frozen=True)
class Grant:
    """A lock that a run was granted, as JSON values.

    Args:
        key: the lock's key.
        owner: `deployment/dag_id/run_id`.
        redis_conn_ids: the Airflow connections to Redis.
        ttl: the lease, in seconds.
        on_busy: how `acquire` ends if another run keeps the lock.
        max_hold: how long it may be held in total, in seconds.
        database_lock: whether table jobs take a lock in the database too.
        tick: the name of the tick, if the run has one that is to be done once.
        tick_kept: for how many seconds Redis stores that the tick is done.
    """

    key: str
    owner: str
    redis_conn_ids: Sequence[str]
    ttl: float
    # With defaults: the fields that another version of iam-watcher may leave out.
    on_busy: OnBusy = "fail"
    max_hold: float | None = None
    database_lock: bool = True
    tick: str = ""
    tick_kept: float = 0.0

    @classmethod
    def of(cls, lock: Lock, context: Context, *, per_tick: bool = False) -> Self:
        """Return the grant that this run asks for.

        Args:
            lock: the lock of the Watcher.
            context: of the task.
            per_tick: whether runs may overlap; each then has its own key.

        Raises:
            DeploymentIdError: see `deployment_id`.
        """
        run = context["dag_run"]
        tick = tick_of(context) if lock.once_per_tick else None
        owner = f"{deployment_id()}/{run.dag_id}/{run.run_id}"
        if is_tasks_test():
            # Another owner than the run itself, which may be at work.
            owner, tick = f"{owner}:tasks-test-{os.getpid()}", None
        return cls(
            key=key_of(lock.key, run.dag_id, run.run_after if per_tick else None),
            owner=owner,
            redis_conn_ids=list(lock.conn_ids),
            ttl=lock.lease.total_seconds(),
            on_busy=lock.on_busy,
            max_hold=None if lock.max_hold is None else lock.max_hold.total_seconds(),
            database_lock=lock.database_lock,
            tick="" if tick is None else tick.name,
            tick_kept=0.0 if tick is None else tick.kept,
        )

    @classmethod
    def pull(cls, context: Context) -> Self | None:
        """Return the grant of `acquire` of this run, or None if it was granted no lock.

        Raises:
            LockError: see `from_json`.
        """
        value = context["ti"].xcom_pull(task_ids=ACQUIRE_TASK_ID)
        return cls.from_json(value) if value else None

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return the grant of a JSON object that `to_xcom` returned, also in another version of iam-watcher.

        Fields that this version doesn't know are ignored. Fields that are missing have their defaults.

        Raises:
            LockError: a field that every version needs is missing, or has another type.
        """
        import msgspec

        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as error:
            raise LockError(
                f"another version of iam-watcher wrote what {ACQUIRE_TASK_ID!r} of this run returned, and "
                f"this one can't read it ({error}). Clear {ACQUIRE_TASK_ID!r}, or trigger a new run"
            ) from error

    def to_xcom(self) -> dict[str, Any]:
        """Return the grant as a JSON object."""
        return asdict(self)

    def clients(self) -> list[Redis]:
        """Return new Redis clients. Resolves connections: call it in the main thread."""
        from iam_watcher.lock.clients import redis_clients

        return redis_clients(self.redis_conn_ids, ttl=self.ttl)

    def lease(self, clients: Sequence[Redis] | None = None, *, pause: float = 0.0) -> Lease:
        """Return the lease of this grant, on these clients or on new ones.

        Args:
            clients: one for each server.
            pause: seconds in which nobody renews; the lease lasts so much longer, up to `max_hold`.
        """
        ttl = self.ttl + pause
        return Lease(
            self.clients() if clients is None else clients,
            self.key,
            self.owner,
            ttl=ttl if self.max_hold is None else min(ttl, self.max_hold),
            max_hold=self.max_hold,
            tick=self.tick,
        )
