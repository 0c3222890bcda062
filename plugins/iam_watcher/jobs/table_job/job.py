"""What a table job is to its run: the run calls these methods, in the order in which they stand here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from airflow.sdk import Context

    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.connection import Connection
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.partition_drop import PartitionDrop
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.jobs.table_job.table_job_report import TableJobReport, Words
    from iam_watcher.walk.child_rows import Records
    from iam_watcher.walk.pace import Pace
    from iam_watcher.walk.progress import ProgressReporter
    from iam_watcher.walk.row_change import RowRecorder


@dataclass
class TableJob(ABC):
    """Changes rows of a table in one walk, with the arguments of one run.

    Attributes:
        table: name of the table.
        max_rows: the row limit; None for none.
        max_share: the safety limit; None for none.
        time_budget: the time limit; None for none.
        pace: how hard to work.
        location: URL of the location for what undoes the job; None for none.
        side_effects: foreign keys and triggers by which the server changes other rows, known from `check` on.
    """

    table: str
    max_rows: int | None
    max_share: float | None
    time_budget: timedelta | None
    pace: Pace
    location: str | None
    side_effects: list[str] = field(init=False, default_factory=list)

    @property
    @abstractmethod
    def words(self) -> Words:
        """What the run report says in the log."""

    @property
    @abstractmethod
    def off_because(self) -> str | None:
        """Why this job has nothing to do by its arguments; None if it has."""

    def look_up(self, db: Transactions) -> None:  # noqa: B027  a hook
        """Read what `plan` needs to know of other tables.

        Raises:
            TableError: another table is not as the arguments say.
        """

    @abstractmethod
    def plan(self, table: Table, now: datetime) -> Plan:
        """Return what to do.

        Raises:
            JobArgumentError, TableError: the arguments don't fit this table.
        """

    def check(self, db: Transactions, plan: Plan, now: datetime, throttler: Throttler) -> None:  # noqa: B027  a hook
        """Look at the table before the first write, in a dry run too; wait by `throttler` before long reads.

        Raises:
            TableError: an argument does not fit what is in the table.
        """

    def writing(self, context: Context) -> AbstractContextManager[Callable[[], None]]:  # noqa: ARG002  for subclasses
        """Return a context around all writes; the run calls its value before each of them."""
        return nullcontext(lambda: None)

    @abstractmethod
    def archive_facts(self, plan: Plan) -> dict[str, Any]:
        """Return the facts of the manifest that only the job knows; `kind` is one of them."""

    @abstractmethod
    def recorder(self, db: Transactions, plan: Plan, archive: Archive | None) -> RowRecorder | None:
        """Return what records the changes; `archive` is None if `location` is.

        Raises:
            JobArgumentError: this job doesn't write without a location.
        """

    def partition_drop(  # noqa: PLR0917  one caller
        self,
        db: Transactions,  # noqa: ARG002  for subclasses
        plan: Plan,  # noqa: ARG002
        archive: Archive | None,  # noqa: ARG002
        connect: Callable[[], Connection],  # noqa: ARG002
        throttler: Throttler,  # noqa: ARG002
        reporter: ProgressReporter,  # noqa: ARG002
    ) -> PartitionDrop | None:
        """Return what drops partitions before the walk; None if no partition is to be dropped."""
        return None

    def records(self, plan: Plan, archive: Archive | None) -> Records:
        """Return what records the rows of all tables of `plan.family`; called only if there is one."""
        raise NotImplementedError

    def committed(self) -> None:  # noqa: B027  a hook
        """Count what only the job knows of a transaction of the walk, which is committed."""

    def fill(self, report: TableJobReport) -> None:  # noqa: B027  a hook
        """Add to the report what only the job knows, even if the run ends early."""

    def finish(  # noqa: B027  a hook
        self, db: Transactions, plan: Plan, report: TableJobReport, context: Context, throttler: Throttler
    ) -> None:
        """Do what comes after the rows, in a dry run too; wait by `throttler` before each read of a table."""
