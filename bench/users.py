"""Disabling inactive users: our job with its safety limit, one UPDATE, and the loop of the Go iam-watcher.

The job either writes an undo record into a folder on the same disk, or (`undo_location="none"`) the names of
the users into its log, which is a file.

The loop is our own version of the Go program's loop: it reads all columns of the active users (without the
limit of 1,000) and writes each inactive user back with all columns, in a transaction of its own with the
three statements that GORM sends. (GORM also prepares the second statement; we leave this out.) The loop
runs only on the smallest table, where it already takes a minute.
"""

from __future__ import annotations

import shutil
import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from bench import walking
from bench.harness import Result, interleaved, ratio
from bench.neighbours import clients
from bench.tables import older_than, sizes, users
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bench.tables import Tables
    from dev.servers import MariaDB

ROUNDS = 3

UPDATE = (
    "UPDATE user SET status = 0 WHERE status = 1 AND isAdmin = 0"
    " AND COALESCE(loginedAt, createdAt) < NOW() - INTERVAL %(days)s DAY"
)

# Of users all over the table.
LOGIN = "UPDATE user SET loginedAt = NOW() WHERE id = 1 + %(n)s * 7919 %% {rows}"


@dataclass(frozen=True)
class Run:
    """The time of a run, and the longest wait of a login during the run, in seconds."""

    seconds: float
    login: float


def measure(folder: Path) -> list[Result]:
    """Return speeds, and how long logins wait."""
    small, large = sizes()[0], sizes()[-1]
    days = older_than(0.5)
    undo = folder / "undo"
    folder.mkdir(parents=True, exist_ok=True)
    ours: dict[str, Callable[[MariaDB], object]] = {
        "an undo record": partial(_disable, days=days, undo=undo),
        "names in the log": partial(_disable, days=days, undo=None),
    }
    one: Callable[[MariaDB], object] = partial(_one_update, days=days)
    loop: Callable[[MariaDB], object] = partial(_original, days=days)
    tables = folder.parent / "tables"

    def turns(
        rows: int, jobs: Mapping[str, Callable[[MariaDB], object]], *, logins_of: int = 0
    ) -> dict[str, list[Run]]:
        run = partial(_run, users(tables, rows), undo=undo, logins_of=logins_of)
        return interleaved({name: partial(run, job) for name, job in jobs.items()}, ROUNDS)

    few = turns(small, {**ours, "loop": loop})
    many = turns(large, {**ours, "one": one})
    beside = turns(large, {**ours, "one": one}, logins_of=large)

    def against(ours: list[float], theirs: list[float]) -> str:
        return f"{statistics.median(ours):.2f} against {statistics.median(theirs):.2f} s"

    def faster(runs: dict[str, list[Run]], way: str, peer: str) -> tuple[float, str]:
        ours, theirs = ([run.seconds for run in runs[name]] for name in (way, peer))
        return ratio(theirs, ours), against(ours, theirs)

    results = []
    for way in ours:
        than_loop, loop_detail = faster(few, way, "loop")
        than_one, one_detail = faster(many, way, "one")
        waits = [[run.login for run in beside[name]] for name in (way, "one")]
        results += [
            Result(
                f"50 % of {small} users, {way}: users/s with the safety limit / the original's loop",
                than_loop,
                at_least=60,
                detail=loop_detail,
            ),
            Result(
                f"50 % of {large} users, {way}: users/s with the safety limit / one UPDATE",
                than_one,
                at_least=0.4,
                detail=one_detail,
            ),
            Result(
                f"50 % of {large} users, {way}: longest wait of a login / one UPDATE",
                ratio(*waits),
                at_most=1 / 8,
                detail=against(*waits),
            ),
        ]
    return results


def _run(tables: Tables, job: Callable[[MariaDB], object], *, undo: Path, logins_of: int = 0) -> Run:
    shutil.rmtree(undo, ignore_errors=True)
    logins = [LOGIN.format(rows=logins_of)] if logins_of else []
    with tables.cold() as server, clients(server, *logins) as waits:
        began = time.monotonic()
        job(server)
        seconds = time.monotonic() - began
    return Run(seconds, max(waits[0]) if waits else 0.0)


def _disable(server: MariaDB, days: int, undo: Path | None) -> None:
    job = DisableInactiveUsersOperator(
        task_id="disable",
        max_inactive_days=days,
        max_share=0.99,
        undo_location="none" if undo is None else undo.as_uri(),
    )
    walking.perform(server, job)


def _one_update(server: MariaDB, days: int) -> None:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(UPDATE, {"days": days})


def _original(server: MariaDB, days: int) -> None:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM user WHERE status = 1 ORDER BY id DESC")
        columns = [column[0] for column in cursor.description]
        status, logined = columns.index("status"), columns.index("loginedAt")
        write = f"UPDATE user SET {', '.join(f'`{column}` = %s' for column in columns)} WHERE id = %s"
        before = datetime.now() - timedelta(days=days)  # noqa: DTZ005  as the server's, which is ours
        for user in [list(row) for row in cursor.fetchall()]:
            if user[logined] < before:
                user[status] = 0
                cursor.execute("START TRANSACTION")
                cursor.execute(write, [*user, user[columns.index("id")]])
                cursor.execute("COMMIT")
