"""A lease in Redis: a lock that its owner must renew, so that a dead owner can't keep it.

Plain redis-py, no Airflow. The lock itself is what redsync (and so the Go iam-watcher) uses: one
string key, `SET key value NX PX`, compare-and-delete. Either side excludes the other. What redis-py's
own Lock lacks is here: an owner that people can read and that a retry can have again, live-worker
marks, revocation, and a quorum over several independent servers.

Keys, for a lock called `clean`:

    clean           the owner, e.g. `prod/clean_policy_audit/scheduled__2026-01-01T00:00:00+00:00`
    {clean}:info    hash: owner and the time it acquired (ms); a Go holder writes none
    {clean}:busy    hash: one field per live work process -> `<expiry ms> <nonce>`
    {clean}:revoked sorted set: owners that were forced out -> until when (ms)
    {clean}:released  channel: one message per release

With N servers every key is on each of them, and a majority decides (Redlock: S. Sanfilippo,
"Distributed Locks with Redis"): what was won on a minority is given back, and the time it took plus
an allowance for clock drift is taken off the lease.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, cast

from iam_watcher.errors import LockBusy, LockUnavailable
from iam_watcher.lock import scripts

if TYPE_CHECKING:
    from redis import Redis

DRIFT_FACTOR = 0.01  # of the ttl: how far two clocks may run apart while a lease lasts
DRIFT_FLOOR = 0.002  # seconds: Redis expires keys in steps of a millisecond, rounded
MAX_KEY_LENGTH = 200


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as Redis tells it.

    Args:
        key: the lock's key.
        owner: the key's value; what the Go iam-watcher writes is a random text.
        since: when the owner acquired it, or None if it left no record (the Go side).
        remaining: seconds until it expires unless renewed; None if it never does.
        busy: the live work processes of the owner, as `task_id/map_index`.
    """

    key: str
    owner: str
    since: datetime | None = None
    remaining: float | None = None
    busy: tuple[str, ...] = ()

    @property
    def deployment(self) -> str:
        """The deployment id in the owner, or `unknown (Go)`: only we leave a record."""
        return self.owner.split("/", 1)[0] if self.since else "unknown (Go)"

    def __str__(self) -> str:
        if not self.since:
            left = _seconds(self.remaining)
            return f"{self.key!r} is held by unknown (Go), value {self.owner!r}, for {left} more"
        work = f", at work: {', '.join(self.busy)}" if self.busy else ""
        return (
            f"{self.key!r} is held by {self.owner} since {self.since:%Y-%m-%d %H:%M:%S}Z, "
            f"for {_seconds(self.remaining)} more{work}"
        )


def _seconds(value: float | None) -> str:
    return "ever" if value is None else f"{value:.1f} s"


def check_key(key: str) -> str:
    """Return `key` if it can name a lock, else raise ValueError that says why not."""
    if not 0 < len(key) <= MAX_KEY_LENGTH or not key.isprintable() or set(key) & set("{} "):
        raise ValueError(
            f"lock key {key!r}: expected 1 to {MAX_KEY_LENGTH} printable characters without spaces or braces"
        )
    return key


class Lease:
    """One owner's claim to one key, over one Redis client or several independent ones.

    Not for sharing between threads that acquire and release; `renew` and `beat` may run in a thread
    of their own while others read `remaining`.

    Args:
        clients: a redis-py client, or several (their number should be odd). Give each a socket
            time-out that is a small part of the ttl: a server that hangs is waited for that long.
        key: the lock's key, as the Go side would name it.
        owner: who we are; the same text again is the same owner, in any process.
        ttl: how long the lease lasts unless renewed, in seconds.

    Raises:
        ValueError: for a key, owner or ttl that can't be.
    """

    def __init__(self, clients: Redis | Sequence[Redis], key: str, owner: str, *, ttl: float) -> None:
        self.clients: tuple[Redis, ...] = tuple(clients) if isinstance(clients, Iterable) else (clients,)
        if not self.clients:
            raise ValueError("a lease needs at least one Redis client")
        if not owner:
            raise ValueError("a lease needs an owner: a text that no one else uses")
        if not ttl > DRIFT_FLOOR:
            raise ValueError(f"ttl {ttl!r}: expected a positive number of seconds")
        self.key = check_key(key)
        self.owner = owner
        self.ttl = ttl
        self._valid_until = 0.0

    @property
    def remaining(self) -> float:
        """Seconds that this process may still count on, by its own monotonic clock; 0.0 if none."""
        return max(0.0, self._valid_until - time.monotonic())

    def acquire(self) -> bool:
        """Take the key if it is free, or ours already; True if we hold it now.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        started = time.monotonic()
        answers = self._ask(scripts.ACQUIRE, "", self.owner, self._ms(self.ttl))
        if self._decide(answers, {"acquired", "held"}) and "revoked" not in answers.values():
            self._extend(started)
            if self.remaining > 0:
                return True
        self._give_back(answers)
        self._check_reachable(answers, {"acquired", "held"})
        return False

    def renew(self) -> bool:
        """Extend the lease to a full ttl from now; True if it is still ours.

        A key that is gone (expired, or a Redis that lost everything) is not taken again: see `acquire`.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        return self.beat("", "") == "renewed"

    def beat(self, member: str, nonce: str, *, busy_ttl: float = 0.0) -> str:
        """Renew the lease and, with a member, its mark as a live worker, in one step.

        Returns:
            `renewed`, `gone` (no one holds the key), `foreign` or `revoked`.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        started = time.monotonic()
        answers = self._ask(
            scripts.RENEW, "", self.owner, self._ms(self.ttl), member, nonce, self._ms(busy_ttl)
        )
        if "revoked" in answers.values():
            return "revoked"
        if self._decide(answers, {"renewed"}):
            self._extend(started)
            if "gone" in answers.values():  # A server of a quorum that restarted empty counts again.
                self._ask(scripts.ACQUIRE, "", self.owner, self._ms(self.ttl))
            return "renewed"
        self._check_reachable(answers, {"renewed"})
        return "foreign" if "foreign" in answers.values() else "gone"

    def release(self) -> bool:
        """Free the key if it is ours and no work of ours is alive; True if it was freed.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        answers = self._ask(scripts.RELEASE, "", self.owner)
        freed = self._decide(answers, {"released"})
        if not freed:
            self._check_reachable(answers, {"released"})
        if "working" not in answers.values():
            self._valid_until = 0.0
        return freed

    def enter(self, member: str, nonce: str, *, busy_ttl: float) -> bool:
        """Mark `member` as at work for `busy_ttl` seconds; False while another process has that mark."""
        answers = self._ask(scripts.ENTER, "", member, nonce, self._ms(busy_ttl))
        entered = self._decide(answers, {"entered"})
        if not entered:
            self._ask(scripts.LEAVE, "", member, nonce)
            self._check_reachable(answers, {"entered"})
        return entered

    def leave(self, member: str, nonce: str) -> None:
        """Take the mark off again, if it is this process's."""
        self._ask(scripts.LEAVE, "", member, nonce)

    def holder(self) -> Holder | None:
        """Tell who holds the key, or None if no one does.

        Raises:
            LockUnavailable: no server, or less than a majority, can be reached.
        """
        answers = self._ask(scripts.INSPECT, [])
        if len(self.clients) - len(self._errors) < self.quorum:
            self._raise_unavailable()
        owners = Counter(_text(answer[0]) for answer in answers.values() if answer and answer[0])
        if not owners:
            return None
        owner, votes = owners.most_common(1)[0]
        if votes < self.quorum:
            return None
        _, ttl, since, *busy = next(a for a in answers.values() if a and _text(a[0]) == owner)
        return Holder(
            key=self.key,
            owner=owner,
            since=datetime.fromtimestamp(int(since) / 1000, UTC) if since else None,
            remaining=None if int(ttl) < 0 else int(ttl) / 1000,
            busy=tuple(sorted(_text(member) for member in busy)),
        )

    @property
    def quorum(self) -> int:
        """How many servers must agree."""
        return len(self.clients) // 2 + 1

    def __enter__(self) -> Self:
        if not self.acquire():
            raise LockBusy(self.holder(), self.key)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _ask(self, script: str, unreachable: Any, *args: object) -> dict[int, Any]:
        """Run a script on every server; an unreachable one answers `unreachable`, its error is kept."""
        import redis

        self._errors: dict[int, Exception] = {}
        answers: dict[int, Any] = {}
        for number, client in enumerate(self.clients):
            try:
                answer = client.register_script(script)(keys=scripts.keys(self.key), args=cast("Any", args))
                answers[number] = _text(answer) if isinstance(answer, bytes) else answer
            except redis.RedisError as error:
                self._errors[number] = error
                answers[number] = unreachable
        return answers

    def _decide(self, answers: dict[int, Any], good: set[str]) -> bool:
        return sum(answer in good for answer in answers.values()) >= self.quorum

    def _check_reachable(self, answers: dict[int, Any], good: set[str]) -> None:
        """Raise LockUnavailable if the servers that can't be reached could have made a majority."""
        won = sum(answer in good for answer in answers.values())
        if self._errors and won + len(self._errors) >= self.quorum:
            self._raise_unavailable()

    def _raise_unavailable(self) -> None:
        number, error = next(iter(self._errors.items()))
        raise LockUnavailable(_node(self.clients[number]), self.key, error) from error

    def _give_back(self, answers: dict[int, Any]) -> None:
        """Undo what a lost vote won, so that no minority of servers blocks the others for a ttl."""
        if len(self.clients) > 1 and any(answer == "acquired" for answer in answers.values()):
            errors = self._errors
            self._ask(scripts.RELEASE, "", self.owner)
            self._errors = errors

    def _extend(self, started: float) -> None:
        self._valid_until = started + self.ttl * (1 - DRIFT_FACTOR) - DRIFT_FLOOR

    @staticmethod
    def _ms(seconds: float) -> int:
        return round(seconds * 1000)


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _node(client: Redis) -> str:
    """Name a server by host and port: never by its URL, which may hold a password."""
    pool = getattr(client, "connection_pool", None)
    kwargs = pool.connection_kwargs if pool is not None else {}
    return f"{kwargs.get('host', kwargs.get('path', 'cluster'))}:{kwargs.get('port', '')}".rstrip(":")
