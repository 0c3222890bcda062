"""`make bench`: compare the jobs and the lock with other programs, on private servers.

SUBJECTS="lock waiters" measures a part. Each subject is a module of this folder with a function
`measure(folder)` that returns its results. To add a subject, add it to SUBJECTS. The command writes
bench/results.json, a list of `{"name", "ratio", "target", "ok"}`, and prints the results as a table.

Exit status: 0 if every target is met, 1 if not or if a subject failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.harness import save, table
from dev.airflow import ROOT, environment
from dev.folder import fresh_folder
from dev.processes import ProcessError, interruptible

if TYPE_CHECKING:
    from bench.harness import Result

SUBJECTS = (
    "lock",
    "handover",
    "waiters",
    "purge",
    "keys",
    "partitions",
    "neighbours",
    "users",
    "archive",
    "retention",
    "children",
    "rows",
    "queue",
    "schedule",
    "imports",
    "page",
    "guard",
    "at_once",
    "killed_guard",
    "many",
)
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Measure the subjects and return the exit status."""
    wanted = os.environ.get("SUBJECTS", "").split() or SUBJECTS
    if unknown := set(wanted) - set(SUBJECTS):
        print(f"SUBJECTS: {sorted(unknown)} unknown; expected some of {SUBJECTS}", file=sys.stderr)
        return 1
    results: list[Result] = []
    try:
        with interruptible(), fresh_folder(ROOT / ".run" / "bench") as folder:
            # Airflow reads these when a subject first imports it.
            quiet = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}  # a peer logs each of its acquisitions
            os.environ.update(environment(folder / "airflow", deployment_id="bench", options=quiet))
            for subject in wanted:
                print(f"bench: {subject}", file=sys.stderr, flush=True)
                module = importlib.import_module(f"bench.{subject}")
                results += module.measure(folder / subject)
    except KeyboardInterrupt:
        return 130
    except ProcessError as error:
        print(error, file=sys.stderr)
        return 1
    save(results, RESULTS)
    print(table(results))
    return 0 if all(one.ok for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
