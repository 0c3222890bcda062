"""Deleting old rows: our job, the single DELETE of the Go iam-watcher, and other common ways.

Each program deletes the same rows of its own copy of the table, with an empty buffer pool. We measure the
time until the program ends, its longest transaction, and the time until InnoDB has removed the rows.

Most comparisons use the largest table. Two programs that would take minutes there use the smallest table: the
loop of DELETE with a LIMIT (which favours it, because its time grows with the square of the rows), and
pt-archiver as in its manual.

While our job works, InnoDB's purge already removes the rows of earlier transactions, on the same cores.
After a single DELETE, the purge works later. To see the effect of the purge, we also measure our job while
a snapshot delays the purge, and simple loops of DELETE … BETWEEN.
"""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench import walking
from bench.harness import Result, interleaved, ratio
from bench.memory import growth
from bench.pt_archiver import AS_IN_ITS_MANUAL, TUNED, pt_archiver
from bench.range_deletes import range_deletes
from bench.tables import older_than, policy_audit, sizes, wait_until_purged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.tables import Tables
    from dev.servers import MariaDB

ROUNDS = 3
ROUNDS_OF_HALVES = 5  # for the comparison that most targets use

# The original's.
DELETE = "DELETE FROM policy_audit WHERE deletedAt < NOW() - INTERVAL %(days)s DAY"

# A loop that many people write.
DELETE_SOME = f"{DELETE} LIMIT 5000"


@dataclass(frozen=True)
class Run:
    """The times of a run.

    Attributes:
        seconds: until it was done.
        longest: seconds of the longest transaction.
        purged: seconds until InnoDB had removed the rows.
    """

    seconds: float
    longest: float
    purged: float


def measure(folder: Path) -> list[Result]:
    """Return speeds, transactions, growth and memory."""
    small, large = sizes()[0], sizes()[-1]
    table = partial(policy_audit, folder.parent / "tables")
    halves = compare(
        table(large),
        {
            **_ours_alone_and_one(older_than(0.5)),
            "bare loop": partial(range_deletes, days=older_than(0.5)),
            "four bare loops at once": partial(range_deletes, days=older_than(0.5), connections=4),
            "pt-archiver": partial(_archiver, days=older_than(0.5), options=TUNED),
        },
        ROUNDS_OF_HALVES,
    )
    walk, one = halves["walk"], halves["one DELETE"]
    results = [
        *_with_and_without_purge(f"50 % of {large}", halves),
        speed(f"50 % of {large}", halves, "bare loop", 0.85),
        speed(f"50 % of {large}", halves, "four bare loops at once", 0.5),
        speed(f"50 % of {large}", halves, "pt-archiver", 1.25),
        Result(
            f"50 % of {large}: longest transaction / one DELETE",
            ratio([run.longest for run in walk], [run.longest for run in one]),
            at_most=1 / 15,
        ),
        Result(
            f"50 % of {large}: longest transaction, s",
            statistics.median(run.longest for run in walk),
            at_most=0.4,
            detail=f"worst {max(run.longest for run in walk):.2f}",
        ),
        Result(
            f"50 % of {large}: until InnoDB is done / one DELETE",
            ratio([run.purged for run in walk], [run.purged for run in one]),
            at_most=0.75,
            detail=_against([run.purged for run in walk], [run.purged for run in one]),
        ),
    ]
    archiver = {"pt-archiver": partial(_archiver, days=older_than(0.9), options=TUNED)}
    runs = compare(table(large), {**_ours_alone_and_one(older_than(0.9)), **archiver})
    results += [
        *_with_and_without_purge(f"90 % of {large}", runs),
        speed(f"90 % of {large}", runs, "pt-archiver", 1.25),
    ]
    for share, target in ((0.1, 0.8), (0.005, 0.95)):
        runs = compare(table(large), _ours_and_one(older_than(share)))
        results.append(speed(f"{share:.1%} of {large}", runs, "one DELETE", target))
    results += _by_index(table(large), table(large, index=True), large)
    runs = compare(table(large, redo="1G"), _ours_and_one(older_than(0.5)))
    results.append(speed(f"50 % of {large}, with a redo log of 1 GB", runs, "one DELETE", 0.8))
    slow = compare(
        table(small),
        {
            "walk": partial(walking.purge, days=older_than(0.5)),
            "DELETE LIMIT 5000": partial(_delete_some, days=older_than(0.5)),
            "pt-archiver as in its manual": partial(
                _archiver, days=older_than(0.5), options=AS_IN_ITS_MANUAL
            ),
        },
    )
    results += [
        speed(f"50 % of {small}", slow, peer, 1)
        for peer in ("DELETE LIMIT 5000", "pt-archiver as in its manual")
    ]
    if large > small:
        # A small table's rows are gone for its clients before InnoDB has begun to remove them.
        grown = statistics.median(run.purged for run in walk) / statistics.median(
            run.purged for run in slow["walk"]
        )
        results.append(
            Result(
                f"time until InnoDB is done, 50 % of {large} / of {small}",
                grown,
                at_most=12 * large / small / 10,
            )
        )
    return [*results, Result("the walk's memory, MB", growth(table(large)), at_most=10)]


def _by_index(plain: Tables, indexed: Tables, rows: int) -> list[Result]:
    """Return the speed with an index on the age, compared with one DELETE with and without it."""
    days = older_than(0.005)
    walk, one = (partial(job, days=days) for job in (walking.purge, one_delete))
    runs = interleaved(
        {
            "walk": partial(_run, indexed, walk),
            "one DELETE without it": partial(_run, plain, one),
            "one DELETE with it": partial(_run, indexed, one),
        },
        ROUNDS,
    )
    return [
        speed(f"0.5% of {rows}, with an index", runs, peer, target)
        for peer, target in (("one DELETE without it", 3), ("one DELETE with it", 0.7))
    ]


def one_delete(server: MariaDB, days: int) -> float:
    """Delete with one statement, and return the seconds of the transaction."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        began = time.monotonic()
        cursor.execute(DELETE, {"days": days})
        return time.monotonic() - began


def delayed_purge(server: MariaDB, days: int) -> float:
    """Run our job beside a snapshot, for which InnoDB keeps all deleted rows."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        return walking.purge(server, days)


def _delete_some(server: MariaDB, days: int) -> float:
    longest = 0.0
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        while True:
            began = time.monotonic()
            cursor.execute(DELETE_SOME, {"days": days})
            longest = max(longest, time.monotonic() - began)
            if not cursor.rowcount:
                return longest


def _archiver(server: MariaDB, days: int, options: Sequence[str]) -> float:
    return pt_archiver(server, days, *options)


def _ours_and_one(days: int) -> dict[str, Callable[[MariaDB], float]]:
    return {"walk": partial(walking.purge, days=days), "one DELETE": partial(one_delete, days=days)}


def _ours_alone_and_one(days: int) -> dict[str, Callable[[MariaDB], float]]:
    return {**_ours_and_one(days), "walk alone": partial(delayed_purge, days=days)}


def _with_and_without_purge(what: str, runs: dict[str, list[Run]]) -> list[Result]:
    alone = {"walk": runs["walk alone"], "one DELETE": runs["one DELETE"]}
    return [
        speed(f"{what}, InnoDB's purge delayed", alone, "one DELETE", 0.8),
        speed(what, runs, "one DELETE", 0.6),
    ]


def compare(
    tables: Tables, purges: Mapping[str, Callable[[MariaDB], float]], rounds: int = ROUNDS
) -> dict[str, list[Run]]:
    """Run the purges in turn, each on a fresh copy of the tables, and return the times of each."""
    return interleaved({name: partial(_run, tables, purge) for name, purge in purges.items()}, rounds)


def _run(tables: Tables, purge: Callable[[MariaDB], float]) -> Run:
    """Delete the rows of a table with an empty buffer pool."""
    with tables.cold() as server:
        began = time.monotonic()
        longest = purge(server)
        seconds = time.monotonic() - began
        wait_until_purged(server)
        return Run(seconds, longest, time.monotonic() - began)


def speed(what: str, runs: dict[str, list[Run]], peer: str, target: float) -> Result:
    """Return how much faster the walk was than another purge."""
    ours, theirs = ([run.seconds for run in runs[name]] for name in ("walk", peer))
    return Result(
        f"{what}: rows/s / {peer}", ratio(theirs, ours), at_least=target, detail=_against(ours, theirs)
    )


def _against(ours: Sequence[float], theirs: Sequence[float]) -> str:
    return f"{statistics.median(ours):.1f} against {statistics.median(theirs):.1f} s"
