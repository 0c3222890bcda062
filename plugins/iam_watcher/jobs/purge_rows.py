"""Deletes the rows of a table that are old enough, or that expired long enough ago."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.retention_operator import RetentionOperator
from iam_watcher.jobs.table_job.side_effects import REDACTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.jobs.announce import Announcement
    from iam_watcher.jobs.children import Child
    from iam_watcher.jobs.table_job.purge_job import PurgeJob


IDS = frozenset({"uuid7", "ulid"})


class PurgeRowsOperator(RetentionOperator):
    """Deletes the old rows of a table, in short transactions.

    It also takes the arguments of `RetentionOperator`: `age_column`, `older_than` and other periods,
    `keep_last`, `where`, `archive`; of `TableJobOperator`: `max_share`; of `LimitedOperator`: `max_rows`,
    `time_budget`; of `TableOperator`: `table`; and of `DatabaseOperator`: `mysql_conn_id`, `pace`,
    `throttle`, `dry_run`.

    :param announce: the message that the job publishes on Redis after it has deleted rows, such as
        `announce.SECRET_CHANGED`.
    :param children: tables whose rows belong to the rows of `table`. The job deletes these rows too, children
        first: `[Child("order_lines", key="order_id")]`, or "auto" for the tables whose foreign keys refer to
        `table`. The limits count the rows of `table`. See "Parents and children" in docs/retention.md.
    :param redact: names of columns that the archive leaves out. If such a column must have a value and has no
        default, the rows can't be restored, and the job logs a warning. The same is true of rows whose
        default a unique key, a foreign key or a CHECK constraint refuses.
    :param drop_partitions: for a table that is partitioned by ranges of the age column: drop the partitions
        whose rows are all old, then delete the other old rows one by one. See "Partitions" in
        docs/retention.md.
    """

    def __init__(
        self,
        *,
        announce: Announcement | None = None,
        children: Sequence[Child] | Literal["auto"] = (),
        redact: Sequence[str] = REDACTED,
        drop_partitions: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.announce = announce
        self.children = children
        self.redact = redact
        self.drop_partitions = drop_partitions
        if announce is not None:
            from iam_watcher.jobs.announce import Announcement

            arguments.instance("announce", announce, Announcement, "an Announcement, such as SECRET_CHANGED")
        if children != ():
            from iam_watcher.jobs.children import check_children

            check_children(children, may_be_auto=True)
        arguments.listed_names("redact", redact)
        arguments.boolean("drop_partitions", drop_partitions)
        if drop_partitions:
            self._check_whole_partitions()

    def job(self) -> PurgeJob:
        """Return the purge with the arguments of this run."""
        from iam_watcher.jobs.table_job.purge_job import PurgeJob

        return PurgeJob(
            **self.retention_arguments(),
            announce=self.announce,
            children=self.children,
            redact=self.redact,
            drop_partitions=self.drop_partitions,
        )

    def _check_whole_partitions(self) -> None:
        """Refuse arguments by which a row of a partition may stay that is old enough.

        Raises:
            JobArgumentError: one is given.
        """
        given = {
            "where": self.where or None,
            "keep_last": self.keep_last,
            "orphans_of": self.orphans_of,
            "children": self.children or None,
            "max_rows": self.max_rows,
            "older_than": self.older_than if isinstance(self.older_than, dict) else None,
        }
        for name, value in given.items():
            if value is not None:
                raise JobArgumentError(
                    f"drop_partitions is set, and so is {name}, {value!r}; a partition is dropped as a "
                    "whole, whatever is in it. Leave one of the two out"
                )
        if self.age_unit in IDS:
            raise JobArgumentError(
                f"drop_partitions is set, and age_unit is {self.age_unit!r}; expected dates or whole "
                "numbers, which partitions have ranges of. Leave drop_partitions out"
            )
