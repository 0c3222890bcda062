"""A lease in Redis: a lock that its owner must renew, so that a dead owner can't keep it.

Plain redis-py, no Airflow. The lock itself is what redsync (and so the Go iam-watcher) uses: one
string key, `SET key value NX PX`, compare-and-delete. Either side excludes the other. What redis-py's
own Lock lacks is here: an owner that people can read and that a retry can have again, live-worker
marks, a fair queue, revocation, ticks that are done once, and a quorum over several servers.

With N independent servers every key is on each of them, and a majority decides (Redlock: S. Sanfilippo,
"Distributed Locks with Redis"): what was won on a minority is given back, and the time it took plus
an allowance for clock drift is taken off the lease. The keys are listed in `scripts`.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from iam_watcher.errors import LockBusy
from iam_watcher.lock import scripts
from iam_watcher.lock.answers import unavailable
from iam_watcher.lock.holder import Holder, check_key

if TYPE_CHECKING:
    from redis import Redis

DRIFT_FACTOR = 0.01  # of the ttl: how far two clocks may run apart while a lease lasts
DRIFT_FLOOR = 0.002  # seconds: Redis expires keys in steps of a millisecond, rounded

OURS = frozenset({"acquired", "held"})
FINAL = frozenset({"done", "revoked", "max_hold"})  # one server that knows this is enough


class Lease:
    """One owner's claim to one key, over one Redis client or several independent ones.

    Not for sharing between threads that acquire and release; `beat` may run in a thread of its own
    while others read `remaining`.

    Args:
        clients: a redis-py client, or several (their number should be odd). Give each a socket
            time-out that is a small part of the ttl: a server that hangs is waited for that long.
        key: the lock's key, as the Go side would name it.
        owner: who we are; the same text again is the same owner, in any process.
        ttl: how long the lease lasts unless renewed, in seconds.
        max_hold: how long it may be held in all, in seconds; None: as long as it is renewed.
        tick: a name for the work to be done once, by whichever owner; `release` says when it is done.

    Attributes:
        verdict: the word of the last `acquire`: acquired, held (ours before), busy (another's),
            queued (free, but the turn of another who waits), done (another did the tick), revoked
            (this owner was forced out) or max_hold.

    Raises:
        ValueError: for a key, owner or ttl that can't be.
    """

    def __init__(
        self,
        clients: Redis | Sequence[Redis],
        key: str,
        owner: str,
        *,
        ttl: float,
        max_hold: float | None = None,
        tick: str = "",
    ) -> None:
        self.clients: tuple[Redis, ...] = tuple(clients) if isinstance(clients, Iterable) else (clients,)
        if not self.clients:
            raise ValueError("a lease needs at least one Redis client")
        if not owner:
            raise ValueError("a lease needs an owner: a text that no one else uses")
        if not ttl > DRIFT_FLOOR:
            raise ValueError(f"ttl {ttl!r}: expected a positive number of seconds")
        if max_hold is not None and max_hold < ttl:
            raise ValueError(f"max_hold {max_hold!r}: expected the ttl ({ttl!r} seconds) or more")
        self.key = check_key(key)
        self.owner = owner
        self.ttl = ttl
        self.verdict = ""
        self._max_hold = 0 if max_hold is None else _ms(max_hold)
        self._keys = [name.encode() for name in scripts.keys(key, tick)]
        self._channel = scripts.released_channel(key)
        self._valid_until = 0.0
        self._waits_since = 0.0  # seconds since 1970; 0.0: it doesn't wait
        self._errors: dict[int, Exception] = {}

    @property
    def quorum(self) -> int:
        """How many servers must agree."""
        return len(self.clients) // 2 + 1

    @property
    def remaining(self) -> float:
        """Seconds that this process may still count on, by its own monotonic clock; 0.0 if none."""
        return max(0.0, self._valid_until - time.monotonic())

    def acquire(self, *, ahead: bool = False) -> bool:
        """Take the key if it is free, or ours already; True if we hold it now. `verdict` says why not.

        Args:
            ahead: of those who wait. For its holder in mid-work, when a Redis has lost its keys: those who
                come back first are the ones in line, and the work would be stopped for them.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        started = time.monotonic()
        answers = self._ask(scripts.ACQUIRE, *self._claim(ahead=ahead))
        final = FINAL.intersection(answers.values())
        if not final and self._agreed(answers, OURS):
            self._extend(started)
            if self.remaining > 0:
                self._waits_since = 0.0
                self.verdict = "acquired" if "acquired" in answers.values() else "held"
                return True
        self._give_back(answers)
        if not final:
            self._check_reachable(answers, OURS)
        refusals = [answer for answer in answers.values() if answer and answer not in OURS]
        self.verdict = next(iter(final), None) or ("busy" if "busy" in refusals else "queued")
        return False

    def renew(self) -> bool:
        """Extend the lease to a full ttl from now; True if it is still ours.

        A key that is gone (expired, or a Redis that lost everything) is not taken again: see `beat`.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        return self.beat("", "") == "renewed"

    def beat(self, member: str, nonce: str, *, busy_ttl: float = 0.0) -> str:
        """Renew the lease and, with a member, its mark as a live worker, in one step.

        Returns:
            renewed, foreign, revoked, max_hold, replaced (another live process has the member's mark),
            gone (no one holds the key), or forgotten: no one holds it and Redis knows nothing of us.
            Only then may its owner `acquire` it in mid-work.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        started = time.monotonic()
        answers = self._ask(
            scripts.RENEW, self.owner, _ms(self.ttl), self._max_hold, member, nonce, _ms(busy_ttl)
        )
        if final := FINAL.intersection(answers.values()):
            return next(iter(final))
        if self._agreed(answers, {"renewed"}):
            self._extend(started)
            if {"gone", "forgotten"}.intersection(answers.values()):
                # A server of a quorum that restarted empty counts again.
                self._ask(scripts.ACQUIRE, *self._claim(ahead=True))
            return "renewed"
        self._check_reachable(answers, {"renewed"})
        if self._agreed(answers, {"renewed", "forgotten"}):
            return "forgotten"
        return next((word for word in ("replaced", "foreign") if word in answers.values()), "gone")

    def release(self, *, tick_done_for: float = 0.0) -> bool:
        """Free the key if it is ours and no work of ours is alive; True if it was freed.

        Args:
            tick_done_for: seconds to remember that the tick is done, so that no one else does it again;
                0: it is not done.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        answers = self._ask(scripts.RELEASE, self.owner, self._channel, _ms(tick_done_for))
        freed = self._agreed(answers, {"released"})
        if not freed:
            self._check_reachable(answers, {"released"})
        if "working" not in answers.values():
            self._valid_until = 0.0
        return freed

    def enter(self, member: str, nonce: str, *, busy_ttl: float) -> bool:
        """Mark `member` as at work for `busy_ttl` seconds; False while another process has that mark."""
        answers = self._ask(scripts.ENTER, member, nonce, _ms(busy_ttl))
        entered = self._agreed(answers, {"entered"})
        if not entered:
            errors = self._errors
            self.leave(member, nonce)
            self._errors = errors
            self._check_reachable(answers, {"entered"})
        return entered

    def leave(self, member: str, nonce: str) -> None:
        """Take the mark off again, if it is this process's."""
        self._ask(scripts.LEAVE, member, nonce)

    def queue(self, deadline: float) -> float:
        """Wait in line behind those who waited before us, until `deadline` (seconds since 1970).

        Called again, it gives back the place of the first call to a Redis that has lost its keys.

        Returns:
            The deadline in force: that of this owner's first call, until `unqueue` or success.

        Raises:
            LockUnavailable: too many servers can't be reached.
        """
        now = time.time()
        self._waits_since = self._waits_since or now
        answers = self._ask(scripts.QUEUE, self.owner, _ms(self._waits_since), _ms(deadline - now))
        if len(self.clients) - len(self._errors) < self.quorum:
            self._raise_unavailable()
        return now + min(int(answer) for answer in answers.values() if answer != "") / 1000

    def unqueue(self) -> None:
        """Stop waiting in line."""
        self._waits_since = 0.0
        self._ask(scripts.UNQUEUE, self.owner, self._channel)

    def holder(self) -> Holder | None:
        """Tell who holds the key, or None if no one does.

        Raises:
            LockUnavailable: no server, or less than a majority, can be reached.
        """
        answers = self._ask(scripts.INSPECT)
        if len(self.clients) - len(self._errors) < self.quorum:
            self._raise_unavailable()
        owners = Counter(_text(answer[0]) for answer in answers.values() if answer)
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

    def tick_done_by(self) -> str | None:
        """Return the owner that did the tick, or None."""
        return next((_text(answer) for answer in self._ask(scripts.TICK).values() if answer), None)

    def revoke(self, owner: str, record: str) -> bool:
        """Free the key that `owner` holds, whatever it does, and keep it from taking it for two leases.

        Args:
            owner: as `holder` told it: a new holder meanwhile is left alone.
            record: who did this, when and why, as JSON.

        Returns:
            True if it was freed.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        answers = self._ask(scripts.REVOKE, owner, self._channel, record)
        revoked = self._agreed(answers, {"revoked"})
        if not revoked:
            self._check_reachable(answers, {"revoked"})
        return revoked

    def __enter__(self) -> Self:
        if not self.acquire():
            raise LockBusy(self.holder(), self.key)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _claim(self, *, ahead: bool) -> tuple[str, int, int, int]:
        return self.owner, _ms(self.ttl), self._max_hold, int(ahead)

    def _give_back(self, answers: dict[int, Any]) -> None:
        """Undo what `acquire` won on a minority, which must not block the others for a ttl.

        Only where it was this call that won. One that did not answer may have set the key too; but there
        another process of this owner, a parallel task of the run, may hold it. That can be excluded if so
        many answered that they would know of its majority, and none of them does.
        """
        errors = self._errors
        won = [number for number, answer in answers.items() if answer == "acquired"]
        if "held" not in answers.values() and len(errors) < self.quorum:
            won += errors
        if won:
            self._ask(scripts.GIVE_BACK, self.owner, only=won)
        self._errors = errors

    def _ask(self, script: str, *args: str | float, only: Iterable[int] | None = None) -> dict[int, Any]:
        """Run a script on every server; one that can't be reached answers '' and its error is kept."""
        import redis
        from redis.exceptions import RedisClusterException

        self._errors = {}
        answers: dict[int, Any] = {}
        for number in range(len(self.clients)) if only is None else only:
            try:
                answer = _run(self.clients[number], script, self._keys, args)
                answers[number] = _text(answer) if isinstance(answer, bytes) else answer
            except (redis.RedisError, RedisClusterException) as error:
                self._errors[number] = error
                answers[number] = ""
        return answers

    def _agreed(self, answers: dict[int, Any], good: Iterable[str]) -> bool:
        return sum(answer in good for answer in answers.values()) >= self.quorum

    def _check_reachable(self, answers: dict[int, Any], good: Iterable[str]) -> None:
        """Raise LockUnavailable if the servers that can't be reached could have made a majority."""
        won = sum(answer in good for answer in answers.values())
        if self._errors and won + len(self._errors) >= self.quorum:
            self._raise_unavailable()

    def _raise_unavailable(self) -> None:
        number, error = next(iter(self._errors.items()))
        raise unavailable(self.clients[number], self.key, error) from error

    def _extend(self, started: float) -> None:
        self._valid_until = started + self.ttl * (1 - DRIFT_FACTOR) - DRIFT_FLOOR


def _run(client: Redis, script: str, keys: Sequence[bytes], args: Sequence[str | float]) -> Any:
    # By hand: a Script of redis-py hashes its text each time that one is made.
    from redis.exceptions import NoScriptError

    try:
        return client.evalsha(_sha(script), len(keys), *keys, *args)
    except NoScriptError:
        return client.eval(script, len(keys), *keys, *args)


@cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
