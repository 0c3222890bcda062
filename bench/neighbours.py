"""How long other clients of the database wait while a job deletes half of policy_audit.

Three processes work without a pause. One inserts rows with random keys into policy_audit, as the trigger of a
deleted policy does. Two record logins in `user`. Each commit is timed.

Any process that computes on the same machine makes the clients wait for a core. To see this part of the
wait, we also measure beside a process that computes half of the time, as the polite pace does, and never
uses the database.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench import walking
from bench.harness import Result, interleaved, ratio
from bench.purge import one_delete
from bench.tables import older_than, policy_audit, sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from bench.tables import Tables
    from dev.servers import MariaDB

ROUNDS = 3
IDLE_SECONDS = 10.0
COMPUTES = 0.025  # seconds, of twice as many

# Between the existing keys; in a small table the keys begin again.
INSERT = (
    "REPLACE INTO policy_audit (id, name, username, policyShadow, deletedAt)"
    " VALUES (1 + 2 * (%(n)s * 7919 %% {rows}), 'new', 'user-1', REPEAT('x', 800), NOW())"
)
LOGIN = "UPDATE user SET loginedAt = NOW() - INTERVAL %(n)s SECOND WHERE id = {first} + %(n)s %% 50"
NEIGHBOURS = (
    "INSERT INTO user (name, nickname, password, email)"
    " SELECT CONCAT('n-', seq), '', '', '' FROM seq_1_to_100"
)


@dataclass(frozen=True)
class Run:
    """The waits of the clients.

    Attributes:
        insert: the longest wait of the client that inserts, in seconds.
        p99: of both clients, in seconds.
    """

    insert: float
    p99: float


def measure(folder: Path) -> list[Result]:
    """Return the waits beside each job, compared with an idle server and with one DELETE."""
    rows, days = sizes()[-1], older_than(0.5)
    tables = policy_audit(folder.parent / "tables", rows)
    jobs: dict[str, Callable[[MariaDB], object]] = {
        "idle": lambda _: time.sleep(IDLE_SECONDS),
        "a core half of the time": lambda _: _compute(IDLE_SECONDS),
        "one DELETE": partial(one_delete, days=days),
        "fast": partial(walking.purge, days=days),
        "polite": partial(walking.purge, days=days, pace="polite"),
    }
    statements = [INSERT.format(rows=rows), LOGIN.format(first=1), LOGIN.format(first=51)]
    runs = interleaved({name: partial(_run, tables, job, statements) for name, job in jobs.items()}, ROUNDS)
    # While the client that inserts waits, the single DELETE has its share of the machine.
    alone = interleaved(
        {name: partial(_seconds, tables, jobs[name]) for name in ("one DELETE", "polite")}, ROUNDS
    )
    p99 = {name: [run.p99 for run in found] for name, found in runs.items()}
    insert = {name: [run.insert for run in found] for name, found in runs.items()}

    def ms(figures: list[float]) -> str:
        return f"{statistics.median(figures) * 1000:.1f} ms"

    return [
        Result(
            "polite: p99 of other clients / idle",
            ratio(p99["polite"], p99["idle"]),
            at_most=4,
            detail=f"{ms(p99['polite'])} against {ms(p99['idle'])}; "
            f"fast {ms(p99['fast'])}, one DELETE {ms(p99['one DELETE'])}",
        ),
        Result(
            "polite: p99 of other clients / beside a process that computes half of the time",
            ratio(p99["polite"], p99["a core half of the time"]),
            at_most=1.25,
            detail=f"{ms(p99['polite'])} against {ms(p99['a core half of the time'])}",
        ),
        Result("polite: rows/s / one DELETE", ratio(alone["one DELETE"], alone["polite"]), at_least=0.3),
        Result(
            "fast: longest wait of an insert / one DELETE",
            ratio(insert["fast"], insert["one DELETE"]),
            at_most=1 / 20,
            detail=f"{ms(insert['fast'])} against {ms(insert['one DELETE'])}; idle {ms(insert['idle'])}",
        ),
    ]


def _compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        while time.monotonic() < now + COMPUTES:
            pass
        time.sleep(COMPUTES)


def _run(tables: Tables, job: Callable[[MariaDB], object], statements: list[str]) -> Run:
    with tables.cold() as server:
        with closing(server.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(NEIGHBOURS)
        with clients(server, *statements) as waits:
            job(server)
    everyone = [wait for found in waits for wait in found]
    return Run(max(waits[0]), statistics.quantiles(everyone, n=100)[-1])


def _seconds(tables: Tables, job: Callable[[MariaDB], object]) -> float:
    with tables.cold() as server:
        began = time.monotonic()
        job(server)
        return time.monotonic() - began


@contextmanager
def clients(server: MariaDB, *statements: str) -> Iterator[list[list[float]]]:
    """Run one client for each statement; at the end, the value has the waits of each, in seconds.

    Args:
        server: where.
        statements: with a placeholder n, which counts up.
    """
    waits: list[list[float]] = []
    processes = []
    for statement in statements:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(theirs, server, statement), daemon=True
        )
        process.start()
        processes.append((process, ours))
    for _, pipe in processes:
        pipe.recv()  # it has begun
    try:
        yield waits
    finally:
        for process, pipe in processes:
            pipe.send("stop")
            waits.append(pipe.recv())
            process.join()


def _work(pipe: Connection, server: MariaDB, statement: str) -> None:
    """Run as a client's process."""
    waits: list[float] = []
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        while not pipe.poll():
            began = time.monotonic()
            cursor.execute(statement, {"n": len(waits)})
            waits.append(time.monotonic() - began)
            if len(waits) == 1:
                pipe.send("begun")
    pipe.send(waits)
