"""The connections of one worker to one server, which a fault can cut: a TCP proxy between the two."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from enum import StrEnum
from typing import Self

HOST = "127.0.0.1"
LATE = 0.3  # seconds
_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close throws away what is not sent, and resets


class State(StrEnum):
    """What becomes of the connections."""

    WHOLE = "passed on"
    REFUSED = "ended, and new ones refused"
    RESET = "reset, new ones as well"
    SILENT = "silent: nothing arrives until the end of the fault"
    HALF_OPEN = "ended on the server's side only"
    SLOW = f"{LATE:g} s late in each direction"


class Link:
    """A context manager; within it, connections to `port` are passed on to the server.

    Args:
        server: The port behind.

    Attributes:
        port: For the clients.
    """

    def __init__(self, server: int) -> None:
        self.port = 0
        self._behind = server
        self._state = State.WHOLE
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._passes = asyncio.Event()
        self._tells = asyncio.Event()  # that the server has ended a connection

    def __enter__(self) -> Self:
        self._thread.start()
        self.set(State.WHOLE)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, state: State) -> None:
        """Set what becomes of the connections from now on."""
        asyncio.run_coroutine_threadsafe(self._set(state), self._loop).result()

    async def _set(self, state: State) -> None:
        self._state = state
        if self._server is not None and state is State.REFUSED:
            self._server.close()
            self._server = None
        elif self._server is None and state is not State.REFUSED:
            self._server = await asyncio.start_server(self._pass_on, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]
        for event, cleared in ((self._passes, State.SILENT), (self._tells, State.HALF_OPEN)):
            event.clear() if state is cleared else event.set()
        for client, server in self._pairs:
            if state in {State.REFUSED, State.RESET}:
                _reset(client)
            if state in {State.REFUSED, State.RESET, State.HALF_OPEN}:
                _reset(server)

    async def _end(self) -> None:
        await self._set(State.REFUSED)
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def _pass_on(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._state is State.RESET:
            _reset(client)
            return
        try:
            answers, server = await asyncio.open_connection(HOST, self._behind)
        except OSError:
            _reset(client)
            return
        pair = (client, server)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._copy(reader, server), self._copy(answers, client))
        finally:
            self._pairs.discard(pair)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy until one side ends, then end the other."""
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._state is State.SLOW:
                    await asyncio.sleep(LATE)
                await self._passes.wait()
                if not writer.is_closing():  # what goes to an end that is half open is lost
                    writer.write(data)
                    await writer.drain()
        await self._tells.wait()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    end = writer.get_extra_info("socket")
    with suppress(OSError):  # it has ended
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
