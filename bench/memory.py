"""The memory of a process that runs our purge of a large table."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bench import walking
from bench.tables import older_than

if TYPE_CHECKING:
    from bench.tables import Tables
    from dev.servers import MariaDB


def growth(tables: Tables) -> float:
    """Return the growth, in MB, of a process that runs our job."""
    ours, theirs = multiprocessing.Pipe()
    with tables.cold() as server:
        process = multiprocessing.get_context("fork").Process(target=_grow, args=(theirs, server))
        process.start()
        process.join()
    return float(ours.recv())


def _grow(pipe: multiprocessing.connection.Connection, server: MariaDB) -> None:
    """Run as that process. A first run imports and caches, independent of the number of rows."""
    walking.purge(server, days=older_than(0.0))
    before = _status("VmRSS")
    walking.purge(server, days=older_than(0.5))
    pipe.send(_status("VmHWM") - before)
    os._exit(0)


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1000
    raise AssertionError(name)
