"""The operator that all table jobs are: what they have in common as a DAG file says it.

What one does when it runs stands in `table_run`, which parsing a DAG file need not import.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from iam_watcher import arguments
from iam_watcher.jobs.database_operator import DatabaseOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from airflow.sdk import Context

    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.jobs.table_job.run_report import Report, Words
    from iam_watcher.walk.row_change import RowRecorder


class TableJobOperator(DatabaseOperator):
    """Writes the rows of a table that a `Plan` names, in short transactions.

    :param table: name of the table, in the connection's database (schema).
    :param dry_run: count and list rows, say what the real run would do, write nothing. (templated)
    :param pace: "fast" (transactions of 0.1 s), "polite" (25 ms, and as long a rest) or a `Pace`.
    :param max_rows: write at most so many rows in a run. (templated)
    :param time_budget: begin no transaction after that long. The next run goes on where `max_rows` or
        `time_budget` ended this one (it is kept in a Variable).
    :param throttle: what holds the job back.
    :param mysql_conn_id: Airflow connection of the database.
    """

    template_fields: Sequence[str] = ("is_dry_run", "max_rows")

    def __init__(
        self,
        *,
        table: str,
        dry_run: bool | str = False,
        max_rows: int | str | None = None,
        time_budget: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.is_dry_run = dry_run  # `dry_run` is a method of every operator
        self.max_rows = max_rows
        self.time_budget = time_budget
        arguments.identifier("table", table)
        arguments.check_literal(arguments.flag, "dry_run", dry_run)
        arguments.check_literal(arguments.row_count, "max_rows", max_rows)
        if time_budget is not None:
            arguments.duration("time_budget", time_budget)

    @property
    @abstractmethod
    def words(self) -> Words:
        """What the run report says in the log."""

    @abstractmethod
    def off_because(self) -> str | None:
        """Return why this job has nothing to do by its settings, or None if it has.

        Raises:
            JobArgumentError: a rendered value is not valid.
        """

    @abstractmethod
    def plan(self, table: Table, now: datetime) -> Plan:
        """Return what to do.

        Raises:
            JobArgumentError, TableError: that can't be said of this table.
        """

    def check(self, db: Transactions, plan: Plan, now: datetime, throttler: Throttler) -> None:
        """Look at the table before the first write, in a dry run too; wait by `throttler` before long reads.

        Raises:
            TableError: what the job was told does not fit what is in it.
        """

    def writing(self, context: Context) -> AbstractContextManager[Callable[[], None]]:  # noqa: ARG002  for subclasses
        """Return a context around all writes; its value is called before each of them."""
        return nullcontext(lambda: None)

    def archive_location(self) -> str | None:
        """Return the URL of the location for what the job records, or None.

        Raises:
            JobArgumentError: a rendered value is not valid.
        """
        return None

    @abstractmethod
    def recorder(self, db: Transactions, plan: Plan, archive: Archive | None) -> RowRecorder | None:
        """Return what records the changes; `archive` is None if there is no location, see above.

        Raises:
            JobArgumentError: this job doesn't write without a location.
        """

    @abstractmethod
    def archive_facts(self, plan: Plan) -> dict[str, Any]:
        """Return the facts of the manifest that only the job knows; `kind` is one of them."""

    def finish(
        self, db: Transactions, plan: Plan, report: Report, context: Context, throttler: Throttler
    ) -> None:
        """Do what comes after the rows, in a dry run too; wait by `throttler` before each read of a table."""

    def perform(self, context: Context) -> dict[str, Any]:
        """Do the job and return its `Report` as a dictionary.

        If it ends early, the report of what was done is in the XCom all the same.
        """
        from iam_watcher.jobs.table_job.run import TableRun

        dry_run = arguments.flag("dry_run", self.is_dry_run)
        if reason := self.off_because():
            raise AirflowSkipException(f"{self.table} is left alone: {reason}")
        return TableRun(self, context, dry_run=dry_run).perform()
