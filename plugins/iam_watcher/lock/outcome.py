"""The results of requests for a lease, in the words that the scripts in Redis answer.

Of several servers, the words that a majority says decide; see `Lease`.
"""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """The result of an attempt to acquire."""

    ACQUIRED = "acquired"
    HELD = "held"  # this owner had it before
    BUSY = "busy"  # another owner has it
    QUEUED = "queued"  # free, but another owner is first in the waiting queue
    DONE = "done"  # another owner did the tick
    REVOKED = "revoked"  # it was released by force
    MAX_HOLD = "max_hold"  # this owner held it for max_hold
    OVER = "over"  # the attempt was released or given back before: the command came late


class Renewal(StrEnum):
    """The result of a renewal."""

    RENEWED = "renewed"
    FOREIGN = "foreign"  # another owner has it
    REVOKED = "revoked"  # it was released by force
    MAX_HOLD = "max_hold"  # this owner held it for max_hold
    REPLACED = "replaced"  # another live process of the task has its heartbeat
    GONE = "gone"  # nobody holds the key
    FORGOTTEN = "forgotten"  # nobody holds it, and Redis does not know this owner: it lost its keys


class Release(StrEnum):
    """The answer of one server to a release."""

    RELEASED = "released"
    WORKING = "working"  # a process of the owner has a heartbeat
    CHANGED = "changed"  # this owner acquired the key again: ask with the token that follows
    FOREIGN = "foreign"  # another owner has it
    GONE = "gone"  # nobody holds the key


class Entry(StrEnum):
    """The answer of one server to the first heartbeat of a process."""

    ENTERED = "entered"
    OCCUPIED = "occupied"  # another live process of the task has its heartbeat


class Revocation(StrEnum):
    """The answer of one server to a forced release."""

    REVOKED = "revoked"
    FOREIGN = "foreign"  # another owner has it
    GONE = "gone"  # nobody holds the key


OURS = (Verdict.ACQUIRED, Verdict.HELD)
MAY_COME = (Verdict.BUSY, Verdict.QUEUED)  # the lock may come free
FINAL = (Verdict.REVOKED, Verdict.MAX_HOLD, Verdict.DONE)  # the answer of one server is enough
