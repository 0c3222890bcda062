"""Redis clients for the lock, from Airflow connections, with time-outs that a lease can afford."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseHook
from redis.backoff import NoBackoff  # noqa: TID253  only run-time code imports this
from redis.exceptions import ConnectionError, RedisClusterException, RedisError  # noqa: A004, TID253  the same

from iam_watcher.arguments import connection_id
from iam_watcher.errors import LockError
from iam_watcher.lock.answers import unavailable
from iam_watcher.lock.connection import RedisServer, read_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.retry import Retry

TIMEOUT_SHARE = 10  # a server that hangs costs at most this part of the lease, so a renewal has several tries
# Seconds. A renewal, an answer that is lost and the next renewal (2 + 1.5 + 2 s) must come before the last
# heartbeat is over (renewal.HEARTBEAT_TTL, 6 s), or a release or a retry would pass a process that lives.
LONGEST_TIMEOUT = 1.5
# The same for each of several servers, which get their requests one after the other: two may hang.
LONGEST_OF_SEVERAL = 1.0
# Seconds. For the page and the progress records: somebody waits for Redis, and no lock depends on the answer.
BRIEF_TIMEOUT = 0.5


def reconnect_once() -> Retry:
    """Return redis-py's rule to try again once if the server closed the connection meanwhile.

    Not after a time-out: the caller knows when to ask again.
    """
    from redis.retry import Retry

    return Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))


def timeout_for(ttl: float, *, servers: int = 1) -> float:
    """Return the time-out, in seconds, that a lease can afford.

    Args:
        ttl: seconds that a lease lasts.
        servers: how many servers the lock has; they get their requests one after the other.
    """
    longest = LONGEST_TIMEOUT if servers == 1 else LONGEST_OF_SEVERAL
    return min(longest, ttl / TIMEOUT_SHARE)


def redis_client(conn_id: str, *, answer_within: float = LONGEST_TIMEOUT) -> Redis:
    """Return a client for an Airflow connection.

    One to a cluster connects at once, any other at its first command.

    Args:
        conn_id: the connection.
        answer_within: seconds that the server has to connect, and to answer each command.

    Raises:
        LockError: the connection has a value that is not valid.
        LockUnavailable: the cluster does not answer.
    """
    server = read_connection(BaseHook.get_connection(_valid(conn_id)))
    return _client(server, answer_within)


def redis_clients(conn_ids: Sequence[str], *, ttl: float) -> list[Redis]:
    """Return the clients of a lock, with the time-out that its lease can afford.

    Args:
        conn_ids: the connections.
        ttl: seconds that a lease lasts.

    Raises:
        LockError: as `redis_client`; or two connections lead to one server, which would count twice.
        LockUnavailable: the same.
    """
    servers = [read_connection(BaseHook.get_connection(_valid(name))) for name in conn_ids]
    places: dict[tuple[frozenset[tuple[str, int]], str], str] = {}
    for server in servers:
        other = places.setdefault((frozenset(server.nodes), server.service), server.conn_id)
        if other != server.conn_id:
            raise LockError(
                f"the connections {other!r} and {server.conn_id!r} lead to the same Redis. A lock on several "
                "servers needs a connection to each of them"
            )
    timeout = timeout_for(ttl, servers=len(servers))
    return [_client(server, timeout) for server in servers]


async def redis_client_for_threads(conn_id: str, *, answer_within: float) -> Redis:
    """Return a client as `redis_client` does, for a triggerer, where only coroutines can read connections."""
    server = read_connection(await BaseHook.aget_connection(_valid(conn_id)))
    return await asyncio.to_thread(_client, server, answer_within)


async def async_redis_client(conn_id: str, *, answer_within: float) -> AsyncRedis:
    """Return an asyncio client for the Airflow connection `conn_id`.

    One to a cluster or a Sentinel connects at once, any other at its first command.

    Raises:
        LockError: the connection has a value that is not valid.
        RedisError, RedisClusterException: the cluster or the Sentinels can't be reached.
    """
    import redis.asyncio as redis
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.retry import Retry

    server = read_connection(await BaseHook.aget_connection(_valid(conn_id)))
    again = Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))
    arguments = _arguments(server, answer_within) | {"retry": again}
    if server.cluster:
        nodes = [ClusterNode(*each) for each in server.nodes]
        cluster: Any = redis.RedisCluster(startup_nodes=nodes, **arguments)
        return cast("AsyncRedis", await cluster.initialize())  # a subscription needs the list of nodes
    host, port = server.nodes[0]
    if server.service:
        # For each client anew: after a failover the connections of the old client break.
        sentinel: Any = redis.Sentinel(  # type: ignore[no-untyped-call]
            server.nodes, sentinel_kwargs=_sentinel_arguments(arguments, Retry(NoBackoff(), 0))
        )
        try:
            host, port = await sentinel.discover_master(server.service)
        finally:
            for each in sentinel.sentinels:
                await each.aclose()
    return redis.Redis(host=host, port=port, **arguments)


def _valid(conn_id: str) -> str:
    return connection_id("redis_conn_id", conn_id, raises=LockError)


def _client(server: RedisServer, answer_within: float) -> Redis:
    import redis
    from redis.cluster import ClusterNode
    from redis.retry import Retry

    arguments = _arguments(server, answer_within) | {"retry": reconnect_once()}
    client: Any
    if server.service:
        sentinel: Any = redis.Sentinel(  # type: ignore[no-untyped-call]
            server.nodes, sentinel_kwargs=_sentinel_arguments(arguments, Retry(NoBackoff(), 0))
        )
        client = sentinel.master_for(server.service, **arguments)
    elif server.cluster:
        nodes = [ClusterNode(*each) for each in server.nodes]  # type: ignore[no-untyped-call]
        try:
            client = redis.RedisCluster(startup_nodes=nodes, **arguments)
        except (RedisError, RedisClusterException) as error:
            raise unavailable("{}:{}".format(*server.nodes[0]), server.conn_id, error) from error
    else:
        ((host, port),) = server.nodes
        client = redis.Redis(host=host, port=port, **arguments)
    return cast("Redis", client)


def _arguments(server: RedisServer, answer_within: float) -> dict[str, Any]:
    timeouts = {"socket_timeout": answer_within, "socket_connect_timeout": answer_within}
    arguments = {**server.account, **server.tls, **timeouts}
    if server.cluster:
        del arguments["db"]  # a cluster's client has no such argument
    return arguments


def _sentinel_arguments(arguments: dict[str, Any], retry: Retry | AsyncRetry) -> dict[str, Any]:
    """Return the arguments for the Sentinels themselves: the same time-outs and TLS, no account, no database.

    Each Sentinel gets one request, then the next one: by default redis-py tries each ten times more.
    """
    return {k: v for k, v in arguments.items() if k.startswith(("socket_", "ssl"))} | {"retry": retry}
