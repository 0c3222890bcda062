"""The operator that all table jobs are: connection, checks, dry run, brake, walk, report, in this order."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from iam_watcher.errors import ArchiveError, BrakeError, JobArgumentError
from iam_watcher.jobs import arguments
from iam_watcher.jobs.archive import Archive, run_folder
from iam_watcher.jobs.bookmark import Bookmark
from iam_watcher.jobs.catalogue import read_table
from iam_watcher.jobs.operator import DatabaseOperator, connect
from iam_watcher.jobs.pace import NO_CAPS, PACES, Caps
from iam_watcher.jobs.report import Report
from iam_watcher.jobs.session import read_now
from iam_watcher.jobs.tally import tally
from iam_watcher.jobs.throttle import Predicate, Throttle
from iam_watcher.jobs.walk import Walk
from iam_watcher.lock import keepalive
from iam_watcher.lock.progress import ProgressRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from airflow.sdk import Context

    from iam_watcher.jobs.catalogue import Table
    from iam_watcher.jobs.pace import Pace
    from iam_watcher.jobs.plan import Plan
    from iam_watcher.jobs.rows import Recorder, Walked
    from iam_watcher.jobs.transaction import Transactions

logger = logging.getLogger(__name__)

# Runs the checks of the account's rights and changes nothing.
REHEARSAL = "{write} WHERE FALSE"

NO_THROTTLE = Throttle()


class TableJobOperator(DatabaseOperator):
    """Writes the rows of a table that a `Plan` names, in short transactions.

    :param table: name of the table, in the connection's database (schema).
    :param dry_run: count, show examples, write nothing. (templated)
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
        pace: str | Pace = "fast",
        max_rows: int | str | None = None,
        time_budget: timedelta | None = None,
        throttle: Throttle = NO_THROTTLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.is_dry_run = dry_run  # `dry_run` is a method of every operator
        self.pace = pace
        self.max_rows = max_rows
        self.time_budget = time_budget
        self.throttle = throttle
        arguments.identifier("table", table)
        arguments.check_literal(arguments.flag, "dry_run", dry_run)
        arguments.check_literal(arguments.row_count, "max_rows", max_rows)
        if time_budget is not None and time_budget <= timedelta(0):
            raise JobArgumentError(f"time_budget is {time_budget}; expected a duration over 0, or None")
        if isinstance(pace, str) and pace not in PACES:
            raise JobArgumentError(f"pace is {pace!r}; expected one of {', '.join(PACES)}, or a Pace")

    def off_because(self) -> str | None:
        """Return why this job has nothing to do by its settings, or None if it has.

        Raises:
            JobArgumentError: a rendered value is not valid.
        """
        raise NotImplementedError

    def plan(self, table: Table, now: datetime) -> Plan:
        """Return what to do.

        Raises:
            JobArgumentError, TableError: that can't be said of this table.
        """
        raise NotImplementedError

    def writing(self, context: Context) -> AbstractContextManager[Callable[[], None]]:  # noqa: ARG002  for subclasses
        """Return a context around all writes; its value is called before each of them."""
        return nullcontext(lambda: None)

    def archive_location(self) -> str | None:
        """Return the URL below which is written down what is changed, or None.

        Raises:
            JobArgumentError: a rendered value is not valid.
        """
        return None

    def recorder(self, db: Transactions, plan: Plan, archive: Archive) -> Recorder:
        """Return what writes the changes down in an archive."""
        raise NotImplementedError

    def archive_facts(self, plan: Plan) -> dict[str, Any]:
        """Return the facts of the manifest that only the job knows; `kind` is one of them."""
        raise NotImplementedError

    def finish(self, db: Transactions, plan: Plan, report: Report, context: Context) -> None:
        """Do what comes after the rows, in a dry run too."""

    def perform(self, context: Context) -> dict[str, Any]:
        """Do the job and return its `Report` as a dictionary.

        If it ends early, the report of what was done is in the XCom all the same.
        """
        dry_run = arguments.flag("dry_run", self.is_dry_run)
        if reason := self.off_because():
            raise AirflowSkipException(f"{self.table} is left alone: {reason}")
        report = Report(self.table, dry_run)
        try:
            self._work(context, report)
        except BaseException as error:
            report.error = f"{type(error).__name__}: {error}"
            context["ti"].xcom_push(key="return_value", value=report.as_dict())
            raise
        finally:
            logger.info("%s", report.as_line())
        return report.as_dict()

    def _work(self, context: Context, report: Report) -> None:
        began = time.monotonic()
        with self.transactions(fenced=not report.dry_run) as (connection, db):
            now = read_now(connection)
            plan = self.plan(read_table(db, self.table), now)
            report.now, report.cut_off = now.isoformat(), plan.cut_off.isoformat()
            try:
                if report.dry_run:
                    found = self._tally(db, plan, report).examples
                    report.examples = [_example(key, plan.moment(age), now) for key, age in found]
                else:
                    self._write(db, plan, report, context)
                self.finish(db, plan, report, context)
            finally:
                report.retries = db.retries
                report.duration_seconds = round(time.monotonic() - began, 3)

    def _write(self, db: Transactions, plan: Plan, report: Report, context: Context) -> None:
        for statement in (plan.rows.write, *plan.also_writes):
            self._rehearse(db, statement)
        with self.writing(context) as before_write, self._recording(db, plan, report, context) as recorder:
            if plan.max_share is not None and plan.max_share < 1:
                self._tally(db, plan, report)
                self._brake(plan.max_share, report)
            caps = Caps(
                arguments.row_count("max_rows", self.max_rows),
                None if self.time_budget is None else self.time_budget.total_seconds(),
            )
            bookmark = Bookmark(context, self.table, for_next_run=caps != NO_CAPS)
            report.began_after = bookmark.read()
            ti = context["ti"]
            task = f"{ti.task_id}/{ti.map_index}"
            record = ProgressRecord(keepalive.current_grant(), task=task, table=self.table)
            with closing(record), closing(Predicate(self.throttle, db, connect)) as throttle:
                walk = Walk(
                    db,
                    plan.rows,
                    pace=self._pace,
                    caps=caps,
                    after=report.began_after,
                    index=plan.index,
                    before_write=before_write,
                    recorder=recorder,
                    passed=bookmark.move,
                    throttle=throttle,
                    throttle_patience=self.throttle.patience.total_seconds(),
                    progress=lambda progress: record.write(**asdict(progress)),
                )
                try:
                    walk.write()
                except BaseException:
                    bookmark.save()
                    raise
                finally:
                    report.take(walk.done)
                    report.order = walk.order.name
                    report.position = None if walk.order.finished else walk.order.position
            bookmark.end(report.position)

    @contextmanager
    def _recording(
        self, db: Transactions, plan: Plan, report: Report, context: Context
    ) -> Iterator[Recorder | None]:
        location = self.archive_location()
        if location is None:
            yield None
            return
        ti = context["ti"]
        facts = {
            **self.archive_facts(plan),
            "table": plan.table.name,
            "key": plan.table.key.name,
            "now": report.now,
            "cut_off": report.cut_off,
            **{name: getattr(ti, name) for name in ("dag_id", "task_id", "run_id", "try_number")},
        }
        archive = Archive(run_folder(location, plan.table.name, context), facts)
        try:
            yield self.recorder(db, plan, archive)
        except BaseException:
            # The error that ended the walk is the one to be told.
            with suppress(ArchiveError):
                report.archive = archive.url()
                archive.close()
            raise
        report.archive = archive.url()
        archive.close()

    def _tally(self, db: Transactions, plan: Plan, report: Report) -> Walked:
        counted = tally(db, plan.rows, also={"eligible": plan.eligible}, age=plan.age, pace=self._pace)
        report.take(counted)
        report.eligible = counted.also["eligible"]
        return counted

    def _brake(self, max_share: float, report: Report) -> None:
        if report.matched > max_share * (report.eligible or 0):
            raise BrakeError(
                f"{report.matched} of {report.eligible} eligible rows of {self.table} match, "
                f"more than max_share={max_share:g}. Check the clock, the days and the data with a dry run; "
                "if they are right, run once with a larger max_share"
            )

    def _rehearse(self, db: Transactions, write: str) -> None:
        def rehearsal() -> None:
            db.change(REHEARSAL.format(write=write))
            db.commit()

        db.run(rehearsal, what=f"{write}, without rows", before_retry=lambda: None)

    @property
    def _pace(self) -> Pace:
        return PACES[self.pace] if isinstance(self.pace, str) else self.pace


def _example(key: int, since: datetime, now: datetime) -> dict[str, Any]:
    days = (now - since).total_seconds() / 86_400
    return {"key": key, "since": since.isoformat(), "age_days": round(days, 1)}
