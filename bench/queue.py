"""Rows in a state, and huey: a task queue of Python whose tasks are rows of the same server.

huey is well known, and needs nothing beside MySQL or MariaDB (its class SqlStorage). Both programs call a
function that does nothing. huey deletes a task before it calls the function, so a task is lost when its
worker is killed. Row processing loses no row, and writes more for that: the claim and the outcome.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.harness import Result, interleaved, ratio
from bench.orders import process
from bench.rows import FEW, MANY, rate, scaled
from bench.tables import SETTINGS
from dev.servers import MariaDB

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 5


def measure(folder: Path) -> list[Result]:
    """Return our rows of a second divided by huey's tasks of a second."""
    with MariaDB(folder / "mariadb", SETTINGS) as server:
        server.create_schema()
        huey = _huey(server)
        rates = interleaved(
            {
                "ours": partial(rate, server, scaled(MANY), process),
                "huey": partial(_tasks_of_a_second, huey, scaled(FEW)),
            },
            ROUNDS,
        )
    detail = ", ".join(f"{name} {statistics.median(found):,.0f} a second" for name, found in rates.items())
    return [
        Result("rows: ours / tasks of huey", ratio(rates["ours"], rates["huey"]), at_least=5, detail=detail)
    ]


def _huey(server: MariaDB) -> Any:
    from huey.contrib.sql_huey import SqlHuey  # what only `make bench` installs
    from peewee import MySQLDatabase

    database = MySQLDatabase(
        "iam",
        host=server.host,
        port=server.port,
        user=server.admin_user,
        password=server.admin_password,
    )
    return SqlHuey("bench", database=database, results=False)


def _tasks_of_a_second(huey: Any, tasks: int) -> float:
    """Put tasks into huey's queue, then do them as its consumer does; return how many it did in a second."""
    done: list[int] = []

    def note(key: int) -> None:
        done.append(key)

    work = huey.task(name=f"work_{time.monotonic_ns()}")(note)
    with huey.storage.database.atomic():
        for key in range(tasks):
            work(key)
    began = time.monotonic()
    while (task := huey.dequeue()) is not None:
        huey.execute(task)
    seconds = time.monotonic() - began
    if len(done) != tasks:
        raise RuntimeError(f"huey did {len(done)} of {tasks} tasks")
    return tasks / seconds
