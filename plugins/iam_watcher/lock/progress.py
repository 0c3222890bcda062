"""The progress of the tasks under a lock: a record in Redis beside the lock, for people and for the page.

A hash, `{key}:progress`: task -> JSON. The lock does not depend on it. The record may be some seconds old or
missing, and if Redis does not answer, the work goes on. If the lock has several servers, the first one that
answers has the record.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import LockUnavailable
from iam_watcher.lock import scripts
from iam_watcher.lock.answers import explain, unavailable
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from redis import Redis

    from iam_watcher.lock.grant import Grant

logger = get_logger(__name__)

NAME = "progress"
KEPT = 60_000  # ms after the last update; a table job has one every 10 s

# KEYS: progress. ARGV: task, record (JSON), ms.
WRITE = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""


@dataclass(frozen=True)
class TaskProgress:
    """How far a task has come, by the clock of its worker.

    Args:
        owner: the owner of the lock, and so the run: `deployment/dag_id/run_id`.
        task: `task_id/map_index`.
        table: that it works on.
        began: when this try began, an ISO time in UTC.
        updated: when this was written.
        examined: rows that it looked at.
        changed: rows that it wrote.
        rows_per_second: rows examined in a second, in the mean.
        share: how much is done, 0 to 1.
        eta_seconds: until it is done; None if nothing can be said yet.
    """

    owner: str
    task: str
    table: str
    began: str
    updated: str
    examined: int
    changed: int
    rows_per_second: float
    share: float
    eta_seconds: float | None

    def __str__(self) -> str:
        left = "unknown" if self.eta_seconds is None else f"{self.eta_seconds:.0f} s"
        return (
            f"{self.task}: {self.table}, {self.share:.1%} done, {self.examined} rows examined "
            f"({self.rows_per_second:.0f} a second), {self.changed} changed, left: {left} (at {self.updated})"
        )


class ProgressRecord:
    """Keeps the record of one task, and takes it away at the end.

    Args:
        grant: what the task works under; without one there is no record.
        task: `task_id/map_index`.
        table: that it works on.
    """

    def __init__(self, grant: Grant | None, *, task: str, table: str) -> None:
        self._grant = grant
        self._name = "" if grant is None else scripts.side_key(grant.key, NAME)
        self._task = task
        self._table = table
        self._began = _now()
        self._clients: dict[str, Redis] = {}
        self._warned = False

    def write(self, **facts: Any) -> None:
        """Write how far the task has come. If no server takes it, that is logged the first time.

        Args:
            facts: of a `TaskProgress`, from `examined` to `eta_seconds`.
        """
        if self._grant is None:
            return
        from airflow.sdk.exceptions import AirflowRuntimeError
        from redis import RedisError
        from redis.exceptions import RedisClusterException

        from iam_watcher.lock.clients import BRIEF_TIMEOUT, redis_client

        record = TaskProgress(
            self._grant.owner, self._task, self._table, began=self._began, updated=_now(), **facts
        )
        text = json.dumps(asdict(record))
        for conn_id in self._grant.redis_conn_ids:
            try:
                client = self._clients.get(conn_id) or redis_client(conn_id, answer_within=BRIEF_TIMEOUT)
                self._clients[conn_id] = client
                client.register_script(WRITE)(keys=[self._name], args=[self._task, text, KEPT])
            except (RedisError, RedisClusterException, LockUnavailable, AirflowRuntimeError) as error:
                reason = explain(conn_id, self._name, error)
            else:
                return
        if not self._warned:
            logger.warning("progress is not recorded: key=%s error=%s", self._name, reason)
        self._warned = True

    def close(self) -> None:
        """Take the record away; where that fails it expires."""
        from redis import RedisError
        from redis.exceptions import RedisClusterException

        for client in self._clients.values():
            with suppress(RedisError, RedisClusterException):
                client.hdel(self._name, self._task)
            client.close()


def parse(records: Iterable[bytes | str]) -> Iterator[TaskProgress]:
    """Yield what the records of a server say; those of another version of iam-watcher are left out."""
    import msgspec

    for text in records:
        try:
            yield msgspec.json.decode(text, type=TaskProgress)
        except ValueError:
            logger.debug("a progress record can't be read: %s", text[:100])


def read(clients: Sequence[Redis], key: str) -> list[TaskProgress]:
    """Return how far the tasks under the lock `key` have come, of all servers the newest that is known.

    Raises:
        LockUnavailable: no server answers.
    """
    from redis import RedisError
    from redis.exceptions import RedisClusterException

    found: dict[str, TaskProgress] = {}
    errors = []
    for client in clients:
        try:
            records: Any = client.hgetall(scripts.side_key(key, NAME))
        except (RedisError, RedisClusterException) as error:
            errors.append(unavailable(client, key, error))
            continue
        for progress in parse(records.values()):
            if progress.task not in found or progress.updated > found[progress.task].updated:
                found[progress.task] = progress
    if len(errors) == len(clients):
        raise errors[0]
    return sorted(found.values(), key=lambda progress: progress.task)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
