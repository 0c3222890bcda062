"""The Redis and the MariaDB that all clusters of a folder share.

A process of its own runs both servers, so that a cluster can end and leave them to the others. It begins with
the first cluster and ends with the last one: each cluster keeps a connection to its socket open.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dev.airflow import ROOT
from dev.folder import fresh_folder
from dev.processes import ProcessError, interruptible
from dev.servers import SAMPLE_FILE, MariaDB, Redis

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_SECONDS = 120
_STOP_SECONDS = 60
_FIRST_CLIENT_SECONDS = 30
# Database 0 has the locks; each cluster has its queue in one of the others.
_QUEUES = range(1, 16)
_SOCKET = "servers.sock"
PERSISTENT = ("--appendonly", "yes", "--maxmemory-policy", "noeviction")


@dataclass(frozen=True)
class Shared:
    """The addresses and passwords of the servers, as one cluster gets them.

    Args:
        redis_port: Of Redis.
        redis_password: Of Redis.
        database_port: Of MariaDB.
        database_password: Of the watchers' account.
        admin_password: Of MariaDB's account `admin`.
        queue: The number of the Redis database that has this cluster's queue.
    """

    redis_port: int
    redis_password: str
    database_port: int
    database_password: str
    admin_password: str
    queue: int

    def redis(self, folder: Path) -> Redis:
        """Return the Redis, as an object for its clients."""
        server = Redis(folder)
        server.port, server.password = self.redis_port, self.redis_password
        return server

    def mariadb(self, folder: Path) -> MariaDB:
        """Return the MariaDB, as an object for its clients."""
        server = MariaDB(folder)
        server.port, server.password = self.database_port, self.database_password
        server.admin_password = self.admin_password
        return server


class Connection:
    """A cluster's connection to the process of the shared servers."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        with connection.makefile("rb") as lines:
            self.servers = Shared(**json.loads(lines.readline()))

    @property
    def alive(self) -> bool:
        """Whether the process of the servers still runs."""
        # It says nothing more, so only its end can be read.
        return not select.select([self._socket], [], [], 0)[0]

    def close(self) -> None:
        """Leave the servers; if this was the last cluster, wait until they are gone."""
        with self._socket, suppress(OSError):
            self._socket.settimeout(_STOP_SECONDS)
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.recv(1)


@contextmanager
def shared_servers(folder: Path) -> Iterator[Connection]:
    """Connect to the servers of a folder, and start them if this is the first cluster.

    Raises:
        ProcessError: They did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    connection = _connect(folder)
    if connection is None:
        with (folder / "servers.log").open("ab") as log:
            # In a session of its own, and not ended with us: other clusters may use it after our end.
            process = subprocess.Popen(
                [sys.executable, "-m", "dev.cluster.shared", str(folder)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while (connection := _connect(folder)) is None:
            # It ends at once if another cluster's is just beginning, and then that one answers.
            if time.monotonic() > deadline:
                process.terminate()
                process.wait()
                raise ProcessError(f"the shared servers did not start; see {folder / 'servers.log'}")
            time.sleep(0.2)
    try:
        yield connection
    finally:
        connection.close()


def _connect(folder: Path) -> Connection | None:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.settimeout(_START_SECONDS)
        with _short(folder) as short:
            client.connect(f"{short}/{_SOCKET}")
        return Connection(client)
    except (OSError, ValueError):
        client.close()
        return None


def serve(folder: Path) -> None:
    """Run the servers until the last cluster has left."""
    # The last cluster waits for the end of its connection, so that one ends after the servers.
    with ExitStack() as last, ExitStack() as stack:
        stack.enter_context(fresh_folder(folder / "servers"))
        mariadb = stack.enter_context(MariaDB(folder / "servers" / "mariadb"))
        redis = stack.enter_context(Redis(folder / "servers" / "redis", PERSISTENT))
        mariadb.create_schema()
        mariadb.run_script(SAMPLE_FILE)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        path = folder / _SOCKET
        path.unlink(missing_ok=True)
        with _short(folder) as short:
            listener.bind(f"{short}/{_SOCKET}")
        path.chmod(0o600)
        listener.listen()
        last.enter_context(_serve(listener, redis, mariadb))
        # A cluster that comes later finds no socket, and starts servers of its own when these are gone.
        path.unlink()


def _serve(listener: socket.socket, redis: Redis, mariadb: MariaDB) -> socket.socket:
    """Send each cluster the addresses; return the connection of the last one when it leaves.

    Raises:
        ProcessError: A server ended, or no cluster came.
    """
    clients: dict[socket.socket, int] = {}
    deadline = time.monotonic() + _FIRST_CLIENT_SECONDS
    while clients or time.monotonic() < deadline:
        for process in (mariadb.process, redis.process):
            if not process.running:
                raise process.failure(f"ended by itself with exit code {process.returncode}")
        for ready in select.select([listener, *clients], [], [], 1)[0]:
            if ready is not listener:
                # A cluster sends nothing, so this is the end of its connection.
                del clients[ready]
                if not clients:
                    return ready
                ready.close()
                continue
            client, _ = listener.accept()
            clients[client] = min(set(_QUEUES) - set(clients.values()))
            servers = Shared(
                redis_port=redis.port,
                redis_password=redis.password,
                database_port=mariadb.port,
                database_password=mariadb.password,
                admin_password=mariadb.admin_password,
                queue=clients[client],
            )
            client.sendall(json.dumps(asdict(servers)).encode() + b"\n")
    raise ProcessError(f"no cluster came within {_FIRST_CLIENT_SECONDS} s")


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Return a short path of a folder, as a socket's path may have 107 bytes only."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def main() -> int:
    """Run the servers of a folder; the argument is the folder."""
    try:
        with interruptible():
            serve(Path(sys.argv[1]))
    except KeyboardInterrupt:
        return 0
    except ProcessError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
