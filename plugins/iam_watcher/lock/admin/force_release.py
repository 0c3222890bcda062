"""Releases a lock whoever holds it.

Redis refuses the lock to its old holder for two leases, so the holder notices that at its next renewal,
within 2 s. Redis stores who did it, when, whose lock it was, and why.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from iam_watcher.errors import LockError
from iam_watcher.lock.admin.inspection import ForcedRelease
from iam_watcher.lock.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

    from iam_watcher.lock.holder import Holder


def force_release(clients: Sequence[Redis], key: str, *, by: str, reason: str) -> Holder:
    """Release the lock `key`, whoever holds it, and store who did that and why.

    Args:
        clients: one for each server of the lock.
        key: its key.
        by: who does it.
        reason: why; not empty.

    Returns:
        Who held the lock.

    Raises:
        LockError: nobody holds it, it became free or another owner acquired it at this moment, or `by` or
            `reason` is empty.
        LockUnavailable: too few servers answer.
    """
    if not by.strip() or not reason.strip():
        raise LockError(f"by={by!r}, reason={reason!r}; expected who releases {key!r} and why")
    lock = Observer(clients, key)
    found = lock.holder()
    if found is None:
        raise LockError(f"{key!r} is held by nobody; there is nothing to release")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    record = ForcedRelease(at, by, reason, found.owner, found.deployment)
    if not lock.revoke(found.owner, json.dumps(asdict(record))):
        now = lock.holder()
        if now is None:
            raise LockError(f"{key!r} became free at this moment; there is nothing to release")
        raise LockError(
            f"{key!r} changed its owner at this moment, so it was not released. Now {now}. If that owner is "
            "to lose it too, release it again"
        )
    return found
