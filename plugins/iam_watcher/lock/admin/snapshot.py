"""What many locks look like at one moment, asked in one pipeline for each Redis server. Changes nothing.

Plain redis-py, no Airflow. A server that can't be asked is no error here: each lock says what is known of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from iam_watcher.lock import progress, scripts
from iam_watcher.lock.answers import explain
from iam_watcher.lock.observer import agreed_holder
from iam_watcher.lock.queue_scripts import NOW
from iam_watcher.lock.quorum import majority
from iam_watcher.lock.scripts import text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis import Redis

    from iam_watcher.lock.holder import Holder
    from iam_watcher.lock.progress import TaskProgress

MOST_WAITING = 50  # of one lock that are listed; all are counted

# KEYS: of `scripts`, with `progress` as the last one. ARGV: how many waiters to list. Returns {} if nothing
# is to be said, else {owner or '', ttl ms, since ms or '', [live members], waiters alive,
# [waiter, position ms, deadline ms, ...], [task, progress record, ...]}.
# It needs no more rights than docs/lock.md names.
SNAPSHOT = f"""{NOW}
local owner = redis.call('GET', KEYS[1])
local waiting = redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES')
if not owner and #waiting == 0 then return {{}} end
local listed, alive = {{}}, 0
for i = 1, #waiting, 2 do
  local deadline = tonumber(redis.call('ZSCORE', KEYS[6], waiting[i]) or 0)
  if deadline >= now and tonumber(redis.call('ZSCORE', KEYS[7], waiting[i]) or 0) >= now then
    alive = alive + 1
    if alive <= tonumber(ARGV[1]) then
      listed[#listed + 1] = waiting[i]
      listed[#listed + 1] = waiting[i + 1]
      listed[#listed + 1] = string.format('%.0f', deadline)
    end
  end
end
if not owner then return {{'', -1, '', {{}}, alive, listed, {{}}}} end
local since = ''
if redis.call('HGET', KEYS[2], 'owner') == owner then since = redis.call('HGET', KEYS[2], 'since') end
{scripts.LIVE}
return {{owner, redis.call('PTTL', KEYS[1]), since, live, alive, listed, redis.call('HGETALL', KEYS[10])}}
"""
SNAPSHOT_SHA = hashlib.sha1(SNAPSHOT.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Waiter:
    """A run that waits for a lock.

    Args:
        owner: who it would be.
        since: when it began to wait.
        until: when it gives up.
    """

    owner: str
    since: datetime
    until: datetime


@dataclass(frozen=True)
class LockState:
    """A lock, according to its servers.

    Args:
        key: the lock's key.
        holder: who holds it; None if nobody does, or if it isn't known.
        waiters: alive in its waiting queue.
        waiting: the first MOST_WAITING of them, in order.
        tasks: how far the work of its holder is.
        known: a majority of its servers answered.
        errors: a sentence for each server that did not.
    """

    key: str
    holder: Holder | None
    waiters: int
    waiting: tuple[Waiter, ...]
    tasks: tuple[TaskProgress, ...]
    known: bool
    errors: tuple[str, ...]


def snapshot(
    locks: Mapping[str, Sequence[str]],
    client_of: Callable[[str], Redis],
    on_error: Callable[[str, Exception], None],
) -> dict[str, LockState]:
    """Return the state of these locks.

    Args:
        locks: key -> names of its servers.
        client_of: returns the client of a server by its name; what it raises is that server's error.
        on_error: is called with the name of a server that can't be asked, and its error.

    Returns:
        key -> its state.
    """
    servers: dict[str, list[str]] = {}
    for key, names in locks.items():
        for name in names:
            servers.setdefault(name, []).append(key)
    answers: dict[str, dict[str, Any]] = {}
    for name, keys in servers.items():
        try:
            answers[name] = _ask(client_of(name), keys)
        except Exception as error:  # noqa: BLE001  a connection can be wrong in any way; the page says how
            on_error(name, error)
            answers[name] = dict.fromkeys(keys, error)
    return {key: _state(key, {name: answers[name][key] for name in names}) for key, names in locks.items()}


def _ask(client: Redis, keys: Sequence[str]) -> dict[str, Any]:
    """Return key -> answer or error, in one pipeline."""
    from redis.exceptions import NoScriptError

    answers: dict[str, Any] = {}
    for _ in range(2):
        untyped: Any = client.pipeline(transaction=False)
        with untyped as pipeline:
            for key in keys:
                names = [*scripts.keys(key), scripts.side_key(key, progress.NAME)]
                # Not `evalsha`: the pipeline of a cluster's client has none.
                pipeline.execute_command("EVALSHA", SNAPSHOT_SHA, len(names), *names, MOST_WAITING)
            answers = dict(zip(keys, pipeline.execute(raise_on_error=False), strict=True))
        if not any(isinstance(answer, NoScriptError) for answer in answers.values()):
            break
        client.script_load(SNAPSHOT)  # the server has started again, or never knew it
    return answers


def _state(key: str, by_server: Mapping[str, Any]) -> LockState:
    errors = {name: answer for name, answer in by_server.items() if isinstance(answer, Exception)}
    given = [answer for name, answer in by_server.items() if name not in errors and answer]
    holder = agreed_holder(
        key,
        ([owner, ttl, since, *live] for owner, ttl, since, live, *_ in given if owner),
        servers=len(by_server),
    )
    # Each server has a queue of its own, with the same order: the longest is the most complete.
    alive, listed = max(((int(answer[4]), answer[5]) for answer in given), default=(0, []))
    newest: dict[str, TaskProgress] = {}
    for answer in given:
        for task in progress.parse(answer[6][1::2]):
            if (
                holder
                and task.owner == holder.owner
                and (task.task not in newest or task.updated > newest[task.task].updated)
            ):
                newest[task.task] = task
    return LockState(
        key=key,
        holder=holder,
        waiters=alive,
        waiting=tuple(
            Waiter(text(owner), _moment(position), _moment(deadline))
            for owner, position, deadline in zip(*[iter(listed)] * 3, strict=True)
        ),
        tasks=tuple(newest[name] for name in sorted(newest)),
        known=len(by_server) - len(errors) >= majority(len(by_server)),
        errors=tuple(explain(name, key, error) for name, error in sorted(errors.items())),
    )


def _moment(ms: bytes | str) -> datetime:
    return datetime.fromtimestamp(float(ms) / 1000, UTC)
