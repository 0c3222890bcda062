"""A purge: deletes old rows, archives them before, and announces that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iam_watcher.archive.row_archive import kept_columns, row_archive
from iam_watcher.jobs.announce import announcing
from iam_watcher.jobs.table_job.partition_check import check_partitions, warn_of_detached
from iam_watcher.jobs.table_job.partition_drop import PartitionDrop
from iam_watcher.jobs.table_job.retention_job import RetentionJob
from iam_watcher.jobs.table_job.side_effects import warn_of_absent, warn_of_redaction, warn_of_side_effects
from iam_watcher.jobs.table_job.table_job_report import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from airflow.sdk import Context

    from iam_watcher.archive.row_archive import RowArchive
    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Connection, Transactions
    from iam_watcher.jobs.announce import Announcement
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.walk.progress import ProgressReporter
    from iam_watcher.walk.row_change import RowChange


@dataclass
class PurgeJob(RetentionJob):
    """Deletes old rows.

    Attributes:
        announce: published after rows were deleted.
        redact: names of columns that the archive leaves out.
        drop_partitions: drop partitions that are old as a whole.
    """

    announce: Announcement | None
    redact: Sequence[str]
    drop_partitions: bool

    @property
    def words(self) -> Words:
        """What the run report says in the log."""
        return Words(f"rows of {self.table}", "deleted", "archive", "the rows can't be restored")

    def plan(self, table: Table, now: datetime) -> Plan:
        """Return the rows to delete."""
        if self.location is not None:
            self.archived(table)
        return super().plan(table, now)

    def check(self, db: Transactions, plan: Plan, now: datetime, throttler: Throttler) -> None:
        """Warn of side effects, and check the rest."""
        warn_of_side_effects(db, plan.table, "DELETE")
        if self.location is not None:
            warn_of_redaction(plan.table, self.redact)
            warn_of_absent(plan.table, self.redact)
        if self.drop_partitions:
            age = self._age(plan.table)
            check_partitions(db, plan.table, age, plan.change.values["cut_off0"])
        else:
            warn_of_detached(db, plan.table)
        super().check(db, plan, now, throttler)

    def partition_drop(  # noqa: PLR0917  one caller
        self,
        db: Transactions,
        plan: Plan,
        archive: Archive | None,
        connect: Callable[[], Connection],
        throttler: Throttler,
        reporter: ProgressReporter,
    ) -> PartitionDrop | None:
        """Return what drops partitions, if that is asked for."""
        if not self.drop_partitions:
            return None
        archive_of = None
        if archive is not None:
            columns, kept = self.archived(plan.table), archive

            def archive_of(change: RowChange) -> RowArchive:
                return row_archive(db, change, plan.table, columns, kept)

        return PartitionDrop(
            db,
            plan,
            self._age(plan.table),
            connect,
            archive_of=archive_of,
            pace=self.pace,
            throttler=throttler,
            reporter=reporter,
        )

    def writing(self, context: Context) -> AbstractContextManager[Callable[[], None]]:
        """Announce what is deleted, if there is something to announce."""
        if self.announce is None:
            return super().writing(context)
        return announcing(self.announce, run=str(context["ti"].id))

    def archive_facts(self, plan: Plan) -> dict[str, Any]:
        """Return what a restore needs to know."""
        facts = super().archive_facts(plan)
        columns = plan.table.columns.values()
        redacted = [c.name for c in columns if c.name not in facts["columns"] and not c.generated]
        return {**facts, "redacted": redacted}

    def archived(self, table: Table) -> list[Column]:
        """Return all columns but the redacted ones."""
        return kept_columns(table, self.redact)
