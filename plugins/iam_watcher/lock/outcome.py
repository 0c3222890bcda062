"""What an attempt to acquire, or to renew, a lease came to."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What an attempt to acquire came to."""

    ACQUIRED = "acquired"
    HELD = "held"  # ours before
    BUSY = "busy"  # another's
    QUEUED = "queued"  # free, but the turn of another who waits
    DONE = "done"  # another did the tick
    REVOKED = "revoked"  # this owner was forced out
    MAX_HOLD = "max_hold"


class Renewal(StrEnum):
    """What a renewal came to."""

    RENEWED = "renewed"
    FOREIGN = "foreign"  # another's
    REVOKED = "revoked"  # this owner was forced out
    MAX_HOLD = "max_hold"
    REPLACED = "replaced"  # another live process has the member's mark
    GONE = "gone"  # no one holds the key
    FORGOTTEN = "forgotten"  # no one holds it, and Redis knows nothing of us


OURS = (Verdict.ACQUIRED, Verdict.HELD)
MAY_COME = (Verdict.BUSY, Verdict.QUEUED)  # the lock may come free
FINAL = (Verdict.REVOKED, Verdict.MAX_HOLD, Verdict.DONE)  # one server that knows this is enough
