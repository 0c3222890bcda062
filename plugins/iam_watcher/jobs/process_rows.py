"""Processes the rows of a table that are in a state: pending → work → normal, or failed.

A row is processed at least once: if a worker dies between the end of the function and the commit of its
outcome, another worker processes the row again. See docs/rows-in-a-state.md.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError, RowFailed, RowNotReady
from iam_watcher.jobs.limited_operator import LimitedOperator
from iam_watcher.jobs.row_processing.arguments import RowProcessing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta

    from airflow.sdk import Context, XComArg

    from iam_watcher.walk.claim.function import Per

__all__ = ["ProcessRowsOperator", "RowFailed", "RowNotReady", "process_rows"]


class ProcessRowsOperator(LimitedOperator):
    """Calls a function for each row of a table that is pending, and writes the result to the row.

    With `working`, the job claims rows: it sets their state, and renews the claim while the function works.
    Without `working` (mode "hold"), the rows stay locked while the function works. The mode "hold" needs no
    further columns, and is for work of seconds.

    The function gets a row as a read-only mapping of column → value (times are UTC, without a time zone). If
    it returns None, the row is done. If it returns a mapping of column → value, the job writes these values
    to the row, and the row is done. If it raises `RowFailed(reason)`, the row fails. If it raises
    `RowNotReady(after=...)`, the job tries again later, and the attempt does not count. After any other
    exception, the job tries again, and the attempt counts. An async function is called for all rows of a
    batch at once.

    The table needs a primary key or a unique key of NOT NULL columns, and an index on the state column (with
    `retry_at_column`: on both columns).

    It also takes the arguments of `LimitedOperator`: `max_rows`, `time_budget`; of `TableOperator`: `table`;
    and of `DatabaseOperator`: `mysql_conn_id`, `pace`, `throttle`, `dry_run`. `max_rows` is the limit of one
    try; with `partitions`, of one task.

    :param python_callable: the function for one row or, with per="batch", for a list of rows. A function for
        a list returns None, or a list with the result of each row: None, a mapping or an exception.
    :param state_column: name of the column of the state: a text, an ENUM or an integer.
    :param claim: the state of rows to be processed, such as "pending".
    :param done: the state of rows that were processed.
    :param failed: the state of rows that can't be processed.
    :param working: the state of claimed rows; None for mode "hold".
    :param claimed_at_column: DATETIME(6) or TIMESTAMP(6) column for the time of the claim; with `working`.
        Default: "claimed_at".
    :param claimed_by_column: text column of at least 32 characters for the worker that has the claim; with
        `working`. Default: "claimed_by".
    :param attempts_column: integer column for the number of attempts. None: attempts are not counted.
    :param retry_at_column: DATETIME(6) or TIMESTAMP(6) column for the time of the next try, NULL for a new
        row. None: the next run tries again.
    :param error_column: text column for the reason of the last failure.
    :param age_column: DATETIME or TIMESTAMP column with the time at which a row became pending, in UTC. The
        run report then has the age of the first pending row.
    :param columns: names of the columns that the function gets; None: all columns.
    :param per: "row" or "batch": what the function gets. Default: "row".
    :param batch: the largest number of rows of a claim. Default: 100. With per="row", a batch has fewer rows
        if they take longer than 2 s.
    :param claim_timeout: time after its last renewal at which another worker may take over a claim. In mode
        "hold": the longest time for one row.
    :param max_attempts: number of attempts after which a row fails. Default: 5 if there is an
        `attempts_column`.
    :param backoff: the longest time before the first retry of a row. It doubles with each attempt, up to an
        hour. The time is half to all of it, at random.
    :param stop_after: number of consecutive rows (with per="batch": calls) with the same class of exception
        after which the run fails. So an outage of a service that the function calls does not use up the
        attempts of all rows. Default: 10. None: no limit.
    :param max_idle_time: if no row is due, the run waits for rows. It looks for them every half second and
        processes them. It ends after this time without a row. Needs `retry_at_column`. Default: 0; the run
        ends as soon as no row is due.
    :param partition: number of this operator among several that share the rows. It changes nothing, but a
        mapped task needs an argument that differs.
    """

    shallow_copy_attrs: Sequence[str] = ("processing",)

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        table: str,
        state_column: str,
        claim: str | int,
        done: str | int,
        failed: str | int,
        working: str | int | None = None,
        claimed_at_column: str | None = None,
        claimed_by_column: str | None = None,
        attempts_column: str | None = None,
        retry_at_column: str | None = None,
        error_column: str | None = None,
        age_column: str | None = None,
        columns: Sequence[str] | None = None,
        per: Per = RowProcessing.per,
        batch: int = RowProcessing.batch,
        claim_timeout: timedelta = RowProcessing.claim_timeout,
        max_attempts: int | None = None,
        backoff: timedelta = RowProcessing.backoff,
        stop_after: int | None = RowProcessing.stop_after,
        max_idle_time: timedelta = RowProcessing.max_idle_time,
        partition: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(table=table, **kwargs)
        self.processing = RowProcessing(
            python_callable=python_callable,
            table=table,
            state_column=state_column,
            claim=claim,
            done=done,
            failed=failed,
            working=working,
            claimed_at_column=claimed_at_column,
            claimed_by_column=claimed_by_column,
            attempts_column=attempts_column,
            retry_at_column=retry_at_column,
            error_column=error_column,
            age_column=age_column,
            columns=columns,
            per=per,
            batch=batch,
            claim_timeout=claim_timeout,
            max_attempts=max_attempts,
            backoff=backoff,
            stop_after=stop_after,
            max_idle_time=max_idle_time,
        )
        self.partition = partition
        self._check_idle_time()

    def perform(self, context: Context) -> dict[str, Any]:
        """Process the rows; return the run report as a dictionary.

        If it ends early, the report of what was done is in the XCom all the same.
        """
        from iam_watcher.jobs.row_processing.run import ProcessRowsRun
        from iam_watcher.walk.pace import Limits

        max_rows = self.row_limit
        budget = None if self.time_budget is None else self.time_budget.total_seconds()
        return ProcessRowsRun(
            self,
            self.processing,
            context,
            dry_run=arguments.flag("dry_run", self.is_dry_run),
            limits=Limits(max_rows, budget),
        ).perform()

    def _check_idle_time(self) -> None:
        idle, longest = self.processing.max_idle_time, self.execution_timeout
        if longest is None or idle < longest or (self.time_budget is not None and self.time_budget < longest):
            return
        raise JobArgumentError(
            f"max_idle_time is {idle}, but Airflow ends the task after execution_timeout={longest} and marks "
            "it as failed. Use a max_idle_time or a time_budget that is shorter than execution_timeout"
        )

    def go_on(self) -> None:
        """Raise if the run has to stop; what is begun after that must not be interrupted.

        Raises:
            JobError, LockError: the task was stopped, or the lease is lost; and what Airflow's time-out is.
        """
        self._safe_point()
        self._timeout.committing()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Airflow's time-out raise within the block: the function may hang."""
        self._timeout.counted()
        try:
            yield
        finally:
            self._timeout.committing()


def process_rows(
    table: str, *, partitions: int = 1, task_id: str | None = None, **operator_arguments: Any
) -> Callable[[Callable[..., Any]], Callable[[], XComArg]]:
    """Return a decorator that turns a function into a task that processes rows.

    Write `@process_rows(...)` above the function, then call the function without arguments within a DAG.

    Args:
        table: see `ProcessRowsOperator`.
        partitions: the number of tasks of a run that share the rows. Each task can be on another worker.
        task_id: the task id. Default: the name of the function.
        operator_arguments: all other arguments of `ProcessRowsOperator`.

    Returns:
        The decorator. It returns a function without arguments that creates the task.

    Raises:
        JobArgumentError: an argument or the function is not valid.
    """
    if type(partitions) is not int or partitions < 1:
        raise JobArgumentError(f"partitions is {partitions!r}; expected a whole number over 0")

    def decorate(function: Callable[..., Any]) -> Callable[[], XComArg]:
        name = task_id or getattr(function, "__name__", "process_rows")
        given = {"task_id": name, "python_callable": function, "table": table, **operator_arguments}

        def make() -> XComArg:
            if partitions == 1:
                return ProcessRowsOperator(**given).output
            # Airflow does not call the constructor of a mapped operator before it runs.
            with DAG("arguments_are_checked", schedule=None, auto_register=False):
                ProcessRowsOperator(**given)
            numbers = list(range(1, partitions + 1))
            return ProcessRowsOperator.partial(**given).expand(partition=numbers).output

        return make

    return decorate
