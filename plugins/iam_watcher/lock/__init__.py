"""The lock of a Watcher: at most one run works under it, in all deployments that share its Redis.

Behaviour:

1. A run holds the lock from its task `acquire` to its task `release`. While a task works, a thread of
   its process renews the lease; while a task is deferred, the triggerer does. A run that dies blocks the
   others for the rest of its lease, no longer.
2. A retry of the same run is the same owner. It goes on under the same lock when the process of the
   earlier try is gone.
3. Work that can't renew its lease stops: a table job between two statements, any other task by SIGTERM.
   The error is `LockLost`, or `LockUnavailable` if Redis did not answer.
4. The lock is not released while a process of its run works, whatever a person clicks.
5. Runs that wait get the lock in the order in which they began to wait.
6. A tick that one deployment did is not done again by another.
7. If Redis does not answer, that is an error, never "busy".

What it is not: see docs/lock.md.

Where to read on, in the order of a run:

    sensor.py     the task `acquire`: asks for the lock, waits in the queue, returns a grant (grant.py)
    guard.py      the begin of each task after it: acquires the lock again, as the same owner, and starts the
                  heartbeat of its process; current.py has the lock of the running task
    renewal.py    renews the lease while the task works, and ends the work if the lease is lost; deferred.py
                  renews it while the task is deferred
    release.py    the task `release`
    lease.py      what all of them ask of Redis; scripts.py: what a server does then (queue_scripts.py: for
                  the waiting queue); outcome.py: the words in which it answers
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from iam_watcher import arguments
from iam_watcher.errors import shown_at_the_call
from iam_watcher.lock.key import check_key

if TYPE_CHECKING:
    from collections.abc import Sequence

ACQUIRE_TASK_ID = "acquire"
RELEASE_TASK_ID = "release"

OnBusy = Literal["skip", "fail"]

SHORTEST_LEASE = timedelta(seconds=10)  # a process renews every 2 s, and a few renewals may fail

_KINDS: dict[str, tuple[Any, str]] = {
    "key": (str | None, "a text"),
    "lease": (timedelta, "a timedelta"),
    "wait": (timedelta, "a timedelta"),
    "once_per_tick": (bool, "True or False"),
    "max_hold": (timedelta | None, "a timedelta"),
    "database_lock": (bool, "True or False"),
}


@shown_at_the_call
@dataclass(frozen=True)
class Lock:
    """The lock of a Watcher.

    Args:
        key: the key of the lock in Redis. None: `iam-watcher:<dag_id>`.
        redis_conn_id: id of the Airflow connection to Redis, or an odd number of ids (3 or more) of
            connections to independent servers. A majority of these servers decides.
        lease: time for which the lock stays if its holder died (10 s or more).
        wait: time for which `acquire` waits for a lock that another run holds.
        on_busy: how the run ends after this time: "skip" (Airflow shows the run as successful) or "fail".
        once_per_tick: whether a run is skipped if another deployment already did its scheduled time.
        max_hold: the longest time for which one run may hold the lock. None: as long as it works.
        database_lock: whether table jobs also acquire a lock inside the database, in the session that writes.
            Set it to False behind a proxy that shares one session among several clients.

    Raises:
        ValueError: names the argument, its value and what was expected.
    """

    key: str | None = None
    _: KW_ONLY
    redis_conn_id: str | Sequence[str] = "iam_redis"
    lease: timedelta = timedelta(seconds=60)
    wait: timedelta = timedelta(seconds=5)
    on_busy: OnBusy = "skip"
    once_per_tick: bool = True
    max_hold: timedelta | None = None
    database_lock: bool = True

    def __post_init__(self) -> None:
        """Refuse values that can't work, when the DAG file is parsed."""
        for name, (kind, expected) in _KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"Lock {name}={getattr(self, name)!r}: expected {expected}")  # noqa: TRY004  as all others
        if self.lease < SHORTEST_LEASE:
            raise ValueError(f"Lock lease={self.lease!s}: expected {SHORTEST_LEASE!s} or more")
        if self.wait < timedelta(0):
            raise ValueError(f"Lock wait={self.wait!s}: expected 0 or more")
        if self.max_hold is not None and self.max_hold < self.lease:
            raise ValueError(f"Lock max_hold={self.max_hold!s}: expected the lease ({self.lease!s}) or more")
        if self.on_busy not in get_args(OnBusy):
            raise ValueError(f"Lock on_busy={self.on_busy!r}: expected 'skip' or 'fail'")
        self._check_conn_ids()
        if self.key is not None:
            check_key(self.key)

    def _check_conn_ids(self) -> None:
        one_or_more = "expected the id of an Airflow connection, or an odd number of them"
        if not isinstance(self.redis_conn_id, str | list | tuple | set | frozenset):
            raise ValueError(  # noqa: TRY004  as all others
                f"Lock redis_conn_id is {arguments.unless_secret(self.redis_conn_id)}; {one_or_more}"
            )
        conn_ids = self.conn_ids
        for name in conn_ids:
            arguments.connection_id("Lock redis_conn_id", name, raises=ValueError)
        if len(conn_ids) % 2 == 0:
            raise ValueError(f"Lock redis_conn_id={self.redis_conn_id!r}: {one_or_more}")
        if len(set(conn_ids)) < len(conn_ids):
            raise ValueError(f"Lock redis_conn_id={self.redis_conn_id!r}: expected each connection once")

    @property
    def conn_ids(self) -> tuple[str, ...]:
        """The Airflow connections, one or several."""
        return (self.redis_conn_id,) if isinstance(self.redis_conn_id, str) else tuple(self.redis_conn_id)
