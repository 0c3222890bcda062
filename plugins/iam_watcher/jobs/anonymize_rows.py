"""Sets columns of old rows to other values: to make the rows anonymous, or to mark them deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.new_values import NOW, Hashed, Now
from iam_watcher.jobs.retention_operator import RetentionOperator
from iam_watcher.jobs.table_job import conditions
from iam_watcher.jobs.table_job.side_effects import REDACTED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.jobs.table_job.anonymize_job import AnonymizeJob

__all__ = ["NOW", "AnonymizeRowsOperator", "Hashed"]


class AnonymizeRowsOperator(RetentionOperator):
    """Sets columns of the old rows of a table, in short transactions.

    The job changes each row once. If a column is set to `NOW`, the job changes only rows with a NULL in this
    column. Otherwise it changes only rows that don't have all the values of `set`. An archive has the old
    values of the columns in `set`, and `RestoreRowsOperator` restores them. Without an archive, the old
    values are lost.

    It also takes the arguments of `RetentionOperator`: `age_column`, `older_than` and other periods,
    `keep_last`, `where`, `archive`; of `TableJobOperator`: `max_share`; of `LimitedOperator`: `max_rows`,
    `time_budget`; of `TableOperator`: `table`; and of `DatabaseOperator`: `mysql_conn_id`, `pace`,
    `throttle`, `dry_run`.

    The database account needs UPDATE on the columns of `set`.

    :param set: column → new value: None, a value that the column can hold, `NOW` (for one column, a
        TIMESTAMP, DATETIME or DATE that can be NULL), or `Hashed(...)`, which needs a column that is set to
        `NOW`.
    :param redact: names of columns whose old values the archive leaves out. By default `secretKey` and
        `password`.
    """

    def __init__(
        self,
        *,
        set: Mapping[str, Any],  # noqa: A002  as in SQL
        redact: Sequence[str] = REDACTED,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.set = set
        self.redact = redact
        if not isinstance(set, dict) or not set:
            raise JobArgumentError(f"set is {set!r}; expected a dictionary of column → value")
        for name, value in set.items():
            arguments.identifier("set", name)
            if value is not None and not isinstance(value, (Now, Hashed)):
                conditions.check_value("set", f"{name}={value!r}", value)
        now = [name for name, value in set.items() if isinstance(value, Now)]
        if len(now) > 1:
            raise JobArgumentError(f"set has NOW for {', '.join(now)}; expected it for one column")
        if not now and any(isinstance(value, Hashed) for value in set.values()):
            raise JobArgumentError(
                "set has a Hashed, but no column that is set to NOW; expected one, such as "
                "'anonymized_at': NOW. Otherwise the next run would hash the same rows again"
            )
        arguments.listed_names("redact", redact)
        if self.archive is not None and {name.lower() for name in set} <= {name.lower() for name in redact}:
            raise JobArgumentError(
                f"redact is {redact!r} and names all columns of set: the archive would have no old value to "
                "restore. Remove archive, or name fewer columns in redact"
            )

    def job(self) -> AnonymizeJob:
        """Return the job with the arguments of this run."""
        from iam_watcher.jobs.table_job.anonymize_job import AnonymizeJob

        return AnonymizeJob(**self.retention_arguments(), new_values=self.set, redact=self.redact)
