"""Tells IAM's other services about rows that were changed behind the back of its API.

A sorted set in Redis names the runs that may have changed something and have not announced it yet, each
with the time of its last mark. A run marks itself before each of its commits and removes its mark after it
has published. If a run is killed between a commit and its message, its mark stays, and the next run
publishes for it.

Only the run itself removes a fresh mark. Another run can't tell a run that was killed from one that is
about to commit: it publishes for both, and leaves their marks until they are an hour old. Until then each
run publishes once more, which does no harm.

The set is as durable as that Redis: without persistence, a restart of Redis forgets it.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from iam_watcher.errors import AnnouncementError, JobArgumentError, shown_at_the_call
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

logger = get_logger(__name__)

PENDING_KEY = "iam-watcher:unannounced:{channel}:{command}"
# A commit follows its mark within seconds. After this time the run has committed or is over.
MARK_IS_OLD_AFTER = timedelta(hours=1)
REDIS_PATIENCE = timedelta(seconds=30)  # the client's time-outs are a tenth of it


@shown_at_the_call
@dataclass(frozen=True)
class Announcement:
    """A message on a Redis channel.

    Attributes:
        command: the message is `{"command": command}`.
        channel: where IAM's authz-server listens.
        redis_conn_id: Airflow connection.
    """

    command: str
    channel: str = "iam.cluster.notifications"
    redis_conn_id: str = "iam_redis"

    def __post_init__(self) -> None:
        for name in ("command", "channel", "redis_conn_id"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise JobArgumentError(f"{name} of an Announcement is {value!r}; expected a text")


SECRET_CHANGED = Announcement("SecretChanged")


@contextmanager
def announcing(announcement: Announcement, run: str) -> Iterator[Callable[[], None]]:
    """Publish for runs that left a mark; then, at the end of the block, what was marked inside it.

    Args:
        announcement: the message and where it goes.
        run: names this try of this run, and no other.

    Yields:
        A function to be called before each commit that is to be announced.

    Raises:
        AnnouncementError: Redis failed. Before the first commit, so nothing is changed that could not be
            announced; or at the end, and then the next run announces it.
    """
    from iam_watcher.lock.clients import redis_client

    key = PENDING_KEY.format(channel=announcement.channel, command=announcement.command)
    client = redis_client(announcement.redis_conn_id, lease=REDIS_PATIENCE)
    marked = False

    def mark() -> None:
        nonlocal marked
        with _redis_errors(announcement):
            client.zadd(key, {run: time.time()})
        marked = True

    try:
        with _redis_errors(announcement):
            if pending := client.zcard(key):
                # The time is taken before the message: a run that marks itself later may commit after it.
                old = time.time() - MARK_IS_OLD_AFTER.total_seconds()
                logger.info("publishing for runs that have not announced their changes: runs=%d", pending)
                _publish(client, announcement)
                client.zremrangebyscore(key, "-inf", old)
        try:
            yield mark
        finally:
            if marked:
                with _redis_errors(announcement):
                    _publish(client, announcement)
                    client.zrem(key, run)
    finally:
        client.close()


def _publish(client: Redis, announcement: Announcement) -> None:
    receivers = client.publish(announcement.channel, json.dumps({"command": announcement.command}))
    logger.info(
        "event=announced channel=%s command=%s receivers=%s",
        announcement.channel,
        announcement.command,
        receivers,
    )


@contextmanager
def _redis_errors(announcement: Announcement) -> Iterator[None]:
    from redis import RedisError
    from redis.exceptions import RedisClusterException

    from iam_watcher.lock.answers import explain

    try:
        yield
    except (RedisError, RedisClusterException) as error:
        raise AnnouncementError(
            f"{announcement.command} on {announcement.channel}: "
            f"{explain(announcement.redis_conn_id, announcement.channel, error)}"
        ) from error
