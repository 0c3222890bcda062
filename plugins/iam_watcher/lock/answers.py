"""Error messages for a Redis server that refuses a request or does not answer, each with a cure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from iam_watcher.errors import LockUnavailable

if TYPE_CHECKING:
    from redis import Redis

# The first one that matches the server's answer counts. The error of a script has its code anywhere.
CURES = {
    "WRONGPASS|NOAUTH|AUTH <password> called": "Correct login and password of the Airflow connection",
    "unknown command": "The lock needs this command; remove its rename-command from the server",
    "NOPERM|no permission|can't run this command": "Give the account the rights that docs/lock.md names",
    "OOM": "The server's memory is full; raise its maxmemory",
    "READONLY": "This server is a replica; name its primary, or its Sentinel, in the Airflow connection",
    "NOREPLICAS": "The server has fewer replicas than its min-replicas-to-write; repair its replication",
    "MISCONF": "The server can't save its data; its own log says why",
    "WRONGTYPE": "Another program uses this key, or one of the lock's keys beside it; name another lock key",
    "DB index is out of range": "The server has no such database; correct it in the Airflow connection",
    "MOVED|SELECT is not allowed in cluster mode": "It is a node of a Redis Cluster; set cluster=true",
    "LOADING": "The server has just started; wait until it has loaded its data",
    "max number of clients": "Raise the server's maxclients, or end other clients",
    "WRONG_VERSION_NUMBER|record layer failure": "The server does not speak TLS on this port",
    "CERTIFICATE_VERIFY_FAILED": "Set the extra ssl_ca_certs to the certificate of the server's authority",
}
# Left out of an answer: arguments of a command (a password, if AUTH is unknown) and lines of a script.
ADDED = re.compile(r",? with args beginning with:.*|\.? *script: [0-9a-f]{40}.*", re.DOTALL)
LONGEST = 300  # characters of an answer in the message


def node(client: Redis) -> str:
    """Return the host and port of a server, never its URL, which may contain a password."""
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        return "the Redis Cluster"
    if service := getattr(pool, "service_name", None):
        return f"Sentinel's service {service!r}"
    kwargs = pool.connection_kwargs
    return f"{kwargs.get('host', kwargs.get('path'))}:{kwargs.get('port', '')}".rstrip(":")


def unavailable(server: Redis | str, key: str, error: Exception) -> LockUnavailable:
    """Return the error of the lock with the message of `explain`."""
    return LockUnavailable(explain(server, key, error))


def undefined(conn_id: str) -> str:
    """Return that Airflow has no connection of this id, and what to do."""
    return (
        f"The connection {conn_id!r} is not defined. Create it in Airflow (type Redis), or set "
        f"AIRFLOW_CONN_{conn_id.upper()}"
    )


def explain(server: Redis | str, key: str, error: BaseException) -> str:
    """Return in one sentence what a server answered, or that it did not answer, and what to do.

    Args:
        server: its client, or its name.
        key: the lock's key, or the name of the key that was asked for.
        error: what redis-py raised; of any other error, the message is its type and text.
    """
    from redis import RedisError
    from redis.exceptions import (
        AuthenticationError,
        BusyLoadingError,
        RedisClusterException,
        ResponseError,
    )

    if isinstance(error, RedisClusterException) and isinstance(error.__cause__, RedisError):
        error = error.__cause__  # The client of a cluster wraps it.
    if not isinstance(error, RedisError | RedisClusterException):
        return f"{type(error).__name__}: {error}"
    name = server if isinstance(server, str) else node(server)
    code = getattr(error, "status_code", None)
    answered = code is not None or isinstance(error, ResponseError | AuthenticationError | BusyLoadingError)
    text = ADDED.sub("", str(error))[:LONGEST].rstrip(".")
    text = f"{code} {text}" if code else f"{type(error).__name__}: {text}"
    cure = next((cure for sign, cure in CURES.items() if re.search(sign, text)), "")
    said = "refused" if answered else "did not answer for"
    return f"{name} {said} {key!r}: {text}" + (f". {cure}" if cure else "")
