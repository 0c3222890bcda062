"""Reads the Airflow connection to a Redis, and refuses every value that is not valid.

A value that is misread could send a password without encryption, or make this worker use another database
than the others. So an unknown extra or value is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iam_watcher.arguments import unless_secret
from iam_watcher.errors import LockError

if TYPE_CHECKING:
    from airflow.sdk import Connection

PORT = 6379
SENTINEL_PORT = 26379

TLS_BY_TYPE = {"redis": False, "rediss": True}
BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on", "t", "y"), True),
    **dict.fromkeys(("false", "0", "no", "off", "f", "n"), False),
}
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
VERIFY = ("required", "optional", "none")
EXTRAS = (
    "db",
    "cluster",
    "startup_nodes",
    "sentinel_service",
    "sentinels",
    "ssl",
    "ssl_cert_reqs",
    "ssl_check_hostname",
    *TLS_FILES,
)

Node = tuple[str, int]


@dataclass(frozen=True)
class RedisServer:
    """The address of a Redis, and the arguments of its clients.

    Args:
        conn_id: the Airflow connection.
        nodes: its host and port; for a cluster, some of its nodes; with a `service`, the Sentinels.
        cluster: whether it is a Redis Cluster.
        service: the name by which Sentinels know it, or "".
        account: arguments of every redis-py client for this server: login, password and database.
        tls: arguments of every redis-py client for TLS; empty without TLS.
    """

    conn_id: str
    nodes: tuple[Node, ...]
    cluster: bool
    service: str
    account: dict[str, Any]
    tls: dict[str, Any]


def read_connection(conn: Connection) -> RedisServer:
    """Return the Redis that an Airflow connection names.

    Raises:
        LockError: a value is not valid, contradicts another, or is missing.
    """
    return _Reader(conn).server()


class _Reader:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        # Airflow's form stores empty fields, too.
        self._extras = {name: value for name, value in conn.extra_dejson.items() if value not in (None, "")}

    def server(self) -> RedisServer:
        conn = self._conn
        if unknown := sorted(set(self._extras) - set(EXTRAS)):
            raise self._error(f"has the extra {unknown[0]!r}", f"only {', '.join(EXTRAS)}")
        cluster, service = self._flag("cluster"), str(self._extras.get("sentinel_service", ""))
        if cluster and service:
            raise self._error("has the extras cluster and sentinel_service", "one of them")
        for name, needed, given in (
            ("startup_nodes", "cluster=true", cluster),
            ("sentinels", "sentinel_service", service),
        ):
            if name in self._extras and not given:
                raise self._error(f"has the extra {name}", f"{needed} with it")
        sentinels = self._nodes("sentinels", SENTINEL_PORT)
        nodes = sentinels or self._own(SENTINEL_PORT if service else PORT) + self._nodes(
            "startup_nodes", PORT
        )
        if not nodes:
            raise self._error("names no host", "a host")
        return RedisServer(
            conn_id=conn.conn_id,
            nodes=nodes,
            cluster=cluster,
            service=service,
            account={
                "username": conn.login or None,
                "password": conn.password or None,
                "db": self._database(cluster=cluster),
            },
            tls=self._tls(),
        )

    def _own(self, port: int) -> tuple[Node, ...]:
        host = self._conn.host
        if not host:
            return ()
        # The error does not show the host: the part before an @ can be a password.
        if set(host) & set("/@ "):
            raise self._error(
                "has a host with '/', '@' or a space in it",
                "only a name or an address; the type of the connection asks for TLS, as in rediss://host",
            )
        return ((host, self._conn.port or port),)

    def _nodes(self, name: str, port: int) -> tuple[Node, ...]:
        listed = self._extras.get(name)
        if listed is None:
            return ()
        nodes = []
        for entry in str(listed).split(","):
            host, _, own = entry.strip().rpartition(":") if ":" in entry else (entry.strip(), "", "")
            if not host or "@" in host or not (own or "1").isdecimal():
                raise self._error(f"has {name}={unless_secret(listed)}", "host:port,host:port")
            nodes.append((host, int(own or port)))
        return tuple(nodes)

    def _database(self, *, cluster: bool) -> int:
        path, extra = self._conn.schema or None, self._extras.get("db")
        if path is not None and extra is not None and str(path) != str(extra):
            raise self._error(
                "names one database in its path, and another one in its extra `db`",
                "one of them, or both the same",
            )
        named = path if extra is None else extra
        value = "0" if named is None else str(named)
        if not value.isdecimal():
            raise self._error(f"has as its database {unless_secret(value)}", "a number, as 0")
        if cluster and int(value):
            raise self._error(f"names database {value!r}", "0: a Redis Cluster has only 0")
        return int(value)

    def _tls(self) -> dict[str, Any]:
        if self._conn.conn_type not in TLS_BY_TYPE:
            raise self._error(f"has the type {self._conn.conn_type!r}", "redis, or rediss for TLS")
        wanted = TLS_BY_TYPE[self._conn.conn_type]
        if wanted and not self._flag("ssl", default=True):
            raise self._error("has the type rediss and the extra ssl=false", "TLS or no TLS")
        if not (wanted or self._flag("ssl")):
            if files := [name for name in TLS_FILES if name in self._extras]:
                raise self._error(f"has the extra {files[0]} but no TLS", "ssl=true with it")
            return {}
        arguments: dict[str, Any] = {"ssl": True}
        for name in TLS_FILES:
            if name in self._extras:
                arguments[name] = path = str(self._extras[name])
                if not Path(path).is_file():
                    raise self._error(f"has {name}={path!r}", "a file that is on this machine")
        if "ssl_check_hostname" in self._extras:
            arguments["ssl_check_hostname"] = self._flag("ssl_check_hostname")
        verify = str(self._extras.get("ssl_cert_reqs", VERIFY[0])).lower()
        if verify not in VERIFY:
            raise self._error(f"has ssl_cert_reqs={verify!r}", f"one of {', '.join(VERIFY)}")
        return arguments | {"ssl_cert_reqs": verify}

    def _flag(self, name: str, *, default: bool = False) -> bool:
        given = self._extras.get(name, default)
        value = BOOLEANS.get(str(given).strip().lower())
        if value is None:
            raise self._error(f"has {name}={given!r}", "true or false")
        return value

    def _error(self, wrong: str, expected: str) -> LockError:
        return LockError(f"the Airflow connection {self._conn.conn_id!r} {wrong}; expected {expected}")
