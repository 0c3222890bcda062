"""Dropping a partition whose rows are all old, while another client inserts rows into the table.

The table has events of about 150 bytes. Its first partition is old, the last one takes the inserts. The time
counts from the check of the partition's rows until the table and the partition are gone.
"""

from __future__ import annotations

import statistics
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from bench.harness import Result, interleaved, ratio
from bench.neighbours import clients
from bench.tables import Tables, sizes
from dev.processes import ProcessError
from iam_watcher.archive.storage import Folder
from iam_watcher.archive.writer import Archive
from iam_watcher.database.catalogue import read_table
from iam_watcher.database.session import read_now, set_up
from iam_watcher.database.throttle import Throttler
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk.progress import ProgressReporter
from iam_watcher.walk.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dev.servers import MariaDB
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.jobs.table_job.purge_job import PurgeJob

ROUNDS = 3

CREATE = """
CREATE TABLE events (
  day DATE NOT NULL, id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, user INT NOT NULL, kind VARCHAR(20) NOT NULL,
  payload VARCHAR(200) NOT NULL, PRIMARY KEY (day, id), KEY by_user (user), KEY by_id (id)
) ENGINE = InnoDB PARTITION BY RANGE (TO_DAYS(day)) (
  PARTITION old VALUES LESS THAN (TO_DAYS('2021-01-01')),
  PARTITION young VALUES LESS THAN MAXVALUE
)
"""
FILL = """
INSERT INTO events (day, user, kind, payload)
SELECT '2020-01-01' + INTERVAL seq % 365 DAY, seq % 5000, 'login', REPEAT(MD5(seq), 3) FROM seq_1_to_{rows}
"""
INSERT = "INSERT INTO events (day, user, kind, payload) VALUES (CURDATE(), %(n)s, 'login', REPEAT('x', 96))"


@dataclass(frozen=True)
class Run:
    """The times of a run.

    Attributes:
        seconds: until the partition was gone.
        insert: the longest wait of the client that inserts, in seconds.
    """

    seconds: float
    insert: float


def measure(folder: Path) -> list[Result]:
    """Return the time of a drop, and the longest wait of a client's insert meanwhile."""
    rows = sizes()[-1]
    tables = events(folder.parent / "tables", rows)
    archive = folder / "archive"
    archive.mkdir(parents=True, exist_ok=True)
    location = f"file://{archive}"
    runs = interleaved(
        {
            "drop": partial(_run, tables, partial(_drop, rows=rows, location=None), warm=True),
            "drop from the disk": partial(_run, tables, partial(_drop, rows=rows, location=None)),
            "count from the disk": partial(_run, tables, _count),
            "with an archive": partial(_run, tables, partial(_drop, rows=rows, location=location)),
            "walk with an archive": partial(_run, tables, partial(_walk, location=location)),
        },
        ROUNDS,
    )
    seconds = {name: [run.seconds for run in found] for name, found in runs.items()}
    results = [
        Result(
            f"partition of {rows}, its rows in the buffer pool: s",
            statistics.median(seconds["drop"]),
            at_most=1,
            detail=f"worst {max(seconds['drop']):.2f}",
        ),
        Result(
            f"partition of {rows}, read from the disk: time / one SELECT COUNT(*)",
            ratio(seconds["drop from the disk"], seconds["count from the disk"]),
            at_most=1.5,
            detail=f"{statistics.median(seconds['drop from the disk']):.1f} against "
            f"{statistics.median(seconds['count from the disk']):.1f} s",
        ),
        Result(
            f"partition of {rows}, with an archive: time / walk with an archive",
            ratio(seconds["with an archive"], seconds["walk with an archive"]),
            at_most=1,
            detail=f"{statistics.median(seconds['with an archive']):.1f} against "
            f"{statistics.median(seconds['walk with an archive']):.1f} s",
        ),
    ]
    for name in ("drop", "with an archive"):
        waits = [run.insert * 1000 for run in runs[name]]
        results.append(
            Result(
                f"partition of {rows}, {name}: longest wait of an insert, ms",
                statistics.median(waits),
                at_most=200,
                detail=f"worst {max(waits):.0f}",
            )
        )
    return results


@cache
def events(folder: Path, rows: int) -> Tables:
    """Return a table whose first partition has these rows; made at the first call."""
    return Tables(folder / f"events-{rows}", [CREATE, FILL.format(rows=rows), "ANALYZE TABLE events"])


def _run(tables: Tables, purge: Callable[[MariaDB], float], *, warm: bool = False) -> Run:
    with tables.cold() as server:
        if warm:
            _count(server)
        with clients(server, INSERT) as waits:
            time.sleep(0.5)  # the client inserts for a while before
            seconds = purge(server)
    return Run(seconds, max(waits[0][1:]))


def _count(server: MariaDB) -> float:
    """Read the rows of the partition by one statement, as any check of them must, and return the seconds."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        began = time.monotonic()
        cursor.execute("SELECT COUNT(*) FROM events PARTITION (old) FORCE INDEX (PRIMARY)")
        return time.monotonic() - began


def _drop(server: MariaDB, rows: int, location: str | None) -> float:
    """Drop the old partition as the operator does, and return the seconds.

    Raises:
        ProcessError: another number of rows was dropped.
    """
    dropped: dict[str, int] = {}
    with _prepared(server) as (db, job, plan):
        throttler = Throttler(db, "events", lambda: None, patience=1)
        archive = None if location is None else _archive(location)
        drop = job.partition_drop(db, plan, archive, server.connect, throttler, ProgressReporter("events"))
        if drop is None:
            raise ProcessError("drop_partitions is not set")
        began = time.monotonic()
        drop.run(lambda: None, lambda: False, dropped.__setitem__)
        seconds = time.monotonic() - began
    if sum(dropped.values()) != rows:
        raise ProcessError(f"dropped {dropped}; expected {rows} rows")
    return seconds


def _walk(server: MariaDB, location: str) -> float:
    """Archive and delete the same rows one by one, and return the seconds."""
    with _prepared(server) as (db, job, plan):
        recorder = job.recorder(db, plan, _archive(location))
        began = time.monotonic()
        Walk(db, plan.change, pace=job.pace, recorder=recorder).write()
        return time.monotonic() - began


@contextmanager
def _prepared(server: MariaDB) -> Iterator[tuple[Transactions, PurgeJob, Plan]]:
    job = PurgeRowsOperator(
        task_id="purge", table="events", age_column="day", older_than_days=30, drop_partitions=True
    ).job()
    connection = server.connect(autocommit=False)
    set_up(connection)
    with closing(Transactions(connection)) as db:
        yield db, job, job.plan(read_table(db, job.table), read_now(connection))


def _archive(location: str) -> Archive:
    return Archive(Folder(location), {"kind": "rows", "table": "events"})
