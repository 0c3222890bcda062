"""Runs the jobs as their operators do, without Airflow, and measures their transactions."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from iam_watcher.archive.storage import Folder
from iam_watcher.archive.writer import Archive
from iam_watcher.database.catalogue import read_table
from iam_watcher.database.session import read_now, set_up
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.table_job.retention_job import RetentionJob
from iam_watcher.walk.count import count_rows
from iam_watcher.walk.descendants import Descendants
from iam_watcher.walk.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dev.servers import MariaDB
    from iam_watcher.jobs.table_job_operator import TableJobOperator


class TimedTransactions(Transactions):
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


def walk(server: MariaDB, operator: TableJobOperator, *, as_admin: bool = False) -> float:
    """Run a job with its safety limit and archive, and return the seconds of its longest transaction.

    Args:
        server: with the tables.
        operator: of the job.
        as_admin: by the account that may do everything, for tables that are not IAM's.
    """
    connect = server.connect if as_admin else server.connect_as_watcher
    connection = connect(autocommit=False)
    set_up(connection)
    job = operator.job()
    with closing(TimedTransactions(connection)) as db:
        now = read_now(connection)
        job.look_up(db)
        plan = job.plan(read_table(db, job.table), now)
        if job.max_share is not None and job.max_share < 1:
            count_rows(db, plan.change, also={"eligible": plan.eligible}, age=plan.age, pace=job.pace)
        location = job.location
        if plan.family is not None:
            change, children, target = plan.change, plan.family.children, job.pace.target
            descendants = Descendants(db, change.table, change.key, children, job.records(plan, None), target)
            # No family is too large for one transaction.
            recorder = job.recorder(db, plan, None)
            Walk(db, change, pace=job.pace, recorder=recorder, descendants=descendants).write()
        elif location is None:
            recorder = job.recorder(db, plan, None) if isinstance(job, RetentionJob) else None
            Walk(db, plan.change, pace=job.pace, index=plan.index, recorder=recorder).write()
        else:
            archive = Archive(Folder(location), {"now": now.isoformat(), **job.archive_facts(plan)})
            Walk(db, plan.change, pace=job.pace, recorder=job.recorder(db, plan, archive)).write()
            archive.close()
        return db.longest


def purge(server: MariaDB, days: int, **options: Any) -> float:
    """Delete old rows of policy_audit with our job, and return the seconds of the longest transaction."""
    job = PurgeRowsOperator(
        task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=days, **options
    )
    return walk(server, job)
