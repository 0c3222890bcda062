"""Frees a lock whoever holds it.

A lock that is freed by force is first marked, so that its old holder stops at its next renewal (within
2 s) and can't take it again for two leases. Who did it, when, to whom and why stays in Redis.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from iam_watcher.errors import LockError
from iam_watcher.lock.admin.inspection import ForcedRelease, observer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

    from iam_watcher.lock.holder import Holder


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
    lease = observer(clients, key)
    found = lease.holder()
    if found is None:
        raise LockError(f"{key!r} is held by no one; there is nothing to free")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    record = ForcedRelease(at, by, reason, found.owner, found.deployment)
    if not lease.revoke(found.owner, json.dumps(asdict(record))):
        raise LockError(f"{key!r} changed hands in this moment; look again: {lease.holder()}")
    return found
