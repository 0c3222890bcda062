"""Rows in a state: our claims, and the two loops that people write by hand.

Each program takes rows from `pending` to `normal` with a function that does nothing; see `orders`. The loops
work row by row, on fewer rows: their time for a row does not depend on that.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import time
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.harness import Result, interleaved, ratio
from bench.neighbours import clients
from bench.orders import BATCH, CONNECTION, fill, one_transaction, process, rows_locked, three_transactions
from bench.tables import SETTINGS, sizes
from dev.servers import MariaDB
from iam_watcher.jobs.rows_in_state_trigger import Poll, Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ROUNDS = 5
FEW, MANY = 2_000, 40_000  # rows for the loops, and for our job
SLOW_SECONDS = 8  # that the function waits for all rows together
PENDING = (10_000, 1_000_000)  # rows of the tables for the growth
WATCHERS, POLLS = 50, 100
BESIDE = 10.0  # seconds that processes work beside a client that inserts


def measure(folder: Path) -> list[Result]:
    """Return speeds, growth, and what other clients notice."""
    with MariaDB(folder / "mariadb", SETTINGS) as server:
        server.create_schema()
        os.environ[f"AIRFLOW_CONN_{CONNECTION.upper()}"] = server.airflow_admin_uri
        return [
            *_against_loops(server),
            *_several_processes(server, 5, {4: 2.5}),
            *_several_processes(server, 10, {2: 1.6}),
            *_growth_and_locks(server),
            *_beside_inserts(server),
            *_idle_poll(server),
        ]


def _against_loops(server: MariaDB) -> list[Result]:
    rates = interleaved(
        {
            "ours": partial(rate, server, scaled(MANY), process),
            "loop": partial(rate, server, scaled(FEW), three_transactions),
            "skip locked": partial(rate, server, scaled(FEW), one_transaction),
        },
        ROUNDS,
    )
    detail = ", ".join(f"{name} {statistics.median(found):,.0f} rows/s" for name, found in rates.items())
    return [
        Result(
            "rows: ours / select, update, update",
            ratio(rates["ours"], rates["loop"]),
            at_least=5,
            detail=detail,
        ),
        Result(
            "rows: ours / one row with SKIP LOCKED", ratio(rates["ours"], rates["skip locked"]), at_least=5
        ),
    ]


def _several_processes(server: MariaDB, milliseconds: int, numbers: Mapping[int, float]) -> list[Result]:
    """Return how much faster several processes are than one, with a function that waits so long for a row.

    Args:
        server: with the table.
        milliseconds: that the function waits.
        numbers: of processes, each with its target.
    """
    work = partial(_processes, seconds=milliseconds / 1000)
    rows = scaled(SLOW_SECONDS * 1000 // milliseconds)
    rates = interleaved(
        {str(number): partial(rate, server, rows, partial(work, number=number)) for number in (1, *numbers)},
        ROUNDS,
    )
    detail = ", ".join(f"{name}: {statistics.median(found):,.0f} rows/s" for name, found in rates.items())
    return [
        Result(
            f"rows: {number} processes / 1, {milliseconds} ms a row",
            ratio(rates[str(number)], rates["1"]),
            at_least=target,
            detail=detail,
        )
        for number, target in numbers.items()
    ]


def _growth_and_locks(server: MariaDB) -> list[Result]:
    pending = [scaled(rows) for rows in PENDING]
    seconds: list[list[float]] = [[], []]
    locked = 0
    for rows, found in zip(pending, seconds, strict=True):
        fill(server, rows)
        for _ in range(ROUNDS):
            began = time.monotonic()
            process(server, max_rows=pending[0] // (ROUNDS + 1))
            found.append(time.monotonic() - began)
        locked = rows_locked(server)
    small, large = seconds
    return [
        Result(
            f"rows: time per row, {PENDING[1]:,} / {PENDING[0]:,} pending", ratio(large, small), at_most=1.3
        ),
        Result(f"rows: rows locked by a claim of {BATCH}", locked, at_most=BATCH + 1),
    ]


def _beside_inserts(server: MariaDB) -> list[Result]:
    fill(server, scaled(MANY))
    before = _status(server, "Innodb_deadlocks")
    with clients(server, "INSERT INTO orders (payload) VALUES (CONCAT('new ', %(n)s))") as found:
        _processes(server, number=4, seconds=0.0, time_budget=timedelta(seconds=BESIDE))
    (waits,) = found
    longest = sorted(waits)[int(len(waits) * 0.999)]
    detail = f"{len(waits)} inserts, median {statistics.median(waits) * 1000:.1f} ms"
    return [
        Result("rows: ms of an insert beside 4 processes, p99.9", longest * 1000, at_most=50, detail=detail),
        Result("rows: deadlocks", _status(server, "Innodb_deadlocks") - before, at_most=0),
    ]


def _idle_poll(server: MariaDB) -> list[Result]:
    fill(server, 1)
    process(server)
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        for number in range(WATCHERS):
            cursor.execute(f"CREATE OR REPLACE TABLE orders_{number} LIKE orders")
    watched = [
        Watched(f"orders_{number}", "status", "pending", "work", "claimed_at", "retry_at", 60.0)
        for number in range(WATCHERS)
    ]
    poll = Poll(CONNECTION)

    async def ask() -> tuple[float, float]:
        await poll.ask(watched)
        asked, began = _status(server, "Com_select"), time.monotonic()
        for _ in range(POLLS):
            await poll.ask(watched)
        seconds = time.monotonic() - began
        return seconds / POLLS, (_status(server, "Com_select") - asked) / POLLS

    try:
        seconds, statements = asyncio.run(ask())
    finally:
        poll.close()
    return [
        Result(f"rows: ms of an idle poll for {WATCHERS} watchers", seconds * 1000, at_most=20),
        Result(f"rows: statements of an idle poll for {WATCHERS} watchers", statements, at_most=1),
    ]


def scaled(rows: int) -> int:
    """Return a number of rows, not larger than the largest table that is asked for."""
    return min(rows, sizes()[-1])


def _processes(server: MariaDB, *, number: int, seconds: float, time_budget: timedelta | None = None) -> None:
    fork = multiprocessing.get_context("fork")
    work = partial(process, server, partial(_wait, seconds), time_budget=time_budget)
    workers = [fork.Process(target=work) for _ in range(number)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _wait(seconds: float, _: Any) -> None:
    time.sleep(seconds)


def rate(server: MariaDB, rows: int, program: Callable[[MariaDB], object]) -> float:
    """Return the rows of a second."""
    fill(server, rows)
    began = time.monotonic()
    program(server)
    seconds = time.monotonic() - began
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM orders WHERE status <> 'normal'")
        (left,) = cursor.fetchone()
    if left:
        raise RuntimeError(f"{left} of {rows} rows were not processed")
    return rows / seconds


def _status(server: MariaDB, name: str) -> int:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE %s", [name])
        return int(cursor.fetchone()[1])
