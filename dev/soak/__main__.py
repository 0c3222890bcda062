"""`make soak`: test the lock under random faults, for five minutes or SOAK_SECONDS.

Eight processes acquire, renew, work under and release three locks, with the lease, the renewal and the
database lock of a Watcher. During the test, processes are killed and stopped, and Redis is killed, stopped,
emptied and cut off. A witness that does not use Redis records what happens, and the record is judged at the
end (dev/soak/witness.py). The seed is printed, and SOAK_SEED repeats it. It decides all choices, but not
the timing.

Exit status: 0 if the last line is the verdict "held", 1 if not, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import random
import secrets
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

from dev.airflow import ROOT, environment
from dev.folder import fresh_folder
from dev.processes import ProcessError, interruptible
from dev.servers import MariaDB, Redis

if TYPE_CHECKING:
    from pathlib import Path

    from dev.soak.faults import Faults
    from dev.soak.witness import Witness
    from dev.soak.worker import Place

PROCESSES = 8
PLAIN, IN_DATABASE = ("plain-1", "plain-2"), ("in_database",)
SECONDS = 300
SLACK = 2.0  # seconds beyond the lease that a crash may block others
OVERTAKEN_AT_MOST = 2 * PROCESSES
TABLE = (
    "CREATE DATABASE soak",
    "CREATE TABLE soak.step (id INT AUTO_INCREMENT PRIMARY KEY, lock_key VARCHAR(99), hold VARCHAR(99))",
    "GRANT SELECT, INSERT ON soak.* TO iam_watcher",
)


def main() -> int:
    """Run the soak and return the exit status."""
    seconds = float(os.environ.get("SOAK_SECONDS") or SECONDS)
    seed = int(os.environ.get("SOAK_SEED") or secrets.randbelow(10**9))
    try:
        with interruptible(), fresh_folder(ROOT / ".run" / "soak") as folder:
            # Airflow reads these when `connection` first imports it.
            os.environ.update(environment(folder / "airflow", deployment_id="soak"))
            with Redis(folder / "redis") as redis, MariaDB(folder / "mariadb") as mariadb:
                return _soak(redis, mariadb, folder, seconds, seed)
    except KeyboardInterrupt:
        return 130
    except ProcessError as error:
        print(error, file=sys.stderr)
        return 1


def _soak(redis: Redis, mariadb: MariaDB, folder: Path, seconds: float, seed: int) -> int:
    from dev.soak.crew import Crew
    from dev.soak.faults import Faults
    from dev.soak.witness import Witness
    from dev.soak.worker import LEASE, Place

    with closing(mariadb.connect(database="")) as connection, connection.cursor() as cursor:
        for statement in TABLE:
            cursor.execute(statement)
    place = Place(redis, mariadb, folder / "witness.jsonl", PLAIN, IN_DATABASE)
    rng = random.Random(seed)  # noqa: S311  a repeatable run, not a secret
    print(f"soak: {seconds:g} s, seed {seed}, {PROCESSES} processes, lease {LEASE:g} s")
    started = time.monotonic()
    with closing(Witness(place.witness)) as witness:
        crew = Crew(place, rng, PROCESSES)
        try:
            faults = Faults(place, crew, witness, rng)
            while (spent := time.monotonic() - started) < seconds:
                print(f"{spent:6.1f} {faults.inject()}", flush=True)
        finally:
            crew.end()
        return _report(place, witness, faults, crew.failures)


def _report(place: Place, witness: Witness, faults: Faults, failures: list[str]) -> int:
    from dev.soak.witness import interleaved, judge
    from dev.soak.worker import LEASE, RENEW_EVERY

    found = judge(witness.read(), lease=LEASE, overtaken_at_most=OVERTAKEN_AT_MOST)
    with closing(place.mariadb.connect("soak")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT lock_key, hold FROM step ORDER BY id")
        rows = list(cursor.fetchall())
    overlaps = [*found.overlaps, *interleaved(rows)]
    block = max(faults.blocks, default=0.0)
    checks = {
        "overlap": not overlaps,
        "crash blocked too long": block <= LEASE + SLACK,
        "starvation": not found.starved,
        "not all locks went on after a fault": not faults.not_settled,
        "process failed": not failures,
        "a lock was never acquired": all(found.acquisitions[key] for key in (*PLAIN, *IN_DATABASE)),
        "no crash was measured": bool(faults.blocks),
    }
    print(*overlaps, *found.starved, *faults.not_settled, *failures, sep="\n")
    print("faults: " + ", ".join(f"{number} {kind}" for kind, number in faults.injected.most_common()))
    print(
        f"acquisitions: {found.acquisitions.total()} "
        f"({', '.join(f'{key} {number}' for key, number in sorted(found.acquisitions.items()) if key)})\n"
        f"overlaps: {len(overlaps)} (in_database rows: {len(rows)})\n"
        f"longest block after a crash: {block:.1f} s of {len(faults.blocks)} (at most {LEASE + SLACK:g})\n"
        f"starved waiters: {len(found.starved)} (longest wait {found.longest_wait:.1f} s, "
        f"overtaken at most {found.most_overtaken} times)\n"
        "what a plain lease can't exclude, and the database lock does:\n"
        f"  steps beside a new holder, after Redis lost its keys or a forced release: {found.beside}, "
        f"until {found.longest_beside:.2f} s (renewals are {RENEW_EVERY:g} s apart)\n"
        f"  steps checked in time and written late, by a process that was stopped between: {found.late}"
    )
    wrong = [name for name, well in checks.items() if not well]
    print(f"verdict: {'FAILED: ' + ', '.join(wrong) if wrong else 'held'}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
