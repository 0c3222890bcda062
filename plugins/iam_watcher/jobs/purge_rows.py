"""Deletes the rows of a table that are old enough, or that expired long enough ago."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.jobs.announce import Announcement
from iam_watcher.jobs.retention_operator import RetentionOperator
from iam_watcher.jobs.table_job.side_effects import REDACTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.jobs.table_job.purge_job import PurgeJob


class PurgeRowsOperator(RetentionOperator):
    """Deletes the rows of a table whose age column lies far enough in the past, in short transactions.

    Takes also the arguments of `RetentionOperator`: `age_column`, `older_than` and the like, `keep_last`,
    `where`, `archive`; of `TableJobOperator`: `max_share`; of `LimitedOperator`: `table`, `max_rows`,
    `time_budget`; and of `DatabaseOperator`: `mysql_conn_id`, `pace`, `throttle`, `dry_run`.

    :param announce: published on Redis after rows were deleted, such as `announce.SECRET_CHANGED`.
    :param redact: names of columns that are left out of the archive. If one must have a value and has no
        default, the rows can't be restored; the job warns about this.
    """

    def __init__(
        self,
        *,
        announce: Announcement | None = None,
        redact: Sequence[str] = REDACTED,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.announce = announce
        self.redact = redact
        if announce is not None:
            arguments.instance("announce", announce, Announcement, "an Announcement, such as SECRET_CHANGED")
        arguments.listed_names("redact", redact)

    def job(self) -> PurgeJob:
        """Return the purge with the arguments of this run."""
        from iam_watcher.jobs.table_job.purge_job import PurgeJob

        return PurgeJob(**self.retention_arguments(), announce=self.announce, redact=self.redact)
