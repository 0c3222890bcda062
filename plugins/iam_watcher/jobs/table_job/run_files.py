"""The files of one try of a run: its archive or undo record, and the list of a dry run."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from iam_watcher.archive.location import run_folder
from iam_watcher.archive.writer import Archive
from iam_watcher.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.job import TableJob
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.jobs.table_job.table_job_report import TableJobReport
    from iam_watcher.walk.row_change import RowRecorder


class RunFiles:
    """The files of one try of a run.

    Args:
        job: that the run does.
        report: gets the URL of the archive or undo record.
        context: of the task.
    """

    def __init__(self, job: TableJob, report: TableJobReport, context: Context) -> None:
        self._job = job
        self._report = report
        self._context = context

    @contextmanager
    def recording(self, db: Transactions, plan: Plan) -> Iterator[tuple[RowRecorder | None, Archive | None]]:
        """Yield what records the changes of the walk, and the archive; complete the archive at the end."""
        job, report = self._job, self._report
        if job.location is None:
            yield job.recorder(db, plan, None), None
            return
        archive = self.archive(job.location, plan, job.archive_facts(plan))
        try:
            yield job.recorder(db, plan, archive), archive
        except BaseException:
            # The error that ended the walk is the one to report.
            with suppress(ArchiveError):
                report.record, report.archive_bytes = archive.url(), archive.bytes
                archive.close()
            raise
        report.record, report.archive_bytes = archive.url(), archive.bytes
        archive.close()

    def archive(self, location: str, plan: Plan, facts: dict[str, Any]) -> Archive:
        """Return an archive below a location, with these facts in its manifest and those of every run."""
        ti = self._context["ti"]
        facts |= {
            "database": plan.table.database,
            "table": plan.table.name,
            "key": plan.table.key.named,
            "now": self._report.now,
            "cut_off": self._report.cut_off,
            **{name: getattr(ti, name) for name in ("dag_id", "task_id", "run_id", "try_number")},
        }
        return Archive(run_folder(location, plan.table.name, self._context), facts)
