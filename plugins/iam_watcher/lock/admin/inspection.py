"""Who holds which lock, and which locks were released by force. Changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import LockError
from iam_watcher.lock import scripts
from iam_watcher.lock.answers import unavailable
from iam_watcher.lock.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import Redis

    from iam_watcher.lock.holder import Holder


@dataclass(frozen=True)
class ForcedRelease:
    """One forced release, as Redis stores it.

    Args:
        at: when it happened, an ISO time in UTC.
        by: who did it, as that person wrote.
        reason: why, as that person wrote.
        owner: the owner that lost the lock.
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
        LockUnavailable: no server answers; or see `Observer.holder`.
    """
    suffix = "}:info"
    pattern = "{*" + suffix
    listed = _answers(clients, pattern, lambda client: list(client.scan_iter(match=pattern, count=1000)))
    names = {name.decode() if isinstance(name, bytes) else name for found in listed for name in found}
    keys = sorted(name[1 : -len(suffix)] for name in names)
    found = (Observer(clients, key).holder() for key in keys)
    return [holder for holder in found if holder is not None]


def holder(clients: Sequence[Redis], key: str) -> Holder | None:
    """Return who holds the lock `key`, the Go iam-watcher included.

    Raises:
        LockUnavailable: see `Observer.holder`.
    """
    return Observer(clients, key).holder()


def history(clients: Sequence[Redis], key: str) -> list[ForcedRelease]:
    """Return the forced releases of the lock `key`, newest first.

    Raises:
        LockUnavailable: no server answers.
        LockError: a record is none of this version.
    """
    name = scripts.side_key(key, "history")
    records: list[Any] = max(_answers(clients, key, lambda client: client.lrange(name, 0, -1)), key=len)
    try:
        return [ForcedRelease(**json.loads(record)) for record in records]
    except (TypeError, ValueError) as error:
        raise LockError(
            f"the forced releases of {key!r} can't be read, because another version of iam-watcher or "
            f"another program wrote one of them ({error}). Read them with that version, or delete the key "
            f"{name!r} in Redis: no lock depends on it"
        ) from error


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
