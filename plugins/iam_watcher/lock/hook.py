"""Redis clients for the lock, from Airflow connections, with time-outs that a lease can afford."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.redis.hooks.redis import RedisHook  # noqa: TID253  only run-time code imports this module
from redis.backoff import NoBackoff  # noqa: TID253  the same
from redis.retry import Retry  # noqa: TID253  the same

from iam_watcher.errors import LockError

if TYPE_CHECKING:
    from datetime import timedelta

    from redis import Redis

TIMEOUT_SHARE = 10  # a hung server costs at most this part of the lease, so a renewal has several tries
LONGEST_TIMEOUT = 5.0  # seconds


class LockRedisHook(RedisHook):
    """The provider's hook, plus what a lock can't do without.

    The provider sets no socket time-outs, so a stopped Redis would hang a renewal for ever, and it
    drops a database that stands in the connection's path (`redis://host/3`), so that two deployments
    that mean the same lock could look in different databases.

    Args:
        redis_conn_id: the Airflow connection.
        timeout: seconds to wait for a connection and for each answer.
    """

    def __init__(self, redis_conn_id: str, *, timeout: float) -> None:
        super().__init__(redis_conn_id)
        self.timeout = timeout

    def get_conn(self) -> Any:
        """Return a client; it connects at the first command.

        Raises:
            LockError: if the connection names two different databases.
        """
        client: Any = super().get_conn()  # type: ignore[no-untyped-call]
        kwargs = client.connection_pool.connection_kwargs
        kwargs.update(
            socket_timeout=self.timeout,
            socket_connect_timeout=self.timeout,
            # One fresh connection for one that the server closed meanwhile; the caller does the rest.
            retry=Retry(NoBackoff(), 1),
            db=self._database(),
        )
        return client

    def _database(self) -> int:
        conn = self.get_connection(self.redis_conn_id)
        path, extra = conn.schema or None, conn.extra_dejson.get("db")
        if path is not None and extra is not None and str(path) != str(extra):
            raise LockError(
                f"connection {self.redis_conn_id!r} names database {path!r} in its path and {extra!r} in its "
                "extra; expected one of them, or both the same"
            )
        value = str(path if extra is None else extra) if (path or extra) is not None else "0"
        if not value.isdecimal():
            raise LockError(
                f"connection {self.redis_conn_id!r} names database {value!r}; expected a number, as 0"
            )
        return int(value)


def redis_client(conn_id: str, *, lease: timedelta) -> Redis:
    """Return a client for the Airflow connection `conn_id`, with time-outs fit for a lease that long."""
    timeout = min(LONGEST_TIMEOUT, lease.total_seconds() / TIMEOUT_SHARE)
    client: Redis = LockRedisHook(conn_id, timeout=timeout).get_conn()
    return client
