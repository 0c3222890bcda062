"""Keeping the newest rows of each group, and making rows anonymous: the second compared with one UPDATE."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from functools import cache, partial
from typing import TYPE_CHECKING

from bench import walking
from bench.harness import Result, interleaved, ratio
from bench.tables import POLICY_AUDIT, Tables, older_than, policy_audit, sizes
from iam_watcher.jobs.anonymize_rows import AnonymizeRowsOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dev.servers import MariaDB

ROUNDS = 3

GROUP, KEPT = 100, 10  # rows of a group, and those that stay
GROUPS_OF_TABLES = "seq % 5000"
GROUP_INDEX = "ALTER TABLE policy_audit ADD INDEX newest (username, deletedAt)"

UPDATE = (
    "UPDATE policy_audit SET username = 'nobody', policyShadow = NULL"
    " WHERE deletedAt < NOW() - INTERVAL %(days)s DAY"
)


def measure(folder: Path) -> list[Result]:
    """Return how the time grows with the rows, and the speed compared with one UPDATE."""
    small, large = sizes()[0], sizes()[-1]
    tables = folder.parent / "tables"
    newest = interleaved(
        {
            "small": partial(_seconds, _groups(tables, small), _keep_last),
            "large": partial(_seconds, _groups(tables, large), _keep_last),
        },
        ROUNDS,
    )
    days = older_than(0.5)
    audit = policy_audit(tables, large)
    anonymous = interleaved(
        {
            "ours": partial(_seconds, audit, partial(_anonymize, days=days)),
            "one": partial(_seconds, audit, partial(_one_update, days=days)),
        },
        ROUNDS,
    )
    times = {name: statistics.median(found) for name, found in {**newest, **anonymous}.items()}
    return [
        Result(
            f"the newest {KEPT} of each group of {GROUP}: time per row of {large} / of {small}",
            ratio(newest["large"], newest["small"]) * small / large,
            at_most=1.3,
            detail=f"{times['large']:.2f} against {times['small']:.2f} s",
        ),
        Result(
            f"50 % of {large} rows made anonymous: rows/s / one UPDATE",
            ratio(anonymous["one"], anonymous["ours"]),
            at_least=0.6,
            detail=f"{times['ours']:.2f} against {times['one']:.2f} s",
        ),
    ]


@cache
def _groups(folder: Path, rows: int) -> Tables:
    """Return a policy_audit whose rows are in groups of the same size, scattered over the ids."""
    fill = POLICY_AUDIT.replace(GROUPS_OF_TABLES, f"seq % {rows // GROUP}").format(rows=rows)
    return Tables(folder / f"policy_audit-{rows}-groups", [fill, GROUP_INDEX])


def _seconds(tables: Tables, job: Callable[[MariaDB], object]) -> float:
    with tables.cold() as server:
        began = time.monotonic()
        job(server)
        return time.monotonic() - began


def _keep_last(server: MariaDB) -> None:
    job = PurgeRowsOperator(
        task_id="purge",
        table="policy_audit",
        age_column="deletedAt",
        keep_last=KEPT,
        per="username",
        archive=None,
    )
    walking.walk(server, job)


def _anonymize(server: MariaDB, days: int) -> None:
    job = AnonymizeRowsOperator(
        task_id="anonymize",
        table="policy_audit",
        age_column="deletedAt",
        older_than_days=days,
        set={"username": "nobody", "policyShadow": None},
        archive=None,
    )
    walking.walk(server, job, as_admin=True)


def _one_update(server: MariaDB, days: int) -> None:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(UPDATE, {"days": days})
