"""A proxy before a Redis server that delays, drops and repeats what clients ask, packet by packet."""

from __future__ import annotations

import socketserver
import threading
from collections import deque
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, BinaryIO, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dev.servers import Redis

SCRIPTS = (b"EVAL", b"EVALSHA")
TEXTS = (b"$", b"=", b"!")
LISTS = {b"*": 1, b"~": 1, b">": 1, b"%": 2}  # how many values for each that is counted


class Fate(Enum):
    """What becomes of a script that a client asks for."""

    DONE = "executed and answered"
    LOST = "executed, but the connection breaks before the answer"
    LATE = "the connection breaks; it is executed when the test says so"
    TWICE = "executed and answered, and executed again when the test says so"


class FaultyProxy(socketserver.ThreadingTCPServer):
    """Stands before one server. Each script has the next of `fates`, or DONE; all else is passed on.

    Args:
        server: the one behind.
    """

    daemon_threads = True

    def __init__(self, server: Redis) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.server = server
        self.port: int = self.server_address[1]
        self.fates: deque[Fate] = deque()
        self.late: list[Sequence[bytes]] = []
        self.unreachable = False
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def deliver(self, number: int = 0) -> Any:
        """Execute one of the commands that are late."""
        with self.server.client() as client:
            return client.execute_command(*self.late.pop(number))


class _Connection(socketserver.StreamRequestHandler):
    server: FaultyProxy

    def handle(self) -> None:
        import socket

        proxy = self.server
        address = proxy.server.host, proxy.server.port
        with (
            suppress(ConnectionError, EOFError),
            socket.create_connection(address) as upstream,
            upstream.makefile("rb") as answers,
        ):
            while True:
                raw, parts = read(self.rfile)
                script = parts[0].upper() in SCRIPTS
                fate = proxy.fates.popleft() if script and proxy.fates else Fate.DONE
                if proxy.unreachable or fate is Fate.LATE:
                    if fate is Fate.LATE:
                        proxy.late.append(parts)
                    return
                upstream.sendall(raw)
                answer, _ = read(answers)
                if fate is Fate.LOST:
                    return
                if fate is Fate.TWICE:
                    proxy.late.append(parts)
                self.wfile.write(answer)


def read(stream: BinaryIO) -> tuple[bytes, Any]:
    """Return the next value of a Redis connection, as it came and what it says."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    kind, rest = line[:1], line[1:-2]
    if kind in TEXTS and int(rest) >= 0:
        body = stream.read(int(rest) + 2)
        return line + body, body[:-2]
    if kind in LISTS and int(rest) >= 0:
        items = [read(stream) for _ in range(int(rest) * LISTS[kind])]
        return line + b"".join(raw for raw, _ in items), [value for _, value in items]
    return line, rest
