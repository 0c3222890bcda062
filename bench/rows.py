"""Rows in a state: our claims, and the two loops that people write by hand.

Each program takes rows from `pending` to `normal` with a function that does nothing. The first loop selects a
row, updates it to `work` and then to `normal`, each in a transaction of its own. The second one locks a row
with SKIP LOCKED and updates it in the same transaction. Both work row by row, on fewer rows: their time for a
row does not depend on that.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.harness import Result, interleaved, ratio
from bench.neighbours import clients
from bench.tables import SETTINGS, sizes
from dev.servers import MariaDB
from iam_watcher.database.session import set_up
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.rows_in_state_trigger import Poll, Watched
from iam_watcher.walk.claim import find_states, first_look
from iam_watcher.walk.claim.claims import Claims
from iam_watcher.walk.claim.function import caller
from iam_watcher.walk.claim.outcome import Processed
from iam_watcher.walk.claim.processing import Processing
from iam_watcher.walk.claim.renewal import Renewal
from iam_watcher.walk.pace import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROUNDS = 5
FEW, MANY = 2_000, 40_000  # rows for the loops, and for our job
SLOW_ROWS, SLOW = 1_600, 0.005  # rows, and seconds that the function waits for each of them
PENDING = (10_000, 1_000_000)  # rows of the tables for the growth
BATCH = 500
WATCHERS = 50
BESIDE = 10.0  # seconds that processes work beside a client that inserts

CREATE = """
CREATE OR REPLACE TABLE orders (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, payload VARCHAR(200) NOT NULL DEFAULT '',
  status ENUM('pending', 'work', 'normal', 'failed') NOT NULL DEFAULT 'pending',
  claimed_at DATETIME(6) NULL, claimed_by VARCHAR(255) NULL,
  attempts INT UNSIGNED NOT NULL DEFAULT 0, retry_at DATETIME(6) NULL, error TEXT NULL,
  KEY due (status, retry_at)
) ENGINE = InnoDB
"""
FILL = "INSERT INTO orders (payload) SELECT REPEAT('x', 200) FROM seq_1_to_{rows}"

NAMES = find_states.Names(
    table="orders",
    state_column="status",
    pending="pending",
    done="normal",
    failed="failed",
    working="work",
    columns={
        "claimed_at_column": "claimed_at",
        "claimed_by_column": "claimed_by",
        "attempts_column": "attempts",
        "retry_at_column": "retry_at",
        "error_column": "error",
    },
    read=None,
    age_column=None,
    claimant="",
    claim_timeout=60.0,
    max_attempts=5,
    backoff=10.0,
)


def measure(folder: Path) -> list[Result]:
    """Return speeds, growth, and what other clients notice."""
    with MariaDB(folder / "mariadb", SETTINGS) as server:
        server.create_schema()
        os.environ["AIRFLOW_CONN_BENCH_ROWS"] = server.airflow_admin_uri
        return [
            *_against_loops(server),
            _several_processes(server),
            *_growth_and_locks(server),
            *_beside_inserts(server),
            _idle_poll(server),
        ]


def _against_loops(server: MariaDB) -> list[Result]:
    rates = interleaved(
        {
            "ours": partial(_rate, server, _scaled(MANY), process),
            "loop": partial(_rate, server, _scaled(FEW), _three_transactions),
            "skip locked": partial(_rate, server, _scaled(FEW), _one_transaction),
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


def _several_processes(server: MariaDB) -> Result:
    rates = interleaved(
        {
            str(number): partial(_rate, server, _scaled(SLOW_ROWS), partial(_processes, number=number))
            for number in (1, 4)
        },
        ROUNDS,
    )
    detail = ", ".join(f"{name}: {statistics.median(found):,.0f} rows/s" for name, found in rates.items())
    return Result(
        "rows: 4 processes / 1, 5 ms a row", ratio(rates["4"], rates["1"]), at_least=2.5, detail=detail
    )


def _growth_and_locks(server: MariaDB) -> list[Result]:
    pending = [_scaled(rows) for rows in PENDING]
    seconds: list[list[float]] = [[], []]
    locked = 0
    for rows, found in zip(pending, seconds, strict=True):
        _fill(server, rows)
        for _ in range(ROUNDS):
            began = time.monotonic()
            process(server, Limits(max_rows=pending[0] // (ROUNDS + 1)))
            found.append(time.monotonic() - began)
        locked = _rows_locked(server)
    small, large = seconds
    return [
        Result(
            f"rows: time per row, {PENDING[1]:,} / {PENDING[0]:,} pending", ratio(large, small), at_most=1.3
        ),
        Result(f"rows: rows locked by a claim of {BATCH}", locked, at_most=BATCH + 1),
    ]


def _beside_inserts(server: MariaDB) -> list[Result]:
    _fill(server, _scaled(MANY))
    before = _status(server, "Innodb_deadlocks")
    with clients(server, "INSERT INTO orders (payload) VALUES (CONCAT('new ', %(n)s))") as found:
        _processes(server, number=4, seconds=0.0, limits=Limits(seconds=BESIDE))
    (waits,) = found
    longest = sorted(waits)[int(len(waits) * 0.999)]
    detail = f"{len(waits)} inserts, median {statistics.median(waits) * 1000:.1f} ms"
    return [
        Result("rows: ms of an insert beside 4 processes, p99.9", longest * 1000, at_most=50, detail=detail),
        Result("rows: deadlocks", _status(server, "Innodb_deadlocks") - before, at_most=0),
    ]


def _idle_poll(server: MariaDB) -> Result:
    _fill(server, 1)
    process(server)
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        for number in range(WATCHERS):
            cursor.execute(f"CREATE OR REPLACE TABLE orders_{number} LIKE orders")
    watched = [
        Watched(f"orders_{number}", "status", "pending", "work", "claimed_at", "retry_at", 60.0)
        for number in range(WATCHERS)
    ]
    poll = Poll("bench_rows")

    async def ask() -> float:
        await poll.ask(watched)
        began = time.monotonic()
        for _ in range(100):
            await poll.ask(watched)
        return (time.monotonic() - began) / 100

    try:
        seconds = asyncio.run(ask())
    finally:
        poll.close()
    return Result(f"rows: ms of an idle poll for {WATCHERS} watchers", seconds * 1000, at_most=20)


def process(
    server: MariaDB, limits: Limits | None = None, function: Callable[[Any], None] = lambda _: None
) -> None:
    """Process the rows as an operator does."""

    def connect() -> Any:
        connection = server.connect()
        set_up(connection)
        return connection

    with ExitStack() as stack:
        db = stack.enter_context(closing(Transactions(connect(), reconnect=connect)))
        states = find_states.find(db, _names())
        first_look.check(db, states)
        renewal = stack.enter_context(Renewal(states, connect))
        Processing(
            db, states, caller(function, "row"), renewal=renewal, batch=BATCH, limits=limits or Limits()
        ).run()


def _scaled(rows: int) -> int:
    """Return a number of rows, not larger than the largest table that is asked for."""
    return min(rows, sizes()[-1])


def _names() -> find_states.Names:
    return find_states.Names(**{**vars(NAMES), "claimant": os.urandom(16).hex()})


def _processes(server: MariaDB, *, number: int, seconds: float = SLOW, limits: Limits | None = None) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [
        fork.Process(target=process, args=(server, limits, partial(_wait, seconds))) for _ in range(number)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _wait(seconds: float, _: Any) -> None:
    time.sleep(seconds)


def _rate(server: MariaDB, rows: int, program: Callable[[MariaDB], object]) -> float:
    """Return the rows of a second."""
    _fill(server, rows)
    began = time.monotonic()
    program(server)
    seconds = time.monotonic() - began
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM orders WHERE status <> 'normal'")
        (left,) = cursor.fetchone()
    if left:
        raise RuntimeError(f"{left} of {rows} rows were not processed")
    return rows / seconds


def _fill(server: MariaDB, rows: int) -> None:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(CREATE)
        cursor.execute(FILL.format(rows=rows))
        connection.commit()
        cursor.execute("ANALYZE TABLE orders")
        cursor.fetchall()


def _three_transactions(server: MariaDB) -> None:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit(True)
        while True:
            cursor.execute("SELECT id FROM orders WHERE status = 'pending' ORDER BY id LIMIT 1")
            found = cursor.fetchone()
            if found is None:
                return
            cursor.execute("UPDATE orders SET status = 'work' WHERE id = %s AND status = 'pending'", found)
            cursor.execute("UPDATE orders SET status = 'normal' WHERE id = %s", found)


def _one_transaction(server: MariaDB) -> None:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.autocommit(False)
        while True:
            cursor.execute("SELECT id FROM orders WHERE status = 'pending' LIMIT 1 FOR UPDATE SKIP LOCKED")
            found = cursor.fetchone()
            if found is None:
                return
            cursor.execute("UPDATE orders SET status = 'normal' WHERE id = %s", found)
            connection.commit()


def _rows_locked(server: MariaDB) -> int:
    """Return how many rows a claim locks that holds its locks."""
    with closing(server.connect()) as connection, closing(server.connect()) as other:
        set_up(connection)
        db = Transactions(connection)
        columns = {n: c for n, c in NAMES.columns.items() if not n.startswith("claimed")}
        names = find_states.Names(**{**vars(NAMES), "working": None, "columns": columns})
        Claims(db, find_states.find(db, names), Processed()).claim(BATCH)
        ((me,),) = db.read("SELECT CONNECTION_ID()")
        with other.cursor() as cursor:
            cursor.execute(
                "SELECT trx_rows_locked FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = %s",
                [me],
            )
            return int(cursor.fetchone()[0])


def _status(server: MariaDB, name: str) -> int:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE %s", [name])
        return int(cursor.fetchone()[1])
