"""Publishes a message to IAM's other services when a job changed rows in the database, without IAM's API.

A sorted set in Redis has an entry for each run that may have committed changes and has not published the
message yet, with the time of the entry. A run writes its entry before each commit, and removes the entry
after it has published the message. If a run is killed between a commit and its message, the entry stays, and
the next run publishes the message.

Only the run itself removes a new entry. Another run can't tell a run that was killed from one that is about
to commit: it publishes the message, and leaves the entry until it is an hour old. Until then each run
publishes the message once more, which does no harm.

The set is as durable as that Redis: without persistence, a restart of Redis loses it.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from iam_watcher import arguments
from iam_watcher.errors import AnnouncementError, JobArgumentError, LockUnavailable, shown_at_the_call
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

logger = get_logger(__name__)

PENDING_KEY = "iam-watcher:unannounced:{channel}:{command}"
# A commit follows its entry within seconds. After this time the run has committed or is over.
ENTRY_IS_OLD_AFTER = timedelta(hours=1)


@shown_at_the_call
@dataclass(frozen=True)
class Announcement:
    """A message on a Redis channel.

    Attributes:
        command: the message is `{"command": command}`.
        channel: the channel. IAM's authz-server subscribes to the default.
        redis_conn_id: id of the Airflow connection of the Redis.
    """

    command: str
    channel: str = "iam.cluster.notifications"
    redis_conn_id: str = "iam_redis"

    def __post_init__(self) -> None:
        arguments.connection_id("redis_conn_id of an Announcement", self.redis_conn_id)
        for name in ("command", "channel"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise JobArgumentError(f"{name} of an Announcement is {value!r}; expected a text")


SECRET_CHANGED = Announcement("SecretChanged")


@contextmanager
def announcing(announcement: Announcement, run: str) -> Iterator[Callable[[], None]]:
    """Publish for runs that left an entry; at the end of the block, publish if a commit was announced in it.

    Args:
        announcement: the message and where it goes.
        run: names this try of this run, and no other.

    Yields:
        A function to be called before each commit that is to be announced.

    Raises:
        AnnouncementError: Redis failed. Before the first commit, so nothing is changed that could not be
            announced; or at the end, and then the next run announces it.
        LockError: a value of the connection is not valid, which a retry can't help.
    """
    from iam_watcher.lock.clients import redis_client

    key = PENDING_KEY.format(channel=announcement.channel, command=announcement.command)
    with _redis_errors(announcement):
        client = redis_client(announcement.redis_conn_id)
    entered = False

    def enter() -> None:
        nonlocal entered
        with _redis_errors(announcement):
            client.zadd(key, {run: time.time()})
        entered = True

    try:
        with _redis_errors(announcement):
            if pending := client.zcard(key):
                # The time is taken before the message: a run that writes its entry later may commit after it.
                old = time.time() - ENTRY_IS_OLD_AFTER.total_seconds()
                logger.info("Publishing the message for runs that have not published it: runs=%d", pending)
                _publish(client, announcement)
                client.zremrangebyscore(key, "-inf", old)
        try:
            yield enter
        finally:
            if entered:
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
    from airflow.sdk.exceptions import AirflowNotFoundException
    from redis import RedisError
    from redis.exceptions import RedisClusterException

    from iam_watcher.lock.answers import explain, undefined

    what = f"{announcement.command} on {announcement.channel}"
    try:
        yield
    except AirflowNotFoundException as error:
        raise AnnouncementError(f"{what}: {undefined(announcement.redis_conn_id)}") from error
    except LockUnavailable as error:  # a cluster, to which a client connects at once
        raise AnnouncementError(f"{what}: {error.facts}") from error
    except (RedisError, RedisClusterException) as error:
        answer = explain(announcement.redis_conn_id, announcement.channel, error)
        raise AnnouncementError(f"{what}: {answer}") from error
