"""What anybody may ask of a lock, or do to it, without owning it. Plain redis-py, no Airflow."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from iam_watcher.lock import scripts
from iam_watcher.lock.answers import unavailable
from iam_watcher.lock.holder import Holder
from iam_watcher.lock.key import check_key
from iam_watcher.lock.outcome import Revocation
from iam_watcher.lock.quorum import Answers, Quorum, majority
from iam_watcher.lock.scripts import text

if TYPE_CHECKING:
    from redis import Redis


def agreed_holder(key: str, answers: Iterable[Sequence[Any]], *, servers: int) -> Holder | None:
    """Return the holder that a majority of a lock's servers knows, or None if there is none.

    Args:
        key: the lock's key.
        answers: of those servers where someone holds it, as INSPECT gives them.
        servers: how many the lock has.
    """
    found = list(answers)
    owners = Counter(text(answer[0]) for answer in found)
    owner, votes = owners.most_common(1)[0] if owners else ("", 0)
    if votes < majority(servers):
        return None
    same = [answer for answer in found if text(answer[0]) == owner]
    ttl = min((int(ttl) for _, ttl, *_ in same), key=lambda ttl: (ttl >= 0, -ttl))  # none, or the longest
    since = [int(since) for _, _, since, *_ in same if since]
    return Holder(
        key=key,
        owner=owner,
        since=datetime.fromtimestamp(min(since) / 1000, UTC) if since else None,
        remaining=None if ttl < 0 else ttl / 1000,
        busy=tuple(sorted({text(member) for _, _, _, *busy in same for member in busy})),
    )


class Observer:
    """One key, on one Redis server or on several independent ones, seen by somebody who does not own it.

    Args:
        clients: a redis-py client, or several.
        key: the lock's key.
        tick: a name for the work to be done once; see `Lease`.

    Raises:
        ValueError: the key is not valid.
    """

    def __init__(self, clients: Redis | Sequence[Redis], key: str, *, tick: str = "") -> None:
        self.clients: tuple[Redis, ...] = tuple(clients) if isinstance(clients, Iterable) else (clients,)
        if not self.clients:
            raise ValueError(f"lock {key!r}: expected at least one Redis client")
        self.key = check_key(key)
        self._servers = Quorum(self.clients, scripts.keys(key, tick))
        self._channel = scripts.released_channel(key)

    def holder(self) -> Holder | None:
        """Return who holds the key, or None if nobody does.

        Raises:
            LockUnavailable: less than a majority of the servers answers.
        """
        answers = self._servers.ask(scripts.INSPECT)
        self._check_majority(answers)
        found = [answer for answer in answers.given.values() if answer]
        return agreed_holder(self.key, found, servers=len(self.clients))

    def tick_done_by(self) -> str | None:
        """Return the owner that did the tick, or None."""
        answers = self._servers.ask(scripts.TICK)
        return next((text(answer) for answer in answers.given.values() if answer), None)

    def revoke(self, owner: str, record: str) -> bool:
        """Release the key that `owner` holds, whatever that owner does, and refuse it the key for two leases.

        Args:
            owner: as `holder` returned it; a new holder keeps the lock.
            record: who did this, when and why, as JSON.

        Returns:
            Whether the key was released.

        Raises:
            LockUnavailable: too few servers answer.
        """
        arguments = owner, self._channel, record, secrets.token_hex(8)
        answers = self._servers.ask(scripts.REVOKE, *arguments)
        if answers.errors:  # An answer may have been lost: see `release`.
            answers = answers.updated(self._servers.ask(scripts.REVOKE, *arguments, only=answers.errors))
        revoked = answers.agree(Revocation.REVOKED)
        if not revoked:
            self._check_reachable(answers, Revocation.REVOKED)
        return revoked

    def _check_reachable(self, answers: Answers, *good: str) -> None:
        """Raise LockUnavailable if the servers that did not answer could make a majority."""
        if answers.might_agree(*good):
            self._raise_unavailable(*next(iter(answers.errors.items())))

    def _check_majority(self, answers: Answers) -> None:
        """Raise LockUnavailable if less than a majority answered."""
        if len(answers.given) < majority(len(self.clients)):
            self._raise_unavailable(*next(iter(answers.errors.items())))

    def _raise_unavailable(self, number: int, error: Exception) -> NoReturn:
        raise unavailable(self.clients[number], self.key, error) from error
