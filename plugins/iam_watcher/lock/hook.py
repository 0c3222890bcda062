"""Redis clients for the lock, from Airflow connections, with time-outs that a lease can afford."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.redis.hooks.redis import RedisHook  # noqa: TID253  only run-time code imports this
from redis.backoff import NoBackoff  # noqa: TID253  the same
from redis.exceptions import ConnectionError, RedisClusterException, RedisError  # noqa: A004, TID253  the same

from iam_watcher.errors import LockError, LockUnavailable

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Connection
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.cluster import ClusterNode
    from redis.retry import Retry

TIMEOUT_SHARE = 10  # a hung server costs at most this part of the lease, so a renewal has several tries
# Seconds. A beat, an answer that is lost and the next beat (2 + 1.5 + 2 s) must come before the mark of the
# last good beat runs out (keepalive.BUSY_TTL, 6 s), or a release or a retry would pass a process that lives.
LONGEST_TIMEOUT = 1.5
# The same for each of several servers, which are asked one after the other: two may hang.
LONGEST_OF_SEVERAL = 1.0
PORT = 6379
SENTINEL_PORT = 26379


class LockRedisHook(RedisHook):
    """The provider's hook, plus what a lock can't do without.

    The provider sets no socket time-outs, so a stopped Redis would hang a renewal for ever; it drops a
    database that stands in the connection's path (`redis://host/3`), so that two deployments that mean
    the same lock could look in different databases; and it does not know Sentinel. The connection's
    extras are the provider's (`db`, `ssl…`, `cluster`, `startup_nodes`), and for Sentinel:
    `sentinel_service` (the service's name) and `sentinels` (`host:port,host:port`; default: the
    connection's own host and port).

    Args:
        redis_conn_id: the Airflow connection.
        timeout: seconds to wait for a connection and for each answer.
    """

    def __init__(self, redis_conn_id: str, *, timeout: float) -> None:
        super().__init__(redis_conn_id)
        self.timeout = timeout

    def get_conn(self) -> Any:
        """Return a client. One to a cluster or a Sentinel connects at once, any other at its first command.

        Raises:
            LockError: the connection says something that can't be meant.
            LockUnavailable: the cluster can't be reached.
        """
        return self.client_of(self.get_connection(self.redis_conn_id))

    def client_of(self, conn: Connection) -> Any:
        """Return a client as `get_conn`, of a connection that was resolved before."""
        import redis
        from redis.retry import Retry

        arguments = _arguments(conn, self.timeout) | {"retry": reconnect_once()}
        if service := conn.extra_dejson.get("sentinel_service"):
            sentinel: Any = redis.Sentinel(  # type: ignore[no-untyped-call]
                _sentinels(conn), sentinel_kwargs=_sentinel_arguments(arguments, Retry(NoBackoff(), 0))
            )
            return sentinel.master_for(service, **arguments)
        if not conn.extra_dejson.get("cluster"):
            return redis.Redis(host=str(conn.host), port=conn.port or PORT, **arguments)
        nodes = self.nodes_of(conn)
        try:
            return redis.RedisCluster(
                host=conn.host, port=conn.port or PORT, startup_nodes=nodes, **_without_db(arguments)
            )
        except (RedisError, RedisClusterException) as error:
            raise LockUnavailable(f"{conn.host}:{conn.port or PORT}", self.redis_conn_id, error) from error

    def nodes_of(self, conn: Connection) -> list[ClusterNode]:
        """Return the nodes of a cluster that the extra `startup_nodes` names, as the provider reads it."""
        self.startup_nodes = conn.extra_dejson.get("startup_nodes")
        return self._build_startup_nodes()


def reconnect_once() -> Retry:
    """Return redis-py's rule to try again once if the server closed the connection meanwhile.

    Not after a time-out: the caller knows when to ask again.
    """
    from redis.retry import Retry

    return Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))


def redis_client(conn_id: str, *, lease: timedelta, servers: int = 1) -> Redis:
    """Return a client for an Airflow connection, with time-outs that a lease can afford.

    Args:
        conn_id: the connection.
        lease: how long a lease lasts.
        servers: how many of them a lease asks, one after the other.

    Raises:
        LockError, LockUnavailable: see `LockRedisHook.get_conn`.
    """
    client: Redis = _hook(conn_id, lease, servers).get_conn()
    return client


async def redis_client_for_threads(conn_id: str, *, lease: timedelta, servers: int = 1) -> Redis:
    """Return a client as `redis_client`, where connections must be resolved in an event loop: a triggerer."""
    conn = await LockRedisHook.aget_connection(conn_id)
    hook = _hook(conn_id, lease, servers)
    client: Redis = await asyncio.to_thread(hook.client_of, conn)  # One to a cluster connects at once.
    return client


def _hook(conn_id: str, lease: timedelta, servers: int) -> LockRedisHook:
    longest = LONGEST_TIMEOUT if servers == 1 else LONGEST_OF_SEVERAL
    return LockRedisHook(conn_id, timeout=min(longest, lease.total_seconds() / TIMEOUT_SHARE))


async def async_redis_client(conn_id: str, *, answer_within: float) -> AsyncRedis:
    """Return an asyncio client for the Airflow connection `conn_id`; see `LockRedisHook`.

    One to a cluster or a Sentinel connects at once, any other at its first command.

    Raises:
        LockError: the connection says something that can't be meant.
        RedisError, RedisClusterException: the cluster or the Sentinels can't be reached.
    """
    import redis.asyncio as redis
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.retry import Retry

    conn = await LockRedisHook.aget_connection(conn_id)
    again = Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))
    arguments = _arguments(conn, answer_within) | {"retry": again}
    where: dict[str, Any] = {"host": str(conn.host), "port": conn.port or PORT}
    if conn.extra_dejson.get("cluster"):
        nodes = [
            ClusterNode(node.host, node.port)
            for node in LockRedisHook(conn_id, timeout=answer_within).nodes_of(conn)
        ]
        cluster: Any = redis.RedisCluster(**where, startup_nodes=nodes, **_without_db(arguments))
        return cast("AsyncRedis", await cluster.initialize())  # a subscription needs to know its nodes
    if service := conn.extra_dejson.get("sentinel_service"):
        # Asked anew for each client: after a failover the old one's connections break.
        sentinel: Any = redis.Sentinel(  # type: ignore[no-untyped-call]
            _sentinels(conn), sentinel_kwargs=_sentinel_arguments(arguments, Retry(NoBackoff(), 0))
        )
        try:
            where["host"], where["port"] = await sentinel.discover_master(service)
        finally:
            for each in sentinel.sentinels:
                await each.aclose()
    return redis.Redis(**where, **arguments)


def _arguments(conn: Connection, timeout: float) -> dict[str, Any]:
    extra = conn.extra_dejson
    return {
        "username": conn.login or None,
        "password": conn.password or None,
        "db": _database(conn),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        **{name: _flag(value) for name, value in extra.items() if name == "ssl" or name.startswith("ssl_")},
    }


def _database(conn: Connection) -> int:
    path, extra = conn.schema or None, conn.extra_dejson.get("db")
    if path is not None and extra is not None and str(path) != str(extra):
        raise LockError(
            f"connection {conn.conn_id!r} names database {path!r} in its path and {extra!r} in its "
            "extra; expected one of them, or both the same"
        )
    named = path if extra is None else extra
    value = "0" if named is None else str(named)
    if not value.isdecimal():
        raise LockError(f"connection {conn.conn_id!r} names database {value!r}; expected a number, as 0")
    if conn.extra_dejson.get("cluster") and value != "0":
        raise LockError(f"connection {conn.conn_id!r} names database {value!r}; a Redis Cluster has only 0")
    return int(value)


def _sentinels(conn: Connection) -> list[tuple[str, int]]:
    listed = conn.extra_dejson.get("sentinels") or f"{conn.host}:{conn.port or SENTINEL_PORT}"
    nodes = []
    for entry in str(listed).split(","):
        host, _, port = entry.strip().rpartition(":") if ":" in entry else (entry.strip(), "", "")
        if not host or not (port or str(SENTINEL_PORT)).isdecimal():
            raise LockError(
                f"connection {conn.conn_id!r}: sentinels={listed!r}; expected host:port,host:port"
            )
        nodes.append((host, int(port or SENTINEL_PORT)))
    return nodes


def _sentinel_arguments(arguments: dict[str, Any], retry: Retry | AsyncRetry) -> dict[str, Any]:
    """Return how to talk to the Sentinels themselves: same time-outs and TLS, no account, no database.

    Each is asked once, then the next: by default redis-py asks one ten times more, time-outs included.
    """
    return {k: v for k, v in arguments.items() if k.startswith(("socket_", "ssl"))} | {"retry": retry}


def _without_db(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name != "db"}


def _flag(value: Any) -> Any:
    """Return the boolean that a URI's query spells, as `?ssl=true`; anything else as it is."""
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value
