"""Runs jobs as Airflow's task runner does, but without an Airflow, and measures their transactions.

A job has its operator's checks, connection, recorder, archive and run report. Its log lines go to a file.
There is no lock, and no store for the position of a retry.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import structlog

# Imported now, so that the time of no run has the imports in it.
from iam_watcher.database import hook, transactions  # noqa: F401
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.row_processing import run as _  # noqa: F401
from iam_watcher.jobs.table_job import run, saved_position  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from airflow.sdk import Context

    from dev.servers import MariaDB
    from iam_watcher.jobs.limited_operator import LimitedOperator
    from iam_watcher.jobs.table_job_operator import TableJobOperator

LOGGER = "iam_watcher"


class TimedTransactions(transactions.Transactions):
    """Transactions that record the time of the longest one.

    Attributes:
        longest: seconds from its first statement to the end of its commit.
    """

    longest = 0.0
    _began: float | None = None

    def read(self, query: str, values: Mapping[str, object] | None = None) -> Any:
        """Return all rows of a query."""
        self._begin()
        return super().read(query, values)

    def change(self, query: str, values: Mapping[str, object] | None = None) -> int:
        """Run a statement that writes."""
        self._begin()
        return super().change(query, values)

    def commit(self) -> None:
        """Commit."""
        super().commit()
        if self._began is not None:
            self.longest = max(self.longest, time.monotonic() - self._began)
            self._began = None

    def _begin(self) -> None:
        if self._began is None:
            self._began = time.monotonic()


class TaskInstance:
    """What a job needs of Airflow's task instance."""

    dag_id, task_id, run_id, map_index, try_number = "bench", "job", "run", -1, 1
    id = "bench"

    def xcom_push(self, key: str, value: Any) -> None:
        """Ignore the report of a run that fails: its error says enough."""


def perform(server: MariaDB, operator: LimitedOperator, *, as_admin: bool = False) -> dict[str, Any]:
    """Run a job, and return its run report.

    Args:
        server: with the tables. The job's log lines go to a file in its folder.
        operator: of the job.
        as_admin: by the account that may do everything, for tables that are not IAM's.
    """
    uri = server.airflow_admin_uri if as_admin else server.airflow_uri
    os.environ[f"AIRFLOW_CONN_{operator.mysql_conn_id.upper()}"] = uri
    with _logging_into(server.folder / f"job-{os.getpid()}.log"):
        return operator.perform(cast("Context", {"ti": TaskInstance()}))


def walk(server: MariaDB, operator: TableJobOperator, *, as_admin: bool = False) -> float:
    """Run a job as `perform` does, and return the seconds of its longest transaction."""
    found: list[TimedTransactions] = []

    def timed(*arguments: Any, **options: Any) -> TimedTransactions:
        found.append(TimedTransactions(*arguments, **options))
        return found[-1]

    with mock.patch.object(transactions, "Transactions", timed):
        perform(server, operator, as_admin=as_admin)
    return max(one.longest for one in found)


def purge(server: MariaDB, days: int, **options: Any) -> float:
    """Delete old rows of policy_audit with our job, and return the seconds of the longest transaction."""
    job = PurgeRowsOperator(
        task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=days, **options
    )
    return walk(server, job)


@contextmanager
def _logging_into(path: Path) -> Iterator[None]:
    """Write the jobs' log lines into a file, as JSON, which is what a task's log is."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.FileHandler(path, mode="w")
    handler.setFormatter(formatter)
    logger = logging.getLogger(LOGGER)  # noqa: TID251  it logs nothing itself
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a terminal gets none of them
    try:
        yield
    finally:
        logger.setLevel(before[0])
        logger.propagate = before[1]
        logger.removeHandler(handler)
        handler.close()
