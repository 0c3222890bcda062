"""What a person does about locks: see them, and free one by force.

A lock that is freed by force is first marked, so that its old holder stops at its next renewal (within
2 s) and can't take it again for two leases. Who did it, when, to whom and why stays in Redis.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import LockError
from iam_watcher.lock import scripts
from iam_watcher.lock.answers import unavailable
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import Redis

    from iam_watcher.lock.holder import Holder

OBSERVER = "observer"
ANY_TTL = 60.0  # seconds; an observer acquires nothing


@dataclass(frozen=True)
class ForcedRelease:
    """One forced release, as it is written down.

    Args:
        at: when, an ISO time in UTC.
        by: who did it, as they said.
        reason: why, as they said.
        owner: whose lock it was.
        deployment: of that owner.
    """

    at: str
    by: str
    reason: str
    owner: str
    deployment: str


def holders(clients: Sequence[Redis]) -> list[Holder]:
    """Return who holds which lock, of all locks that a Watcher held in the last day.

    Raises:
        LockUnavailable: no server answers; or see `Lease.holder`.
    """
    suffix = "}:info"
    pattern = "{*" + suffix
    listed = _answers(clients, pattern, lambda client: list(client.scan_iter(match=pattern, count=1000)))
    names = {name.decode() if isinstance(name, bytes) else name for found in listed for name in found}
    keys = sorted(name[1 : -len(suffix)] for name in names)
    found = (_observer(clients, key).holder() for key in keys)
    return [holder for holder in found if holder is not None]


def holder(clients: Sequence[Redis], key: str) -> Holder | None:
    """Return who holds the lock `key`, the Go side included.

    Raises:
        LockUnavailable: see `Lease.holder`.
    """
    return _observer(clients, key).holder()


def history(clients: Sequence[Redis], key: str) -> list[ForcedRelease]:
    """Return the forced releases of the lock `key`, newest first.

    Raises:
        LockUnavailable: no server answers.
    """
    name = scripts.side_key(key, "history")
    records: list[Any] = max(_answers(clients, key, lambda client: client.lrange(name, 0, -1)), key=len)
    return [ForcedRelease(**json.loads(record)) for record in records]


def force_release(clients: Sequence[Redis], key: str, *, by: str, reason: str) -> Holder:
    """Free the lock `key`, whoever holds it, and write down who did that and why.

    Args:
        clients: of all servers of the lock.
        key: its key.
        by: who does it.
        reason: why; not empty.

    Returns:
        Who held it.

    Raises:
        LockError: no one holds it, another took it in this moment, or `by` or `reason` is empty.
        LockUnavailable: too many servers can't be reached.
    """
    if not by.strip() or not reason.strip():
        raise LockError(f"by={by!r}, reason={reason!r}; expected who frees {key!r} and why")
    lease = _observer(clients, key)
    found = lease.holder()
    if found is None:
        raise LockError(f"{key!r} is held by no one; there is nothing to free")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    record = ForcedRelease(at, by, reason, found.owner, found.deployment)
    if not lease.revoke(found.owner, json.dumps(record.__dict__)):
        raise LockError(f"{key!r} changed hands in this moment; look again: {lease.holder()}")
    return found


def _answers(clients: Sequence[Redis], key: str, ask: Callable[[Any], list[Any]]) -> list[list[Any]]:
    """Return the answers of those servers that can be asked: a person looks when one of them is down."""
    from redis import RedisError
    from redis.exceptions import RedisClusterException

    answers, errors = [], []
    for client in clients:
        try:
            answers.append(ask(client))
        except (RedisError, RedisClusterException) as error:
            errors.append(unavailable(client, key, error))
    if not answers:
        raise errors[0]
    return answers


def _observer(clients: Sequence[Redis], key: str) -> Lease:
    return Lease(clients, key, OBSERVER, ttl=ANY_TTL)
