"""What a Redis server says of itself: its clock, its role, its memory, and whether it stores its data."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowNotFoundException

from iam_watcher.errors import LockError
from iam_watcher.lock.answers import explain, node, undefined
from iam_watcher.lock.clients import LONGEST_TIMEOUT, redis_client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis


@dataclass(frozen=True)
class ServerState:
    """The state of one server.

    Attributes:
        name: host and port.
        is_replica: whether it takes no writes.
        appends: whether each write goes to the append-only file.
        failed_saves: what it could not write to its disk the last time, such as "append-only file".
        policy: its maxmemory-policy.
        used: bytes of memory in use.
        limit: its maxmemory in bytes; 0 for none.
    """

    name: str
    is_replica: bool
    appends: bool
    failed_saves: tuple[str, ...]
    policy: str
    used: int
    limit: int


@contextmanager
def examined(conn_id: str, *, answer_within: float = LONGEST_TIMEOUT, asked: str = "TIME") -> Iterator[Redis]:
    """Yield a new client for an Airflow connection, and turn its errors into facts that say what to do.

    Args:
        conn_id: the connection.
        answer_within: as in `redis_client`.
        asked: the command or the key that an error names.

    Raises:
        LockError: the connection is missing or not valid, or a server refuses or does not answer.
    """
    from redis import RedisError
    from redis.exceptions import RedisClusterException

    try:
        client = redis_client(conn_id, answer_within=answer_within)
    except AirflowNotFoundException:
        raise LockError(undefined(conn_id)) from None
    with closing(client):
        try:
            yield client
        except (RedisError, RedisClusterException) as error:
            text = f"{explain(client, asked, error)}. Check the connection {conn_id!r} and the server"
            raise LockError(text) from error


def servers(client: Redis) -> list[Redis]:
    """Return a client for each server: the primaries of a cluster, or the only one."""
    cluster: Any = client
    if not hasattr(cluster, "get_primaries"):
        return [client]
    return [cluster.get_redis_connection(primary) for primary in cluster.get_primaries()]


def read_state(server: Redis) -> ServerState:
    """Return what INFO says.

    Raises:
        RedisError: the server does not answer, or the account may not run INFO.
    """
    info = {**_info(server, "replication"), **_info(server, "persistence"), **_info(server, "memory")}
    saves = {"append-only file": "aof_last_write_status", "snapshot": "rdb_last_bgsave_status"}
    return ServerState(
        name=node(server),
        is_replica=info["role"] == "slave",
        appends=bool(info["aof_enabled"]),
        failed_saves=tuple(name for name, status in saves.items() if info.get(status, "ok") != "ok"),
        policy=str(info["maxmemory_policy"]),
        used=int(info["used_memory"]),
        limit=int(info["maxmemory"]),
    )


def clock_ahead(server: Redis) -> timedelta:
    """Return by how much the server's clock is ahead of this machine's.

    Raises:
        RedisError: the server does not answer.
    """
    before = datetime.now(UTC)
    seconds, microseconds = server.time()
    here = before + (datetime.now(UTC) - before) / 2
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds) - here


def _info(server: Redis, section: str) -> dict[str, Any]:
    return server.info(section)
