"""Other clients of the database, while half of policy_audit is deleted: how long they wait.

Two processes work without a pause of their own but a short sleep: one inserts into policy_audit, as the
trigger of a deleted policy does, one notes logins in `user`. Each of their commits is timed.
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
BETWEEN = 0.005  # seconds that a client sleeps between two commits

INSERT = (
    "INSERT INTO policy_audit (id, name, username, policyShadow, deletedAt)"
    " VALUES (1000000000 + %(n)s, 'new', 'user-1', REPEAT('x', 800), NOW())"
)
LOGIN = "UPDATE user SET loginedAt = NOW() - INTERVAL %(n)s SECOND WHERE id = 1 + %(n)s %% 100"
NEIGHBOURS = (
    "INSERT INTO user (name, nickname, password, email)"
    " SELECT CONCAT('n-', seq), '', '', '' FROM seq_1_to_100"
)


@dataclass(frozen=True)
class Run:
    """What a run took, and what the clients felt.

    Attributes:
        seconds: of the job.
        insert: the longest wait of the client that inserts, in seconds.
        p99: of both clients, in seconds.
    """

    seconds: float
    insert: float
    p99: float


def measure(folder: Path) -> list[Result]:
    """Return waits beside each job, against an idle server and against the single DELETE."""
    rows, days = sizes()[-1], older_than(0.5)
    tables = policy_audit(folder.parent / "tables", rows)
    jobs: dict[str, Callable[[MariaDB], object]] = {
        "idle": lambda _: time.sleep(IDLE_SECONDS),
        "one DELETE": partial(one_delete, days=days),
        "fast": partial(walking.purge, days=days),
        "polite": partial(walking.purge, days=days, pace="polite"),
    }
    runs = interleaved({name: partial(_run, tables, job) for name, job in jobs.items()}, ROUNDS)
    p99 = {name: [run.p99 for run in found] for name, found in runs.items()}
    insert = {name: [run.insert for run in found] for name, found in runs.items()}
    seconds = {name: [run.seconds for run in found] for name, found in runs.items()}

    def ms(figures: list[float]) -> str:
        return f"{statistics.median(figures) * 1000:.1f} ms"

    return [
        Result(
            "polite: p99 of other clients / idle",
            ratio(p99["polite"], p99["idle"]),
            at_most=2,
            detail=f"{ms(p99['polite'])} against {ms(p99['idle'])}; "
            f"fast {ms(p99['fast'])}, one DELETE {ms(p99['one DELETE'])}",
        ),
        Result(
            "polite: rows/s beside clients / one DELETE",
            ratio(seconds["one DELETE"], seconds["polite"]),
            at_least=0.3,
        ),
        Result(
            "fast: longest wait of an insert / one DELETE",
            ratio(insert["fast"], insert["one DELETE"]),
            at_most=1 / 20,
            detail=f"{ms(insert['fast'])} against {ms(insert['one DELETE'])}; idle {ms(insert['idle'])}",
        ),
    ]


def _run(tables: Tables, job: Callable[[MariaDB], object]) -> Run:
    with tables.cold() as server:
        with closing(server.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(NEIGHBOURS)
        with clients(server, INSERT, LOGIN) as waits:
            began = time.monotonic()
            job(server)
            seconds = time.monotonic() - began
    everyone = [wait for found in waits for wait in found]
    return Run(seconds, max(waits[0]), statistics.quantiles(everyone, n=100)[-1])


@contextmanager
def clients(server: MariaDB, *statements: str) -> Iterator[list[list[float]]]:
    """Run one client for each statement meanwhile; afterwards the value has each one's waits, in seconds.

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
    """What runs in a client's process."""
    waits: list[float] = []
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        while not pipe.poll(BETWEEN):
            began = time.monotonic()
            cursor.execute(statement, {"n": len(waits)})
            waits.append(time.monotonic() - began)
            if len(waits) == 1:
                pipe.send("begun")
    pipe.send(waits)
