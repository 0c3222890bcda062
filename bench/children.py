"""Deleting parents with their children: our job, one DELETE of several tables, and a loop over the parents.

Each parent has 20 children. Each program deletes the same half of the parents, with their children, of its
own copy of the tables, with an empty buffer pool. BENCH_ROWS are the rows of both tables together. The
comparison with the loop uses the smallest number, the others the largest.
"""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from functools import cache, partial
from typing import TYPE_CHECKING

from bench import walking
from bench.harness import Result, interleaved, ratio
from bench.tables import DAYS, Tables, older_than, sizes
from iam_watcher.jobs.children import Child
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dev.servers import MariaDB

ROUNDS = 3
CHILDREN = 20  # of each parent

# Without a foreign key, so that one DELETE may take the tables in the order that suits the server.
ORDERS = (
    "CREATE TABLE orders (id BIGINT PRIMARY KEY, created_at DATETIME NOT NULL, note VARCHAR(200) NOT NULL)"
)
LINES = (
    "CREATE TABLE order_line (id BIGINT PRIMARY KEY, order_id BIGINT NOT NULL, note VARCHAR(200),"
    " KEY (order_id))"
)
FILL_ORDERS = (
    f"INSERT INTO orders SELECT seq, NOW() - INTERVAL FLOOR(RAND(1) * {DAYS}) DAY - INTERVAL 12 HOUR,"
    " REPEAT(MD5(seq), 4) FROM seq_1_to_{rows}"
)
FILL_LINES = (
    f"INSERT INTO order_line SELECT seq, 1 + (seq - 1) DIV {CHILDREN}, REPEAT(MD5(seq), 4)"
    " FROM seq_1_to_{rows}"
)

OLD = "created_at < NOW() - INTERVAL %(days)s DAY"
DELETE = f"DELETE orders, order_line FROM orders JOIN order_line ON order_id = orders.id WHERE {OLD}"
KEYS = f"SELECT id FROM orders WHERE {OLD}"
MISSING = f"SELECT (SELECT COUNT(*) FROM orders) * {CHILDREN} - (SELECT COUNT(*) FROM order_line)"
DELETE_CHILDREN = "DELETE FROM order_line WHERE order_id = %s"
DELETE_PARENT = f"DELETE FROM orders WHERE id = %s AND {OLD.replace('%(days)s', '%s')}"

Run = tuple[float, float]
"""Seconds until the program ended; seconds of its longest transaction."""


def measure(folder: Path) -> list[Result]:
    """Return speeds and the longest transaction."""
    days = older_than(0.5)
    small, large = sizes()[0], sizes()[-1]
    table = partial(_orders, folder.parent / "tables")
    runs = _compare(table(large), {"ours": _ours, "one DELETE": _one_delete}, days)
    loops = _compare(table(small), {"ours": _ours, "loop": _loop}, days)
    longest = [longest for _, longest in runs["ours"]]
    return [
        _speed(f"parents with {CHILDREN} children, {large} rows", runs, "one DELETE", 0.7),
        Result(
            f"parents with {CHILDREN} children, {large} rows: longest transaction, s",
            statistics.median(longest),
            at_most=0.4,
            detail=f"worst {max(longest):.2f}",
        ),
        _speed(f"parents with {CHILDREN} children, {small} rows", loops, "loop", 3),
    ]


@cache
def _orders(folder: Path, rows: int) -> Tables:
    """Return parents and children; made at the first call."""
    parents = rows // (CHILDREN + 1)
    fill = [FILL_ORDERS.format(rows=parents), FILL_LINES.format(rows=parents * CHILDREN)]
    return Tables(folder / f"orders-{rows}", [ORDERS, LINES, *fill, "ANALYZE TABLE orders, order_line"])


def _ours(server: MariaDB, days: int) -> float:
    operator = PurgeRowsOperator(
        task_id="purge",
        table="orders",
        age_column="created_at",
        older_than_days=days,
        children=[Child("order_line", key="order_id")],
    )
    return walking.walk(server, operator, as_admin=True)


def _one_delete(server: MariaDB, days: int) -> float:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        began = time.monotonic()
        cursor.execute(DELETE, {"days": days})
        return time.monotonic() - began


def _loop(server: MariaDB, days: int) -> float:
    """Delete one parent with its children in each transaction, as many people do."""
    longest = 0.0
    with closing(server.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute(KEYS, {"days": days})
        for (key,) in cursor.fetchall():
            began = time.monotonic()
            cursor.execute(DELETE_CHILDREN, [key])
            cursor.execute(DELETE_PARENT, [key, days])
            connection.commit()
            longest = max(longest, time.monotonic() - began)
    return longest


def _compare(
    tables: Tables, programs: Mapping[str, Callable[[MariaDB, int], float]], days: int
) -> dict[str, list[Run]]:
    def run(program: Callable[[MariaDB, int], float]) -> Run:
        with tables.cold() as server:
            began = time.monotonic()
            longest = program(server, days)
            seconds = time.monotonic() - began
            _check(server, days)
            return seconds, longest

    return interleaved({name: partial(run, program) for name, program in programs.items()}, ROUNDS)


def _check(server: MariaDB, days: int) -> None:
    """Raise if a program has not deleted what it should have: then its time says nothing."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM orders WHERE {OLD}", {"days": days})
        ((old,),) = cursor.fetchall()
        cursor.execute(MISSING)
        ((missing,),) = cursor.fetchall()
    if old or missing:
        raise AssertionError(f"{old} old parents are left, and {missing} children are missing")


def _speed(what: str, runs: Mapping[str, list[Run]], peer: str, target: float) -> Result:
    ours, theirs = ([seconds for seconds, _ in runs[name]] for name in ("ours", peer))
    return Result(
        f"{what}: rows/s / {peer}",
        ratio(theirs, ours),
        at_least=target,
        detail=f"{statistics.median(ours):.1f} against {statistics.median(theirs):.1f} s",
    )
