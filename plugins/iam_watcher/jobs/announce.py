"""Tells IAM's other services about rows that were changed behind the back of its API.

A set in Redis names the runs that may have changed something and have not announced it yet. A run puts
itself there before each of its commits and takes itself off after it has published. So a run that is
killed between a commit and its message stays in the set, and the next run publishes for it. The set has
the durability of that Redis: without persistence, a restart of Redis forgets it.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from iam_watcher.errors import AnnouncementError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

logger = logging.getLogger(__name__)

PENDING_KEY = "iam-watcher:announce:{channel}:{command}"
REDIS_PATIENCE = timedelta(seconds=30)  # the client's time-outs are a tenth of it


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


SECRET_CHANGED = Announcement("SecretChanged")


@contextmanager
def announcing(announcement: Announcement, run: str) -> Iterator[Callable[[], None]]:
    """Publish what earlier runs left to publish; then what is marked inside, at the end of the block.

    Args:
        announcement: the message and where it goes.
        run: names this try of this run, and no other.

    Yields:
        A function to be called before each commit that is to be announced.

    Raises:
        AnnouncementError: Redis failed. Before the first commit, so nothing is changed that could not be
            announced; or at the end, and then the next run announces it.
    """
    import redis

    from iam_watcher.lock.hook import redis_client

    key = PENDING_KEY.format(channel=announcement.channel, command=announcement.command)
    client = redis_client(announcement.redis_conn_id, lease=REDIS_PATIENCE)
    marked = False

    def mark() -> None:
        nonlocal marked
        with _redis_errors(redis.RedisError, announcement):
            client.sadd(key, run)
        marked = True

    try:
        with _redis_errors(redis.RedisError, announcement):
            left = client.smembers(key)
            if left:
                logger.info("event=announce_for_earlier_runs runs=%d", len(left))
                _publish(client, announcement)
                client.srem(key, *left)
        try:
            yield mark
        finally:
            if marked:
                with _redis_errors(redis.RedisError, announcement):
                    _publish(client, announcement)
                    client.srem(key, run)
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
def _redis_errors(kind: type[Exception], announcement: Announcement) -> Iterator[None]:
    try:
        yield
    except kind as error:
        raise AnnouncementError(
            f"{announcement.command} on {announcement.channel} through {announcement.redis_conn_id}: {error}"
        ) from error
