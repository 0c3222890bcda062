"""`make demo`: the three watchers at work on sample rows, in servers that live only as long as it does.

Exit status: 0 if the database then holds exactly what include/sql/sample.sql expects, 1 if not or if
something failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import re
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
from dev.processes import ProcessError, interruptible
from dev.servers import MariaDB, Redis

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.client import PubSub

    from dev.processes import Process

SAMPLE_FILE = ROOT / "include" / "sql" / "sample.sql"
# IAM's authz-server reloads its secrets when it hears of a change here.
NOTIFICATIONS = "iam.cluster.notifications"
LOCKS = ("task", "clean", "cleansecret")
_SHOWN_FAULTS = 10
_STARTED_TASK = re.compile(r"\[DAG TEST\] starting task_id=(\w+)")
_SECONDS_PER_AIRFLOW_COMMAND = 300


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
)


_HEADINGS = ("watcher", "examined", "changed", "skipped", "before → after", "time of the job", "with Airflow")


@dataclass(frozen=True)
class Outcome:
    """What one watcher did: by its own report, and by our count before and after."""

    subject: Subject
    report: dict[str, Any]
    before: int
    after: int
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """Return its line of the final table."""
        skipped = [f"{rows:,} {reason}" for reason, rows in self.report["skipped"].items() if rows]
        return (
            self.subject.watcher,
            f"{self.report['examined']:,}",
            f"{self.report['changed']:,}",
            ", ".join(skipped) or "none",
            f"{self.before:,} → {self.after:,} {self.subject.what}",
            f"{self.report['duration_seconds']:.2f} s",
            f"{self.seconds:.0f} s",
        )

    def faults(self) -> list[str]:
        """Return in what the report and the database disagree."""
        changed = self.before - self.after
        if self.report["changed"] == changed:
            return []
        return [f"{self.subject.watcher} reports {self.report['changed']} changed rows; there were {changed}"]


class Steps:
    """Says what is being done: a line that counts the seconds on a terminal, else a line per event."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._began = time.monotonic()
        self._last = ""

    def show(self, text: str, *, done: bool = False) -> None:
        """Show a step's state; `done` ends its line."""
        if self._live:
            seconds = f"{time.monotonic() - self._began:4.0f} s"
            print(f"\r\033[K{seconds}  {text}", end="\n" if done else "", flush=True)
        elif text != self._last:
            print(f"{time.monotonic() - self._began:4.0f} s  {text}", flush=True)
        self._last = text

    def wait(self, process: Process, state: Callable[[], str]) -> None:
        """Show `state()` until the process has ended.

        Raises:
            ProcessError: It failed or took too long; with the end of its log.
        """
        deadline = time.monotonic() + _SECONDS_PER_AIRFLOW_COMMAND
        while process.wait(0.5) is None:
            self.show(state())
            if time.monotonic() > deadline:
                raise process.failure(f"is not done after {_SECONDS_PER_AIRFLOW_COMMAND} s")
        if process.returncode:
            raise process.failure(f"ended with exit code {process.returncode}")


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
    except KeyboardInterrupt:
        print("\nInterrupted; everything that was started has been stopped.", file=sys.stderr)
        return 130
    except ProcessError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1


def _demo(folder: Path) -> int:
    steps = Steps()
    with ExitStack() as stack:
        airflow = stack.enter_context(Airflow(folder / "airflow", deployment_id="demo"))
        # Takes seconds of one core; the servers start beside it on the other.
        migration = airflow.spawn("db-migrate", "db", "migrate")
        steps.show("starting a private MariaDB and a private Redis")
        mariadb = stack.enter_context(MariaDB(folder / "mariadb"))
        redis = stack.enter_context(Redis(folder / "redis"))
        mariadb.create_schema()
        mariadb.run_script(SAMPLE_FILE)
        steps.show(f"MariaDB on port {mariadb.port} with sample rows, Redis on port {redis.port}", done=True)
        airflow.connect(iam_mysql=mariadb.airflow_uri, iam_redis=redis.airflow_uri)
        steps.wait(migration, lambda: "creating Airflow's metadata database (SQLite)")
        steps.show("Airflow's metadata database (SQLite) is ready", done=True)

        heard = redis.client(decode_responses=True).pubsub()  # type: ignore[no-untyped-call]  # redis-py
        stack.callback(heard.close)
        heard.subscribe(NOTIFICATIONS)
        before = snapshot(mariadb)
        outcomes = [_run(subject, airflow, mariadb, steps) for subject in SUBJECTS]
        wrong = differences(before, snapshot(mariadb))
        wrong += [sentence for outcome in outcomes for sentence in outcome.faults()]
        wrong += _redis_faults(redis, heard)
    _print_table(outcomes)
    if wrong:
        print(f"\nNot as include/sql/sample.sql expects ({len(wrong)}):", file=sys.stderr)
        print("\n".join(f"  {sentence}" for sentence in wrong[:_SHOWN_FAULTS]), file=sys.stderr)
        return 1
    print("\nThe database holds exactly what include/sql/sample.sql expects.")
    print(f"Everything that was started has been stopped; logs and data are in {folder}")
    return 0


def _run(subject: Subject, airflow: Airflow, mariadb: MariaDB, steps: Steps) -> Outcome:
    """Run one watcher by `airflow dags test`, showing how far it is."""
    before = _count(mariadb, subject)
    began = time.monotonic()
    process = airflow.spawn(subject.watcher, "dags", "test", subject.watcher)

    def state() -> str:
        tasks = _STARTED_TASK.findall(process.log.read_text(errors="replace"))
        task = f"task {tasks[-1]}" if tasks else "starting Airflow"
        return f"{subject.watcher}: {task}, {_count(mariadb, subject):,} {subject.what}"

    steps.wait(process, state)
    seconds = time.monotonic() - began
    steps.show(f"{subject.watcher} is done", done=True)
    return Outcome(subject, _report(airflow, process, subject), before, _count(mariadb, subject), seconds)


def _count(mariadb: MariaDB, subject: Subject) -> int:
    with closing(mariadb.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(subject.count)
        return int(cursor.fetchone()[0])


def _report(airflow: Airflow, process: Process, subject: Subject) -> dict[str, Any]:
    """Return the report that the job left as its XCom."""
    query = "SELECT value FROM xcom WHERE dag_id = ? AND task_id = ? AND key = 'return_value'"
    with closing(sqlite3.connect(airflow.home / "airflow.db")) as connection:
        found = connection.execute(query, (subject.watcher, subject.job)).fetchone()
    if found is None:
        raise process.failure(f"left no report of its task {subject.job}")
    report: dict[str, Any] = json.loads(found[0])
    return report


def _redis_faults(redis: Redis, heard: PubSub) -> list[str]:
    """Return what is not as it must be in Redis: locks are free, deleted secrets were announced."""
    with redis.client(decode_responses=True) as client:
        faults = [f"the lock {key} is still held by {client.get(key)}" for key in LOCKS if client.exists(key)]
    messages = []
    while message := heard.get_message(timeout=0.1):
        messages.append(str(message["data"]))
    if not any("SecretChanged" in text for text in messages):
        faults.append(f"no SecretChanged on the channel {NOTIFICATIONS}, so IAM keeps the deleted secrets")
    return faults


def _print_table(outcomes: list[Outcome]) -> None:
    rows = [_HEADINGS, *(outcome.cells() for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
