"""The operator that all table jobs are: the arguments that they have in common.

`table_job` has what one does when it runs; parsing a DAG file does not import that.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from iam_watcher import arguments
from iam_watcher.jobs.limited_operator import LimitedOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from iam_watcher.jobs.table_job.job import TableJob


class TableJobOperator(LimitedOperator):
    """Changes rows of a table in short transactions.

    If `max_rows` or `time_budget` ends a run, the next run resumes at that position. An Airflow Variable
    stores the position. A dry run lists the rows. It also takes the arguments of `LimitedOperator`,
    `TableOperator` and `DatabaseOperator`.

    :param max_share: safety limit: if the run would change more than this share (0 to 1) of the eligible
        rows, it changes no row, and the task fails without a retry. None or 1: no limit. (templated)
    """

    template_fields: Sequence[str] = (*LimitedOperator.template_fields, "max_share")

    def __init__(
        self,
        *,
        max_share: float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_share = max_share
        self._is_limited = max_share is not None
        if max_share is not None:
            arguments.check_literal(arguments.share, "max_share", max_share)

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
        return {
            "table": self.table,
            "max_rows": self.row_limit,
            "max_share": arguments.share("max_share", self.max_share) if self._is_limited else None,
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
