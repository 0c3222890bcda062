"""`make demo`: run the watchers on sample rows, in private servers that end with the demo.

Exit status: 0 if the database then has exactly the rows that include/sql/sample.sql expects, 1 if not or if
something failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sqlite3
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dev.airflow import ROOT, Airflow
from dev.expectations import differences, snapshot
from dev.folder import fresh_folder
from dev.processes import ProcessError, came_of_interrupt, interruptible, telling_of_the_end
from dev.servers import SAMPLE_FILE, MariaDB, Redis

if TYPE_CHECKING:
    from redis.client import PubSub

# IAM's authz-server reloads its secrets when it hears of a change here.
NOTIFICATIONS = "iam.cluster.notifications"
LOCKS = ("task", "clean", "cleansecret", "iam-watcher:provision_users")

_HEADINGS = ("watcher", "examined", "changed", "skipped", "before → after", "job", "with Airflow")
_STARTED_TASK = re.compile(r"\[DAG TEST\] starting task_id=(\w+)")
_RUN_SECONDS = 300
_SHOWN_FAULTS = 10


@dataclass(frozen=True)
class Subject:
    """One watcher of the demo, and what it counts in its table."""

    watcher: str
    job: str
    count: str
    what: str


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


class Progress:
    """Says what happens, with the seconds since the start; on a terminal also what is going on."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._began = time.monotonic()

    def event(self, text: str) -> None:
        """Print a line that stays."""
        self._print(text, end="\n")

    def state(self, text: str) -> None:
        """Print, on a terminal only, a line that the next one replaces."""
        if self._terminal:
            self._print(text, end="")

    def _print(self, text: str, end: str) -> None:
        home = "\r\033[K" if self._terminal else ""
        print(f"{home}{time.monotonic() - self._began:4.0f} s  {text}", end=end, flush=True)


class Run:
    """One watcher, run by `airflow dags test` in an Airflow of its own.

    Three commands that store the same DAG files in one metadata database would be in each other's way;
    so each has a deployment, which share a Redis and a MariaDB.
    """

    def __init__(self, subject: Subject, home: Path, migrated: Path, mariadb: MariaDB, redis: Redis) -> None:
        self.subject = subject
        self._mariadb = mariadb
        self.before = self.count()
        self.seconds = 0.0
        self.airflow = Airflow(
            home,
            deployment_id=f"demo-{subject.watcher}",
            options={"AIRFLOW__IAM_WATCHER__ARCHIVE": f"file://{home.parent / 'archive'}"},
        )
        self.airflow.connect(iam_mysql=mariadb.airflow_uri, iam_redis=redis.airflow_uri)
        shutil.copyfile(migrated / "airflow.db", home / "airflow.db")
        self._began = time.monotonic()
        self._tasks: list[str] = []
        self._process = self.airflow.spawn("dags-test", "dags", "test", subject.watcher)

    def count(self) -> int:
        """Return how many rows of the watcher's kind there are now."""
        with closing(self._mariadb.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(self.subject.count)
            return int(cursor.fetchone()[0])

    def poll(self, progress: Progress) -> bool:
        """Tell what is new; return whether the run goes on.

        Raises:
            ProcessError: It failed or takes too long; with the end of its log.
        """
        code = self._process.returncode
        tasks = _STARTED_TASK.findall(self._process.log.read_text(errors="replace"))
        for task in tasks[len(self._tasks) :]:
            progress.event(f"{self.subject.watcher}: {task}")
        self._tasks = tasks
        if code:
            raise self._process.failure(f"ended with exit code {code}")
        self.seconds = time.monotonic() - self._began
        if self.seconds > _RUN_SECONDS:
            raise self._process.failure(f"is not done after {_RUN_SECONDS} s")
        return code is None

    def report(self) -> dict[str, Any]:
        """Return the report that the job left as its XCom.

        Raises:
            ProcessError: It left none.
        """
        query = "SELECT value FROM xcom WHERE dag_id = ? AND task_id = ? AND key = 'return_value'"
        with closing(sqlite3.connect(self.airflow.home / "airflow.db")) as connection:
            found = connection.execute(query, (self.subject.watcher, self.subject.job)).fetchone()
        if found is None:
            raise self._process.failure(f"left no report of its task {self.subject.job}")
        report: dict[str, Any] = json.loads(found[0])
        return report

    def cells(self) -> tuple[str, ...]:
        """Return its line of the final table."""
        report = self.report()
        skipped = [f"{rows:,} {reason}" for reason, rows in report["skipped"].items() if rows]
        if "failed" in report:
            skipped.append(f"{report['failed']:,} failed")
        return (
            self.subject.watcher,
            f"{report.get('examined', report.get('claimed')):,}",
            f"{report.get('changed', report.get('done')):,}",
            ", ".join(skipped) or "none",
            f"{self.before:,} → {self.count():,} {self.subject.what}",
            f"{report['duration_seconds']:.2f} s",
            f"{self.seconds:.0f} s",
        )

    def faults(self) -> list[str]:
        """Return in what the report and the database disagree."""
        report, real = self.report(), self.before - self.count()
        reported = report["changed"] if "changed" in report else report["done"] + report["failed"]
        if reported == real:
            return []
        return [f"{self.subject.watcher} reports {reported} changed rows, the database says {real}"]


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
