"""A load balancer for TCP connections, before the API servers of a cluster.

    python -m dev.cluster.balancer 28100 28101 28102

accepts connections on port 28100 and passes each on to one of the other ports, in turn. If a server refuses,
the next one gets the connection.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from itertools import count

HOST = "127.0.0.1"
_CHUNK = 65536


async def serve(port: int, backends: list[int]) -> None:
    """Pass connections on for ever."""
    turns = count()

    async def passes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(turns)
        for number in range(len(backends)):
            with suppress(OSError):
                behind = await asyncio.open_connection(HOST, backends[(first + number) % len(backends)])
                await asyncio.gather(_copy(reader, behind[1]), _copy(behind[0], writer))
                return
        writer.transport.abort()

    server = await asyncio.start_server(passes, HOST, port)
    async with server:
        await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side ends, then end the other."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        writer.transport.abort()
    finally:
        with suppress(OSError):
            writer.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
