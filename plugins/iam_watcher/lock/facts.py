"""What a watcher's lock is, as JSON values that Airflow stores with the DAG: it is known before a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from iam_watcher.lock.key import key_of, per_tick_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from iam_watcher.lock import Lock


@dataclass(frozen=True)
class LockFacts:
    """The lock of a watcher. Names of Airflow connections, and nothing that is in them.

    Args:
        key: the lock's key; with `per_tick`, what the key of each run begins with.
        redis_conn_ids: the Airflow connections to Redis.
        per_tick: each run has a key of its own.
        lease: in seconds.
        wait: how long `acquire` waits, in seconds.
        on_busy: "skip" or "fail".
        once_per_tick: a scheduled time that another deployment did is skipped.
        max_hold: in seconds; None for none.
        database_lock: table jobs take a lock in the database, too.
    """

    key: str
    redis_conn_ids: Sequence[str]
    per_tick: bool
    lease: float
    wait: float
    on_busy: str
    once_per_tick: bool
    max_hold: float | None
    database_lock: bool

    @classmethod
    def of(cls, lock: Lock, dag_id: str, *, per_tick: bool) -> Self:
        """Return the facts of a watcher's lock."""
        return cls(
            key=key_of(lock.key, dag_id),
            redis_conn_ids=list(lock.conn_ids),
            per_tick=per_tick,
            lease=lock.lease.total_seconds(),
            wait=lock.wait.total_seconds(),
            on_busy=lock.on_busy,
            once_per_tick=lock.once_per_tick,
            max_hold=None if lock.max_hold is None else lock.max_hold.total_seconds(),
            database_lock=lock.database_lock,
        )

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self | None:
        """Return what `as_dict` gave, or None if another version of iam-watcher stored something else."""
        try:
            return cls(**stored)
        except TypeError:
            return None

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return dict(vars(self))

    def key_at(self, run_after: datetime) -> str:
        """Return the key of the run for this moment."""
        return per_tick_key(self.key, run_after) if self.per_tick else self.key
