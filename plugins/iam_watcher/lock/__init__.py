"""What guards a Watcher: at most one run works under a lock, in all deployments that share its Redis.

Behaviour:

1. A run holds the lock from its task `acquire` to its task `release`; while a task of it works, a
   thread renews the lease. A run that dies blocks the others for the rest of its lease, no longer.
2. A retry of the same run is the same owner and goes on under the same lock, once its predecessor's
   process is gone.
3. Work that can't renew stops: our own jobs between two statements, any other task by SIGTERM. What
   it was told is `LockLost`, or `LockUnavailable` if Redis was the reason.
4. The lock is not freed while a live process of its run works, whatever a person clicks.
5. Redis out of reach is an error, never "busy".

What it is not: a queue, and not a fence. A process that is stopped for longer than its lease and then
goes on may finish the statement it was in.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Literal, get_args

OnBusy = Literal["skip", "fail"]

SHORTEST_LEASE = timedelta(seconds=10)  # a work process renews every 2 s and must be able to miss a few


@dataclass(frozen=True)
class Lock:
    """The lock of a Watcher.

    Args:
        key: its name in Redis; None: `iam-watcher:<dag_id>`.
        redis_conn_id: the Airflow connection to Redis.
        lease: how long the lock outlives a holder that died (10 s or more).
        wait: how long `acquire` waits for a lock that is held by another.
        on_busy: after that, end the run as skipped (and green), or as failed.

    Raises:
        ValueError: names the argument, its value and what was expected.
    """

    key: str | None = None
    _: KW_ONLY
    redis_conn_id: str = "iam_redis"
    lease: timedelta = timedelta(seconds=60)
    wait: timedelta = timedelta(seconds=5)
    on_busy: OnBusy = "skip"

    def __post_init__(self) -> None:
        """Refuse what can't work, when the DAG file is parsed."""
        for name in ("lease", "wait"):
            value = getattr(self, name)
            if not isinstance(value, timedelta):
                raise ValueError(f"Lock {name}={value!r}: expected a timedelta")  # noqa: TRY004  one kind of error for bad arguments
        if self.lease < SHORTEST_LEASE:
            raise ValueError(f"Lock lease={self.lease!s}: expected {SHORTEST_LEASE!s} or more")
        if self.wait < timedelta(0):
            raise ValueError(f"Lock wait={self.wait!s}: expected 0 or more")
        if self.on_busy not in get_args(OnBusy):
            raise ValueError(f"Lock on_busy={self.on_busy!r}: expected 'skip' or 'fail'")
        if not self.redis_conn_id:
            raise ValueError("Lock redis_conn_id='': expected the id of an Airflow connection")
        if self.key is not None:
            from iam_watcher.lock.lease import check_key

            check_key(self.key)
