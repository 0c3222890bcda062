"""One watcher of `make demo`: its run, what it reports, and what the database says."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dev.airflow import Airflow

if TYPE_CHECKING:
    from pathlib import Path

    from dev.servers import MariaDB, Redis

_STARTED_TASK = re.compile(r"\[DAG TEST\] starting task_id=(\w+)")
_RUN_SECONDS = 300


@dataclass(frozen=True)
class Subject:
    """One watcher of the demo, and what it counts in its table."""

    watcher: str
    job: str
    count: str
    what: str


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
        others = [f"{rows:,} {reason}" for reason, rows in report["skipped"].items() if rows]
        if "failed" in report:
            others.append(f"{report['failed']:,} failed")
        return (
            self.subject.watcher,
            f"{report.get('examined', report.get('claimed')):,}",
            f"{report.get('changed', report.get('done')):,}",
            ", ".join(others) or "none",
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
