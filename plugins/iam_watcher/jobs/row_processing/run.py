"""One run of row processing: connection, first look, rows, report, in this order."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack, closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from iam_watcher.airflow_internals.tasks import masked
from iam_watcher.database.connection import open_cursor
from iam_watcher.database.hook import JobMySqlHook
from iam_watcher.database.session import SILENCE
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import DeploymentIdError
from iam_watcher.jobs.row_processing.report import MODES, MOST_REMAINING, ProcessRowsReport
from iam_watcher.lock import current
from iam_watcher.lock.deployment import deployment_id
from iam_watcher.lock.progress import ProgressRecord
from iam_watcher.log_lines import get_logger
from iam_watcher.walk.claim import find_states, first_look
from iam_watcher.walk.claim.claims import Claims
from iam_watcher.walk.claim.function import caller
from iam_watcher.walk.claim.outcome import Processed
from iam_watcher.walk.claim.processing import Processing
from iam_watcher.walk.claim.renewal import Renewal
from iam_watcher.walk.progress import ProgressReporter

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from airflow.sdk import Context

    from iam_watcher.database.connection import Connection
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.jobs.row_processing.arguments import RowProcessing
    from iam_watcher.walk.claim.row_states import RowStates
    from iam_watcher.walk.pace import Limits, Pace

logger = get_logger(__name__)

# Seconds after which the server ends a session, at least: while the function works, its session is silent.
LEAST_SILENCE = 60


class RowOperator(Protocol):
    """The operator, as its run needs it."""

    mysql_conn_id: str

    @property
    def paced(self) -> Pace:
        """How fast the run works."""

    def throttling(self, db: Transactions, table: str) -> AbstractContextManager[Throttler]:
        """Return the throttle."""

    def go_on(self) -> None:
        """Raise if the run has to stop."""

    def interruptible(self) -> AbstractContextManager[None]:
        """Let Airflow's time-out raise within the block."""


class ProcessRowsRun:
    """One try of one run.

    Args:
        operator: gives the connection, the throttle, and the points at which the run may stop.
        processing: what to do.
        context: of the task.
        dry_run: count only.
        limits: the row limit and the time limit.
    """

    def __init__(
        self,
        operator: RowOperator,
        processing: RowProcessing,
        context: Context,
        *,
        dry_run: bool,
        limits: Limits,
    ) -> None:
        self._operator = operator
        self._job = processing
        self._context = context
        self._limits = limits
        mode = "hold" if self._job.holds else "claim"
        self._report = ProcessRowsReport(self._job.table, dry_run, mode=mode)
        # Airflow is asked now: its channel is not for the thread that renews.
        self._hook = JobMySqlHook(operator.mysql_conn_id)
        self._hook.resolve()

    def perform(self) -> dict[str, Any]:
        """Do it and return the report as a dictionary; if it ends early, the report is in the XCom."""
        report = self._report
        logger.info(
            "%s of the rows of %s that are %r begins, by the connection %s; mode %s: %s",
            "A dry run" if report.dry_run else "Processing",
            report.table,
            self._job.claim,
            self._operator.mysql_conn_id,
            report.mode,
            MODES[report.mode],
        )
        with report.reported(self._context):
            self._connected()
        return report.as_dict()

    def _connected(self) -> None:
        # No database lock: rows are protected by their claims, and tasks of one run share them.
        go_on = self._operator.go_on
        with closing(Transactions(self._connect(), go_on, reconnect=self._connect)) as db:
            try:
                states = find_states.find(db, self._names())
                first_look.check(db, states)
                if self._report.dry_run:
                    self._dry_run(db, states)
                else:
                    self._process(db, states)
            finally:
                self._report.retries = db.retries

    def _connect(self) -> Connection:
        connection: Connection = self._hook.get_conn()
        seconds = max(LEAST_SILENCE, int(self._job.claim_timeout.total_seconds()))
        with open_cursor(connection) as cursor:
            cursor.execute(SILENCE, {"seconds": seconds})
        return connection

    def _names(self) -> find_states.Names:
        job = self._job
        return find_states.Names(
            table=job.table,
            state_column=job.state_column,
            pending=job.claim,
            done=job.done,
            failed=job.failed,
            working=job.working,
            columns=job.further_columns,
            read=job.columns,
            age_column=job.age_column,
            claimant=self._claimant(),
            claim_timeout=job.claim_timeout.total_seconds(),
            max_attempts=job.attempts,
            backoff=job.backoff.total_seconds(),
        )

    def _claimant(self) -> str:
        """Return a name for this try of this run. The unique part comes first: the column may cut it."""
        ti = self._context["ti"]
        try:
            deployment = deployment_id()
        except DeploymentIdError:
            deployment = "?"  # A Watcher without a lock needs none.
        task = f"{ti.task_id}/{ti.map_index}/{ti.try_number}"
        return f"{uuid.uuid4().hex[:24]} {deployment}/{ti.dag_id}/{ti.run_id}/{task}"

    def _dry_run(self, db: Transactions, states: RowStates) -> None:
        claims = Claims(db, states, Processed())
        self._report.remaining = claims.count(states.pending, MOST_REMAINING)
        for key in claims.due(self._report.most_examples):
            self._report.add_example(key=states.shown(key))

    def _process(self, db: Transactions, states: RowStates) -> None:
        operator, job, report = self._operator, self._job, self._report
        with ExitStack() as stack:
            throttler = stack.enter_context(operator.throttling(db, job.table))
            renewal = None
            if not states.holds:
                renewal = stack.enter_context(Renewal(states, self._connect))
            processing = Processing(
                db,
                states,
                caller(job.python_callable, job.per),
                renewal=renewal,
                batch=job.batch,
                whole_batches=job.per == "batch",
                limits=self._limits,
                max_idle_time=job.max_idle_time.total_seconds(),
                stop_after=job.stop_after,
                safe_point=operator.go_on,
                interruptible=operator.interruptible,
                before_claim=lambda: self._wait(throttler),
                masked=masked,
            )
            record = stack.enter_context(closing(self._record()))
            reporter = ProgressReporter(job.table, lambda progress: record.write(**asdict(progress)))
            expected = processing.claims.count(states.pending, MOST_REMAINING)
            report.oldest_pending_seconds_before = processing.claims.oldest()
            reporter.begin(0.0)

            def after_batch() -> None:
                done = processing.done
                share = done.claimed / max(expected, done.claimed, 1)
                reporter.report(examined=done.claimed, changed=sum(done.outcomes.values()), share=share)
                with operator.interruptible():
                    time.sleep(operator.paced.rest(processing.database_seconds))

            processing.after_batch = after_batch
            try:
                processing.run()
            finally:
                report.take(processing.done)
            report.remaining = processing.claims.count(states.pending, MOST_REMAINING)
            report.oldest_pending_seconds_after = processing.claims.oldest()

    def _record(self) -> ProgressRecord:
        ti = self._context["ti"]
        return ProgressRecord(current.grant(), task=f"{ti.task_id}/{ti.map_index}", table=self._job.table)

    def _wait(self, throttler: Throttler) -> None:
        with self._operator.interruptible():
            throttler.wait(meanwhile=self._operator.go_on)
