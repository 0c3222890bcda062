"""The operator that all table jobs are: the arguments that they have in common.

`table_job` has what one does when it runs; parsing a DAG file does not import that.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from iam_watcher import arguments
from iam_watcher.jobs.database_operator import DatabaseOperator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from iam_watcher.jobs.table_job.job import TableJob


class TableJobOperator(DatabaseOperator):
    """Changes rows of a table in short transactions. Takes also the arguments of `DatabaseOperator`.

    :param table: name of the table, in the connection's database (schema).
    :param dry_run: count and list rows, say what the real run would do, write nothing. (templated)
    :param max_rows: row limit: change at most so many rows in a run. (templated)
    :param max_share: safety limit: if more than this share (0 to 1) of the eligible rows would be changed,
        the run changes none, and the task fails without a retry; None or 1 for no limit. (templated)
    :param time_budget: time limit: begin no transaction after that long. If `max_rows` or `time_budget` ends
        a run, the next run resumes there; an Airflow Variable keeps the position.
    """

    template_fields: Sequence[str] = ("is_dry_run", "max_rows", "max_share")

    def __init__(
        self,
        *,
        table: str,
        dry_run: bool | str = False,
        max_rows: int | str | None = None,
        max_share: float | str | None = None,
        time_budget: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.is_dry_run = dry_run  # `dry_run` is a method of every operator
        self.max_rows = max_rows
        self.max_share = max_share
        self.time_budget = time_budget
        arguments.identifier("table", table)
        arguments.check_literal(arguments.flag, "dry_run", dry_run)
        arguments.check_literal(arguments.row_count, "max_rows", max_rows)
        if max_share is not None:
            arguments.check_literal(arguments.share, "max_share", max_share)
        if time_budget is not None:
            arguments.duration("time_budget", time_budget)

    @abstractmethod
    def job(self) -> TableJob:
        """Return the job with the arguments of this run: templates are rendered now.

        Raises:
            JobArgumentError: a rendered value is not valid.
        """

    def shared_arguments(self) -> dict[str, Any]:
        """Return the arguments that every `TableJob` takes, but for its location.

        Raises:
            JobArgumentError: a rendered value is not valid.
        """
        no_share = self.max_share in {None, "None"}
        return {
            "table": self.table,
            "max_rows": arguments.row_count("max_rows", self.max_rows),
            "max_share": None if no_share else arguments.share("max_share", self.max_share),
            "time_budget": self.time_budget,
            "pace": self.paced,
        }

    def perform(self, context: Context) -> dict[str, Any]:
        """Do the job and return its run report as a dictionary.

        If it ends early, the report of what was done is in the XCom all the same.
        """
        from iam_watcher.jobs.table_job.run import TableRun

        dry_run = arguments.flag("dry_run", self.is_dry_run)
        job = self.job()
        if job.off_because is not None:
            raise AirflowSkipException(f"{self.table} is left alone: {job.off_because}")
        return TableRun(job, self, context, dry_run=dry_run).perform()
