"""Deleting half of a table by other keys than an integer, and by an integer as an earlier version did it.

The table is policy_audit, with the same rows. For each key, our job works in turn with a single DELETE and
with pt-archiver and its fastest options. It also works while a snapshot delays InnoDB's purge. The ages
don't follow the key.

BENCH_BEFORE=<commit> also compares our job on the integer key with the job of that commit, in the same run.
Both run in a process of their own, which measures its time without the imports.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
from contextlib import closing
from functools import cache, partial
from typing import TYPE_CHECKING

from bench.harness import Result, interleaved, ratio
from bench.pt_archiver import TUNED, pt_archiver
from bench.purge import Run, compare, delayed_purge, one_delete, speed
from bench.tables import POLICY_AUDIT, Tables, older_than, policy_audit, sizes
from bench.walking import purge
from dev.airflow import ROOT
from dev.processes import ProcessError, require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dev.servers import MariaDB

ROUNDS = 5

# As UUID() has it.
UUID = "INSERT(INSERT(INSERT(INSERT(MD5(id), 21, 0, '-'), 17, 0, '-'), 13, 0, '-'), 9, 0, '-')"
COLUMNS = "instanceID, name, username, policyShadow, extendShadow, createdAt, updatedAt, deletedAt"

# Name → how the table is altered, and the key of a row from its integer.
KEYS = {
    "CHAR(36)": ("MODIFY id CHAR(36) NOT NULL", "id", UUID),
    "BINARY(16)": ("MODIFY id BINARY(16) NOT NULL", "id", "UNHEX(MD5(id))"),
    "(day, id)": (
        "ADD COLUMN day DATE NOT NULL FIRST, DROP PRIMARY KEY, ADD PRIMARY KEY (day, id)",
        "day, id",
        "'2024-01-01' + INTERVAL CONV(LEFT(MD5(id), 4), 16, 10) % 1000 DAY, id",
    ),
}

# Run in another process, also with the code of another commit.
CHILD = """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
from bench import walking

folder, days = sys.argv[1:]
server = SimpleNamespace(airflow_uri=sys.stdin.read(), folder=Path(folder))
walking.purge(server, 36_000)  # a first run imports and caches; no row is so old
began = time.monotonic()
longest = walking.purge(server, int(days))
print(json.dumps([time.monotonic() - began, longest]))
"""


def measure(folder: Path) -> list[Result]:
    """Return the speed for each key, its longest transaction, and the integer key compared with before."""
    rows, days = sizes()[-1], older_than(0.5)
    tables = folder.parent / "tables"
    results = []
    for name in KEYS:
        runs = compare(
            keyed(tables, rows, name),
            {
                "walk": partial(purge, days=days),
                "walk alone": partial(delayed_purge, days=days),
                "one DELETE": partial(one_delete, days=days),
                "pt-archiver": partial(_archiver, days=days),
            },
            ROUNDS,
        )
        what = f"key {name}, 50 % of {rows}"
        alone = {**runs, "walk": runs["walk alone"]}
        results += [
            speed(f"{what}, InnoDB's purge delayed", alone, "one DELETE", 0.8),
            speed(what, runs, "pt-archiver", 1.25),
            _longest(what, runs["walk"]),
        ]
    if commit := os.environ.get("BENCH_BEFORE"):
        results.append(_integer_as_before(tables, folder / "before", rows, days, commit))
    return results


@cache
def keyed(folder: Path, rows: int, name: str) -> Tables:
    """Return a policy_audit with another key; made at the first call."""
    change, columns, values = KEYS[name]
    return Tables(
        folder / f"policy_audit-{rows}-{list(KEYS).index(name)}",
        [
            POLICY_AUDIT.format(rows=rows),
            "ALTER TABLE policy_audit RENAME TO by_integer",
            "CREATE TABLE policy_audit LIKE by_integer",
            f"ALTER TABLE policy_audit {change}",
            f"INSERT INTO policy_audit ({columns}, {COLUMNS}) SELECT {values}, {COLUMNS} FROM by_integer",
            "DROP TABLE by_integer",
        ],
    )


def _archiver(server: MariaDB, days: int) -> float:
    return pt_archiver(server, days, *TUNED)


def _longest(what: str, runs: list[Run]) -> Result:
    return Result(
        f"{what}: longest transaction, s",
        statistics.median(run.longest for run in runs),
        at_most=0.4,
        detail=f"worst {max(run.longest for run in runs):.2f}",
    )


def _integer_as_before(tables: Path, folder: Path, rows: int, days: int, commit: str) -> Result:
    trees = {"now": ROOT, "before": _tree(folder, commit)}
    contestants: dict[str, Callable[[], float]] = {
        name: partial(_seconds, policy_audit(tables, rows), tree, days) for name, tree in trees.items()
    }
    runs = interleaved(contestants, ROUNDS)
    return Result(
        f"integer key, 50 % of {rows}: rows/s / at {commit}",
        ratio(runs["before"], runs["now"]),
        at_least=0.97,
        detail=f"{statistics.median(runs['now']):.1f} against {statistics.median(runs['before']):.1f} s",
    )


def _tree(folder: Path, commit: str) -> Path:
    """Return a folder with the jobs of a commit; this commit's benchmark runs them.

    Raises:
        ProcessError: Git does not have it.
    """
    done = subprocess.run(
        [require("git", "git"), "archive", "--format=tar", commit, "plugins"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise ProcessError(f"BENCH_BEFORE is {commit!r}: {done.stderr.decode()}")
    with closing(tarfile.open(fileobj=io.BytesIO(done.stdout))) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _seconds(tables: Tables, tree: Path, days: int) -> float:
    with tables.cold() as server:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(server.folder), str(days)],
            input=server.airflow_uri,  # not as an argument: every user of the machine can read those
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{tree / 'plugins'}{os.pathsep}{ROOT}"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise ProcessError(f"a purge with the code in {tree} failed: {done.stderr}")
    seconds, _ = json.loads(done.stdout.splitlines()[-1])
    return float(seconds)
