"""The cost of an archive: a purge with and without one, and pt-archiver --file.

The jobs delete a tenth of the largest table. The archive is a folder on the same disk.
"""

from __future__ import annotations

import shutil
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

from bench import walking
from bench.harness import Result, interleaved, ratio
from bench.pt_archiver import TUNED, pt_archiver
from bench.tables import older_than, policy_audit, sizes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dev.servers import MariaDB

ROUNDS = 3


def measure(folder: Path) -> list[Result]:
    """Return how much longer a purge takes with an archive."""
    rows = sizes()[-1]
    tables = policy_audit(folder.parent / "tables", rows)
    days = older_than(0.1)

    def run(work: Callable[[MariaDB, Path], float]) -> float:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tables.cold() as server:
            began = time.monotonic()
            work(server, folder)
            return time.monotonic() - began

    seconds = interleaved(
        {
            name: partial(run, work)
            for name, work in {
                "purge": lambda server, _: walking.purge(server, days),
                "archive": lambda server, path: walking.purge(server, days, archive=path.as_uri()),
                "pt-archiver": lambda server, path: pt_archiver(
                    server, days, *TUNED, f"--file={path}/rows", purge=False
                ),
            }.items()
        },
        ROUNDS,
    )
    shutil.rmtree(folder)
    return [
        Result(
            f"10 % of {rows}: time with an archive / {peer}",
            ratio(seconds["archive"], seconds[name]),
            at_most=target,
            detail=f"{statistics.median(seconds['archive']):.1f} against "
            f"{statistics.median(seconds[name]):.1f} s",
        )
        for name, peer, target in (("purge", "without", 1.3), ("pt-archiver", "pt-archiver --file", 1.0))
    ]
