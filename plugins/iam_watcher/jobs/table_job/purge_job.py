"""A purge: deletes old rows, archives them before, and announces that."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from iam_watcher.archive.family_records import FamilyRecords
from iam_watcher.archive.row_archive import kept_columns, row_archive
from iam_watcher.database.catalogue import read_table
from iam_watcher.database.foreign_keys import DELETES_WITH_IT
from iam_watcher.jobs.announce import announcing
from iam_watcher.jobs.table_job.child_tree import ChildTree
from iam_watcher.jobs.table_job.partition_check import check_partitions, warn_of_detached
from iam_watcher.jobs.table_job.partition_drop import PartitionDrop
from iam_watcher.jobs.table_job.redaction import warn_of_absent, warn_of_redaction
from iam_watcher.jobs.table_job.retention_job import RetentionJob
from iam_watcher.jobs.table_job.side_effects import warn_of_side_effects
from iam_watcher.jobs.table_job.table_job_report import Words
from iam_watcher.walk.row_locks import RowLocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from airflow.sdk import Context

    from iam_watcher.archive.row_archive import RowArchive
    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.connection import Connection
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.announce import Announcement
    from iam_watcher.jobs.children import Child
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.walk.child_rows import Family
    from iam_watcher.walk.progress import ProgressReporter
    from iam_watcher.walk.row_change import RowChange, RowRecorder


@dataclass
class PurgeJob(RetentionJob):
    """Deletes old rows.

    Attributes:
        announce: published after rows were deleted.
        children: tables whose rows are deleted with these, or "auto" to find them by the foreign keys.
        redact: names of columns that the archive leaves out.
        drop_partitions: drop partitions that are old as a whole.
    """

    announce: Announcement | None
    children: Sequence[Child] | str
    redact: Sequence[str]
    drop_partitions: bool
    _family: Family | None = field(init=False, default=None)

    @property
    def words(self) -> Words:
        """What the run report says in the log."""
        return Words(f"rows of {self.table}", "deleted", "archive", "the rows can't be restored")

    def look_up(self, db: Transactions) -> None:
        """Read the tables of the children, and that of `orphans_of`."""
        super().look_up(db)
        if self.children:
            tree = ChildTree(
                db, read_table(db, self.table), self.children, archived=self.location is not None
            )
            self._family = tree.family()

    def plan(self, table: Table, now: datetime) -> Plan:
        """Return the rows to delete."""
        family = self._family
        if self.location is not None:
            for one in (table, *(family.tables if family else ())):
                self.archived(one)
        plan = super().plan(table, now)
        if family is None:
            return plan
        return replace(plan, family=family, also_writes=tuple(child.change.write for child in family.all()))

    def check(self, db: Transactions, plan: Plan, now: datetime, throttler: Throttler) -> None:
        """Warn of side effects, and check the rest."""
        tables = [plan.table, *(plan.family.tables if plan.family else ())]
        for table in tables:
            self.side_effects += warn_of_side_effects(db, table, None, apart_from=children_of(plan, table))
            if self.location is not None:
                warn_of_redaction(db, table, self.redact)
        if self.location is not None:
            warn_of_absent(tables, self.redact)
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
        facts["redacted"] = redacted
        if plan.family is not None:
            facts["children"] = [table.name for table in plan.family.tables]
            facts["belongs_to"] = [
                {"table": table, "to": to, "columns": columns}
                for table, to, columns in plan.family.pairs(plan.table.name)
            ]
        return facts

    def recorder(self, db: Transactions, plan: Plan, archive: Archive | None) -> RowRecorder | None:
        """Return what archives the rows or, if they have children, locks them."""
        found = super().recorder(db, plan, archive)
        return RowLocks(db, plan.change) if found is None and plan.family is not None else found

    def records(self, plan: Plan, archive: Archive | None) -> FamilyRecords:
        """Return what records the rows of all tables."""
        tables = plan.family.tables if plan.family is not None else ()
        columns = {table.name: self.archived(table) for table in tables} if archive is not None else {}
        return FamilyRecords(self._locking(plan, archive), archive, tables, columns)

    def _locking(self, plan: Plan, archive: Archive | None) -> Callable[[Transactions], RowRecorder]:
        def parents(db: Transactions) -> RowRecorder:
            return self.recorder(db, plan, archive) or RowLocks(db, plan.change)

        return parents

    def archived(self, table: Table) -> list[Column]:
        """Return all columns but the redacted ones."""
        return kept_columns(table, self.redact)


def children_of(plan: Plan, table: Table) -> list[tuple[str, Sequence[str]]]:
    """Return the tables whose rows are deleted with rows of a table, and the columns that refer to it."""
    if plan.family is None:
        return []
    found = [one for one in plan.family.all() if one.table.name == table.name]
    above = [one.children for one in found]
    if table.name == plan.table.name:
        above.append(plan.family.children)
    # Of the rows of the same table the server deletes none: the job does, or leaves what they refer to.
    cascading = [own for one in found for own in one.to_itself if own.on_delete == DELETES_WITH_IT]
    return [
        *((child.table.name, child.parent.by.names) for children in above for child in children),
        *((table.name, own.by.names) for own in cascading),
    ]
