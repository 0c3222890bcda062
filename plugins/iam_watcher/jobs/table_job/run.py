"""One run of a table job: connection, checks, dry run, safety limit, walk, report, in this order.

The steps share the report, the throttler and the progress, so they are one class: hence the length.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from iam_watcher.archive.format import ArchiveKind
from iam_watcher.archive.location import configured_location
from iam_watcher.database.catalogue import read_table
from iam_watcher.database.session import read_now
from iam_watcher.errors import SafetyLimitError
from iam_watcher.jobs.database_operator import connect
from iam_watcher.jobs.table_job import dry_run
from iam_watcher.jobs.table_job.run_files import RunFiles
from iam_watcher.jobs.table_job.saved_position import SavedPosition
from iam_watcher.jobs.table_job.table_job_report import TableJobReport
from iam_watcher.lock import current
from iam_watcher.lock.progress import ProgressRecord
from iam_watcher.log_lines import get_logger
from iam_watcher.walk.count import count_rows
from iam_watcher.walk.count_children import ChildCount
from iam_watcher.walk.descendants import Descendants
from iam_watcher.walk.large_family import LargeFamilies
from iam_watcher.walk.pace import Limits
from iam_watcher.walk.progress import ProgressReporter
from iam_watcher.walk.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow.sdk import Context

    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.database_operator import DatabaseOperator
    from iam_watcher.jobs.table_job.job import TableJob
    from iam_watcher.jobs.table_job.partition_drop import PartitionDrop
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.walk.child_rows import Family
    from iam_watcher.walk.progress import Progress

logger = get_logger(__name__)

# Runs the checks of the account's rights and changes nothing.
REHEARSAL = "{write} WHERE FALSE"


class TableRun:
    """One try of one run of a table job.

    Args:
        job: what to do.
        operator: connects to the database.
        context: of the task.
        dry_run: count only.
    """

    def __init__(self, job: TableJob, operator: DatabaseOperator, context: Context, *, dry_run: bool) -> None:
        self._job = job
        self._operator = operator
        self._context = context
        self._report = TableJobReport(job.table, dry_run, words=job.words, connection=operator.mysql_conn_id)
        self._files = RunFiles(job, self._report, context)
        self._throttler: Throttler
        self._reporter: ProgressReporter

    def perform(self) -> dict[str, Any]:
        """Do it and return the report as a dictionary; if it ends early, the report is in the XCom."""
        job, report = self._job, self._report
        logger.info(
            "%s of the table %s begins, by the connection %s",
            "A dry run" if report.dry_run else "A run",
            job.table,
            self._operator.mysql_conn_id,
        )
        with report.reported(self._context):
            self._connected()
        return report.as_dict()

    def _connected(self) -> None:
        job, report = self._job, self._report
        with self._operator.transactions(locked=not report.dry_run) as (connection, db):
            now = read_now(connection)
            job.look_up(db)
            plan = job.plan(read_table(db, job.table), now)
            if plan.family is not None:
                report.tree = plan.family.shown()
                report.children = dict.fromkeys((table.name for table in plan.family.tables), 0)
            report.now, report.cut_off = now.isoformat(), plan.cut_off.isoformat()
            try:
                with self._around(db):
                    job.check(db, plan, now, self._throttler)
                    report.side_effects = list(dict.fromkeys(job.side_effects))
                    if report.dry_run:
                        self._dry_run(db, plan, now)
                    else:
                        self._write(db, plan)
                    job.finish(db, plan, report, self._context, self._throttler)
            finally:
                job.fill(report)
                report.retries = db.retries

    @contextmanager
    def _around(self, db: Transactions) -> Iterator[None]:
        """Connect to the replicas of the throttle, and to the progress record."""
        job, ti = self._job, self._context["ti"]
        task = f"{ti.task_id}/{ti.map_index}"
        record = ProgressRecord(current.grant(), task=task, table=job.table)
        with closing(record), self._operator.throttling(db, job.table) as self._throttler:
            self._reporter = ProgressReporter(
                job.table, lambda progress: record.write(**asdict(self._of_the_run(progress)))
            )
            yield

    def _of_the_run(self, progress: Progress) -> Progress:
        """Return the progress of a try with the rows of earlier tries, which its share has too."""
        before = self._report.changed_before
        return replace(progress, examined=progress.examined + before, changed=progress.changed + before)

    def _dry_run(self, db: Transactions, plan: Plan, now: datetime) -> None:
        job, report = self._job, self._report
        location = job.location or configured_location()
        folder = None if location is None else f"{location}/{dry_run.FOLDER}"
        archive = None if folder is None else self._files.archive(folder, plan, {"kind": ArchiveKind.DRY_RUN})
        rows = dry_run.DryRunList(
            archive, lambda key, age, name: dry_run.described(key, name, age, plan.moment(age), now)
        )
        most = None if archive else report.most_examples
        if plan.family is None:
            self._count(db, plan, each=rows.add, most=most)
        else:
            self._count_with_children(db, plan, plan.family, each=rows.add, most=most)
        report.listed, report.examples = rows.close(), rows.examples
        report.real_run = dry_run.real_run(job, db, plan, report)
        drop = self._partition_drop(db, plan, None)
        if drop is not None and not report.over_limit:
            report.partitions, texts = drop.expected()
            report.real_run += texts

    def _write(self, db: Transactions, plan: Plan) -> None:
        job = self._job
        for statement in (plan.change.write, *plan.also_writes):
            _rehearse(db, statement, plan)
        with (
            job.writing(self._context) as before_write,
            self._files.recording(db, plan) as (recorder, archive),
        ):
            family = self._below(db, plan, archive)
            position = self._saved_position(plan)
            if job.max_share is not None and job.max_share < 1:
                self._count(db, plan)
                self._check_safety_limit()
            began = time.monotonic()
            drop = self._partition_drop(db, plan, archive)
            if drop is not None:
                drop.run(before_write, lambda: self._seconds_left(began) == 0, self._report.dropped)
            how = {"before_write": before_write, "after_write": job.committed, "recorder": recorder, **family}
            self._walk(db, plan, position, self._seconds_left(began), **how)

    def _seconds_left(self, began: float) -> float | None:
        """Return how long the run may go on that began to write then; None for no limit."""
        budget = self._job.time_budget
        return None if budget is None else max(0.0, budget.total_seconds() - (time.monotonic() - began))

    def _partition_drop(self, db: Transactions, plan: Plan, archive: Archive | None) -> PartitionDrop | None:
        connect_again = partial(connect, self._operator.mysql_conn_id)
        return self._job.partition_drop(db, plan, archive, connect_again, self._throttler, self._reporter)

    def _below(self, db: Transactions, plan: Plan, archive: Archive | None) -> dict[str, Any]:
        """Return the arguments of the walk for the rows that are deleted with others."""
        family, change, target = plan.family, plan.change, self._job.pace.target
        if family is None:
            return {}

        @contextmanager
        def second() -> Iterator[Transactions]:
            with self._operator.transactions(locked=False) as (_, transactions):
                yield transactions

        records = self._job.records(plan, archive)
        return {
            "descendants": Descendants(db, change.table, change.key, family.children, records, target),
            "large": LargeFamilies(db, change, family, records, second, target),
        }

    def _saved_position(self, plan: Plan) -> SavedPosition:
        """Return the position of earlier tries and runs, and report how many rows earlier tries changed."""
        job = self._job
        position = SavedPosition(
            self._context,
            self._database(plan),
            job.table,
            plan.table.key,
            counted=job.max_rows is not None,
            resumes=job.max_rows is not None or job.time_budget is not None,
        )
        self._report.changed_before = position.changed
        return position

    def _walk(
        self, db: Transactions, plan: Plan, position: SavedPosition, seconds: float | None, **how: Any
    ) -> None:
        job, report = self._job, self._report
        max_rows = job.max_rows
        key = plan.table.key
        report.began_after = None if position.after is None else key.shown(position.after)
        if max_rows is not None and position.changed >= max_rows:
            logger.warning(
                "The row limit is used up: earlier tries of this run changed %d rows of %s, the limit is %d. "
                "To change more, start another run.",
                position.changed,
                job.table,
                max_rows,
            )
        walk = Walk(
            db,
            plan.change,
            expected=report.examined or plan.table.rows or None,
            pace=job.pace,
            limits=Limits(
                None if max_rows is None else max(0, max_rows - position.changed),
                seconds,
            ),
            after=position.after,
            index=plan.index,
            reserve=position.reserve,
            on_chunk=position.move,
            throttler=self._throttler,
            reporter=self._reporter,
            **how,
        )
        try:
            walk.write()
        except BaseException:
            position.save(walk.changed)
            raise
        finally:
            report.take(walk.done)
            report.order = walk.order.name
            stopped_at = None if walk.order.finished else walk.order.position
            report.position = None if stopped_at is None else key.shown(stopped_at)
        position.end(stopped_at, walk.changed)

    def _database(self, plan: Plan) -> str:
        """Return the server and the name of the database: connections can change between two runs."""
        from iam_watcher.database.hook import place

        return f"{place(self._operator.mysql_conn_id)}/{plan.table.database}"

    def _count(self, db: Transactions, plan: Plan, **rows: Any) -> None:
        counted = count_rows(
            db,
            plan.change,
            also={"eligible": plan.eligible},
            age=plan.age,
            label=plan.label,
            expected=plan.table.rows or None,
            pace=self._job.pace,
            throttler=self._throttler,
            reporter=self._reporter,
            **rows,
        )
        self._report.take(counted)
        self._report.eligible = counted.also["eligible"]
        self._report.max_share = self._job.max_share

    def _count_with_children(self, db: Transactions, plan: Plan, family: Family, **rows: Any) -> None:
        below = ChildCount(db, plan.change, family)
        self._count(db, plan, descendants=below.in_span, **rows)
        for name, change in below.elsewhere():
            counted = count_rows(
                db, change, pace=self._job.pace, throttler=self._throttler, reporter=self._reporter
            )
            self._report.children[name] = counted.matched

    def _check_safety_limit(self) -> None:
        report = self._report
        if report.over_limit:
            before = report.changed_before
            earlier = f" Earlier tries of this run changed {before:,} rows." if before else ""
            raise SafetyLimitError(
                f"{report.matched:,} of {report.eligible:,} eligible rows of {report.table} match, "
                f"more than max_share={report.max_share:g}.{earlier} Check the clock, the days and the data "
                "with a dry run; if they are right, run once with a larger max_share"
            )


def _rehearse(db: Transactions, write: str, plan: Plan) -> None:
    def rehearsal() -> None:
        db.change(REHEARSAL.format(write=write), plan.change.values)
        db.commit()

    db.run(rehearsal, what=f"{write}, without rows")
