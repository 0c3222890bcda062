"""A job on rows that are old enough: which rows it changes, and what it checks before its first write."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.archive.format import ArchiveKind
from iam_watcher.archive.row_archive import row_archive
from iam_watcher.jobs.conditions import ParentColumn
from iam_watcher.jobs.table_job import absent_values, conditions
from iam_watcher.jobs.table_job.age_forms import UNIX, age_column
from iam_watcher.jobs.table_job.age_sample import check_form
from iam_watcher.jobs.table_job.job import TableJob
from iam_watcher.jobs.table_job.plan import Plan, label
from iam_watcher.jobs.table_job.reference import check_reference
from iam_watcher.jobs.table_job.where_bounds import check_bounds
from iam_watcher.walk.index_order import AgeIndex
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.row_locks import RowLocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.conditions import Condition
    from iam_watcher.jobs.table_job.age_column import AgeColumn
    from iam_watcher.jobs.table_job.newest import Newest
    from iam_watcher.jobs.table_job.orphans import Orphans
    from iam_watcher.jobs.table_job.periods import Periods
    from iam_watcher.jobs.table_job.table_job_report import TableJobReport
    from iam_watcher.walk.row_change import RowRecorder


@dataclass(frozen=True)
class Update:
    """What an UPDATE sets.

    Attributes:
        assignments: SQL such as `status` = 0; "" to delete the rows.
        values: of its placeholders.
        not_done: the condition for rows that do not have these values; "" for all.
    """

    assignments: str = ""
    values: Mapping[str, object] = field(default_factory=dict)
    not_done: str = ""


@dataclass
class RetentionJob(TableJob):
    """Changes old rows.

    Attributes:
        age_column: name of the column that a row's age counts from.
        age_unit: the form of its values, see `age_forms`.
        age_format: the format of its values, or None.
        period_name: the argument that gives the periods; None if only the newest rows stay.
        periods: rows that are older, or expired longer ago, are changed.
        newest: the newest rows, which stay; None for none.
        orphans: only rows whose parent is gone are changed; None for all.
        expiry: the column says when a row expires, not when its time began.
        zone: the time zone of values that name none, of times in `where` that name none, and of the calendar.
        where: more conditions.
    """

    age_column: str
    age_unit: str
    age_format: str | None
    period_name: str | None
    periods: Periods
    newest: Newest | None
    orphans: Orphans | None
    expiry: bool
    zone: ZoneInfo
    where: Sequence[Condition]
    _parents: Table = field(init=False)
    _kinds: Table | None = field(init=False, default=None)
    _absent: list[str] = field(init=False, default_factory=list)

    def look_up(self, db: Transactions) -> None:
        """Read the tables of the parents."""
        self._kinds = self.periods.read_parents(db)
        if self.orphans:
            self._parents = self.orphans.read_parents(db)

    @property
    def off_because(self) -> str | None:
        """Why the job is off; None if it is not."""
        if self.period_name is not None and not self.expiry and not self.periods:
            return f"{self.period_name} is 0, which turns this job off"
        return None

    def plan(self, table: Table, now: datetime) -> Plan:
        """Return the rows to change."""
        age = self._age(table)
        cut_offs = self.periods.cut_offs(now, self.zone)
        old, kinds = self.periods.old(age, table, self.zone, self._kinds)
        left_out = {self._ageless: age.zero, **age.left_out}
        where, values = conditions.as_sql(self.where, table, self.zone)
        update = self.update(table, now)
        if update.not_done:
            where = f"{where} AND {update.not_done}"
        # Not in `where`, which is also a condition on other names of the table.
        meant = f"{where} AND {self.orphans.condition(table, self._parents)}" if self.orphans else where
        predicate, write_predicate = f"{old} AND {meant}", None
        counted = {reason: f"{condition} AND {meant}" for reason, condition in left_out.items()}
        if self.newest:
            behind = self.newest.behind(table, age, where)
            counted["newest"] = f"{predicate} AND ({behind}) IS NOT TRUE"
            predicate, write_predicate = f"{predicate} AND {behind}", predicate
        if age.column.name in table.key.names:
            write_predicate = f"{write_predicate or predicate} AND {table.any_row(beyond=table.key.names)}"
        change = RowChange(
            table=table.quoted,
            key=table.key,
            predicate=predicate,
            assignments=update.assignments,
            values={**age.values(cut_offs), **kinds, **values, **update.values},
            left_out=counted,
            size=table.size,
            write_predicate=write_predicate,
        )
        index = table.indexes.get(age.column.name) if age.has_index else None
        return Plan(
            table,
            change,
            cut_offs[0],
            age.shown,
            age.moment_of,
            eligible=where,
            label=label(table),
            index=(
                AgeIndex(index, age.column.quoted, table.rows, old, left_out, age.position) if index else None
            ),
        )

    def check(self, db: Transactions, plan: Plan, now: datetime, throttler: Throttler) -> None:
        """Check the columns that refer to parents, the conditions, and a sample of the age column.

        Kinds of `older_than` and values of `where` that no row has are logged.
        """
        if self.orphans:
            check_reference(db, "orphans_of", plan.table, self.orphans.key, self._parents)
        if isinstance(self.periods.column, ParentColumn) and self._kinds:
            check_reference(db, "older_than", plan.table, self.periods.column.key, self._kinds)
        conditions.rehearse(db, plan, "where")
        age = self._age(plan.table)
        check_bounds(db, plan.table, self.where, self.zone)
        self.periods.check(db, self._kinds or plan.table)
        if self.newest:
            self.newest.check(db, plan.table, age)
        if age.is_checked:
            check_form(
                db,
                plan,
                age,
                self.used_columns(),
                now,
                expiry=self.expiry,
                pace=self.pace,
                throttler=throttler,
            )
        with_kind = self._kinds or plan.table
        kinds = absent_values.kinds(self.periods, with_kind)
        self._absent = absent_values.warn_of_absent(db, with_kind, self.zone, "older_than", kinds, throttler)
        texts = absent_values.left_alone(self.where, plan.table)
        self._absent += absent_values.warn_of_absent(db, plan.table, self.zone, "where", texts, throttler)

    def fill(self, report: TableJobReport) -> None:
        """Report values that no row has."""
        if report.dry_run:
            report.real_run += self._absent

    def recorder(self, db: Transactions, plan: Plan, archive: Archive | None) -> RowRecorder | None:
        """Return what archives the rows, or checks under lock which of them are not among the newest."""
        if archive is None:
            return RowLocks(db, plan.change) if self.newest else None
        return row_archive(db, plan.change, plan.table, self.archived(plan.table), archive)

    def archive_facts(self, plan: Plan) -> dict[str, Any]:
        """Return what a restore needs to know."""
        kept = {column.name: column.data_type for column in self.archived(plan.table)}
        return {"kind": ArchiveKind.DELETED_ROWS, "columns": kept}

    def update(self, table: Table, now: datetime) -> Update:  # noqa: ARG002  for subclasses
        """Return what an UPDATE sets; nothing to delete the rows.

        Raises:
            TableError: the table can't have these values.
        """
        return Update()

    def used_columns(self) -> list[str]:
        """Return the names of the columns in the condition for eligible rows, and the age column."""
        return [self.age_column, *conditions.columns(self.where)]

    @abstractmethod
    def archived(self, table: Table) -> list[Column]:
        """Return the columns that the archive has.

        Raises:
            TableError: an archive can't have one of them.
        """

    @property
    def _ageless(self) -> str:
        """The reason why rows with a zero in the age column stay."""
        return "never_expires" if self.age_unit in UNIX and self.expiry else "zero_date"

    def _age(self, table: Table) -> AgeColumn:
        return age_column(table, self.age_column, unit=self.age_unit, form=self.age_format, zone=self.zone)
