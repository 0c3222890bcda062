"""`make demo`: run the watchers on sample rows, in private servers that end with the demo.

Exit status: 0 if the database then has exactly the rows that include/sql/sample.sql expects, 1 if not or if
something failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dev.airflow import ROOT, Airflow
from dev.demo_run import Progress, Run, Subject
from dev.expectations import differences, snapshot
from dev.folder import fresh_folder
from dev.processes import ProcessError, came_of_interrupt, interruptible, telling_of_the_end
from dev.servers import SAMPLE_FILE, MariaDB, Redis

if TYPE_CHECKING:
    from redis.client import PubSub

# IAM's authz-server reloads its secrets when it hears of a change here.
NOTIFICATIONS = "iam.cluster.notifications"
LOCKS = ("task", "clean", "cleansecret", "iam-watcher:provision_users")

_HEADINGS = ("watcher", "examined", "changed", "left alone, failed", "before → after", "job", "with Airflow")
_SHOWN_FAULTS = 10


SUBJECTS = (
    Subject(
        "disable_inactive_users", "disable", "SELECT COUNT(*) FROM user WHERE status = 1", "usable users"
    ),
    Subject("clean_policy_audit", "purge", "SELECT COUNT(*) FROM policy_audit", "audit rows"),
    Subject("clean_expired_secrets", "purge", "SELECT COUNT(*) FROM secret", "secrets"),
    Subject(
        "provision_users",
        "provision",
        "SELECT COUNT(*) FROM user_provisioning WHERE status = 'pending'",
        "pending users",
    ),
)


def main() -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".run" / "demo", help="where everything is kept"
    )
    folder = parser.parse_args().folder
    try:
        with interruptible(), fresh_folder(folder):
            return _demo(folder.absolute())
    except BaseException as error:
        if came_of_interrupt(error):
            print("\nInterrupted; everything that was started has been stopped.", file=sys.stderr)
            return 130
        if isinstance(error, ProcessError):
            print(f"\nThe demo failed: {error}", file=sys.stderr)
            return 1
        raise


def _demo(folder: Path) -> int:
    progress = Progress()
    with ExitStack() as stack, telling_of_the_end():
        progress.event("starting a private MariaDB and a private Redis")
        # The migration takes seconds of one core; the servers start beside it on the other.
        airflow = stack.enter_context(Airflow(folder / "airflow", deployment_id="demo"))
        migration = airflow.spawn("db-migrate", "db", "migrate")
        mariadb = stack.enter_context(MariaDB(folder / "mariadb"))
        redis = stack.enter_context(Redis(folder / "redis"))
        mariadb.create_schema()
        mariadb.run_script(SAMPLE_FILE)
        progress.event(f"MariaDB on port {mariadb.port} with sample rows, Redis on port {redis.port}")
        progress.state("creating Airflow's metadata database (SQLite)")
        airflow.finish(migration)
        heard = redis.client(decode_responses=True).pubsub()  # type: ignore[no-untyped-call]  # redis-py
        stack.callback(heard.close)
        heard.subscribe(NOTIFICATIONS)

        before = snapshot(mariadb)
        runs = []
        progress.event("starting the watchers by `airflow dags test`")
        for subject in SUBJECTS:
            runs.append(Run(subject, folder / subject.watcher, airflow.home, mariadb, redis))
            stack.enter_context(runs[-1].airflow)
        while [run for run in runs if run.poll(progress)]:
            progress.state(", ".join(f"{run.count():,} {run.subject.what}" for run in runs))
            time.sleep(0.5)
        progress.event("all have ended; holding every row against what it expects")
        table = [_HEADINGS, *(run.cells() for run in runs)]
        faults = differences(before, snapshot(mariadb))
        faults += [fault for run in runs for fault in run.faults()]
        faults += _redis_faults(redis, heard)
    print("\n" + _layout(table) + "\n")
    if faults:
        print(f"Not as include/sql/sample.sql expects ({len(faults)}):", file=sys.stderr)
        print("\n".join(f"  {fault}" for fault in faults[:_SHOWN_FAULTS]), file=sys.stderr)
        return 1
    print("The database holds exactly what include/sql/sample.sql expects.")
    print(f"Everything that was started has been stopped. Logs and data: {folder}")
    return 0


def _redis_faults(redis: Redis, heard: PubSub) -> list[str]:
    """Return what is not as it must be in Redis: locks are free, deleted secrets were announced."""
    with redis.client(decode_responses=True) as client:
        faults = [f"the lock {key} is still held by {client.get(key)}" for key in LOCKS if client.exists(key)]
    messages = []
    while message := heard.get_message(timeout=0.1):
        messages.append(str(message["data"]))
    if not any("SecretChanged" in text for text in messages):
        faults.append(f"no SecretChanged on the channel {NOTIFICATIONS}: IAM would keep the deleted secrets")
    return faults


def _layout(table: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
