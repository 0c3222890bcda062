"""Disables the users of IAM who have not logged in for long, and no one else."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from iam_watcher import arguments
from iam_watcher.accounts.inactive_users import LAST_SEEN, InactiveUsers
from iam_watcher.database.catalogue import INTEGERS
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.table_job_operator import TableJobOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.sdk import Context

    from iam_watcher.accounts.undo_record import DisabledUsers
    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.jobs.table_job.run_report import Report, Words
    from iam_watcher.walk.row_change import RowRecorder

# One column only. The table's own ON UPDATE rule moves updatedAt along with it.
DISABLE = "`status` = 0"

TEXTS = frozenset({"varchar", "char"})
TIMESTAMPS = frozenset({"timestamp"})

OnDisable = Literal["keep", "expire_secrets"]

NO_RECORD = "none"


class DisableInactiveUsersOperator(TableJobOperator):
    """Sets `status` to 0 for users whose last login is more than some days ago, in short transactions.

    Users who never logged in count from their creation; a zero date is no date, and its user is left and
    counted. Only `status` is written: `updatedAt` changes by the table's own ON UPDATE rule.

    :param max_inactive_days: 0 turns the job off. (templated)
    :param exempt_admins: leave users with `isAdmin` alone.
    :param exempt_names: user names, or globs of them (`*` any characters, `?` one), to leave alone.
        Upper and lower case are the same where the column's collation says so (as IAM's does).
    :param max_share: safety limit: if more than this share (0 to 1) of the active users that are not exempt
        would be disabled, none is, and the task fails without a retry; 1 turns the limit off. (templated)
    :param min_age_days: leave accounts that were made less than so many days ago. (templated)
    :param max_users: disable at most so many users in a run. (templated)
    :param report_to: URL below which the undo record is written, before each commit, such as
        "s3://connection@bucket/iam"; the run report names the run's folder, which `reenable_users` takes.
        Default: `[iam_watcher] archive`. If both are empty, the task fails before its first write.
        "none": no undo record; the task then logs the names of the users that it disables. (templated)
    :param on_disable: what becomes of the secrets of a disabled user: "keep", they go on working as in
        the original; or "expire_secrets", those that work expire in the same transaction, which is
        announced. This needs an undo record.
    :param warn_days: list users who are due in so many days, such as (14, 3), once for each number. Pace
        and throttle apply to the list too. If it takes longer than `time_budget`, nobody is warned.
    :param on_warning: a notifier or a function, called with the context in which `due_users` is that
        list: dicts with `id`, `name`, `email`, `last_seen`, `due`, `days`. If it raises, the task fails
        and is retried with the same list.
    :param table: name of the table.
    :param dry_run: count and list users, say what the real run would do, disable and warn nobody.
        (templated)
    :param pace: "fast" (transactions of 0.1 s), "polite" (25 ms, and as long a rest) or a `Pace`.
    :param time_budget: begin no transaction after that long. The next run goes on where `max_users` or
        `time_budget` ended this one (it is kept in a Variable).
    :param throttle: what holds the job back.
    :param mysql_conn_id: Airflow connection of the database.
    """

    template_fields: Sequence[str] = (
        "max_inactive_days",
        "max_share",
        "min_age_days",
        "report_to",
        *TableJobOperator.template_fields,
    )

    def __init__(
        self,
        *,
        max_inactive_days: int | str,
        exempt_admins: bool = True,
        exempt_names: Sequence[str] = (),
        max_share: float | str = 0.5,
        min_age_days: int | str = 0,
        max_users: int | str | None = None,
        report_to: str | None = None,
        on_disable: OnDisable = "keep",
        warn_days: Sequence[int] = (),
        on_warning: Callable[[Context], Any] | None = None,
        table: str = "user",
        **kwargs: Any,
    ) -> None:
        arguments.check_literal(arguments.row_count, "max_users", max_users)
        super().__init__(table=table, max_rows=max_users, **kwargs)
        self.max_inactive_days = max_inactive_days
        self.exempt_admins = exempt_admins
        self.exempt_names = exempt_names
        self.max_share = max_share
        self.min_age_days = min_age_days
        self.report_to = report_to
        self.on_disable = on_disable
        self.warn_days = warn_days
        self.on_warning = on_warning
        self._recorder: DisabledUsers | None = None
        arguments.check_literal(arguments.days, "max_inactive_days", max_inactive_days)
        arguments.check_literal(arguments.share, "max_share", max_share)
        arguments.check_literal(arguments.days, "min_age_days", min_age_days)
        if report_to != NO_RECORD:
            arguments.check_literal(arguments.location, "report_to", report_to)
        arguments.boolean("exempt_admins", exempt_admins)
        arguments.listed_names("exempt_names", exempt_names)
        arguments.one_of("on_disable", on_disable, ("keep", "expire_secrets"))
        _check_warnings(warn_days, on_warning)

    @property
    def words(self) -> Words:
        """What the run report says in the log."""
        from iam_watcher.jobs.table_job.run_report import Words

        return Words("users", "disabled", "undo record", "users can be re-enabled only by name")

    def off_because(self) -> str | None:
        """Return why the job is off, or None if it is not."""
        if self._days() == 0:
            return "max_inactive_days is 0, which turns this job off"
        return None

    def plan(self, table: Table, now: datetime) -> Plan:
        """Return the users to disable."""
        from iam_watcher.accounts.undo_record import EXPIRE_REHEARSAL
        from iam_watcher.jobs.table_job.plan import Plan, label
        from iam_watcher.walk.row_change import RowChange

        for name, data_types in (
            ("status", INTEGERS),
            ("isAdmin", INTEGERS),
            ("name", TEXTS),
            ("loginedAt", TIMESTAMPS),
            ("createdAt", TIMESTAMPS),
            ("updatedAt", TIMESTAMPS),
        ):
            table.column(name, data_types)
        if self.warn_days:
            table.column("email", TEXTS)
        expire = self.on_disable == "expire_secrets"
        if expire and self.archive_location() is None:
            raise JobArgumentError(
                "on_disable is 'expire_secrets', which needs an undo record, but report_to is "
                f"{self.report_to!r} and [iam_watcher] archive is empty or not used; set report_to to a URL "
                "such as 's3://connection@bucket/folder'"
            )
        cut_off = now - timedelta(days=self._days())
        users = self._users(cut_off, now)
        rows = RowChange(
            table=table.quoted,
            key=table.key.quoted,
            predicate=users.inactive,
            assignments=DISABLE,
            values=users.values,
            left_out=users.left_out,
        )
        share = arguments.share("max_share", self.max_share)
        return Plan(
            table,
            rows,
            cut_off,
            LAST_SEEN,
            _utc,
            eligible=users.eligible,
            max_share=share,
            label=label(table),
            also_writes=(EXPIRE_REHEARSAL,) if expire else (),
        )

    def writing(self, context: Context) -> AbstractContextManager[Callable[[], None]]:
        """Announce the secrets that are expired."""
        from iam_watcher.jobs.announce import SECRET_CHANGED, announcing

        if self.on_disable == "keep":
            return nullcontext(lambda: None)
        return announcing(SECRET_CHANGED, run=str(context["ti"].id))

    def archive_location(self) -> str | None:
        """Return where the undo record is written."""
        from iam_watcher.archive.writer import configured_location

        if self.report_to == NO_RECORD:
            return None
        return arguments.location("report_to", self.report_to) or configured_location()

    def archive_facts(self, plan: Plan) -> dict[str, Any]:
        """Return what re-enabling needs to know."""
        from iam_watcher.accounts.undo_record import KIND

        return {
            "kind": KIND,
            "max_inactive_days": self._days(),
            "on_disable": self.on_disable,
            "checksum_of": list(plan.table.columns),
        }

    def recorder(self, db: Transactions, plan: Plan, archive: Archive | None) -> RowRecorder:
        """Return what writes the undo record or, by the user's own choice, logs the names.

        Raises:
            JobArgumentError: there is no location for the undo record, and nobody chose that.
        """
        from iam_watcher.accounts.undo_record import DisabledUsers

        if archive is None and self.report_to != NO_RECORD:
            raise JobArgumentError(
                "report_to is not set and [iam_watcher] archive is empty, so the job has no location for its "
                "undo record. Set [iam_watcher] archive to a URL such as 's3://connection@bucket/folder', or "
                "set report_to='none' if you never want to re-enable these users exactly"
            )
        self._recorder = DisabledUsers(
            db,
            plan.change,
            list(plan.table.columns.values()),
            archive,
            expire_secrets=self.on_disable == "expire_secrets",
            cut_off=plan.cut_off.isoformat(timespec="seconds"),
        )
        return self._recorder

    def check(self, db: Transactions, plan: Plan, now: datetime, throttler: Throttler) -> None:  # noqa: ARG002  of the base
        """Check that the server can compare users with the exempt names."""
        from iam_watcher.jobs.table_job import conditions

        conditions.rehearse(db, plan, "exempt_names")

    def finish(
        self, db: Transactions, plan: Plan, report: Report, context: Context, throttler: Throttler
    ) -> None:
        """List who is due, and say what else was done."""
        if self._recorder is not None and self.on_disable == "expire_secrets":
            report.also["secrets_expired"] = sum(self._recorder.expired.values())
        if self.warn_days:
            self._warn(db, plan, report, context, throttler)

    def _warn(
        self, db: Transactions, plan: Plan, report: Report, context: Context, throttler: Throttler
    ) -> None:
        from iam_watcher.accounts.due_users import Search, warn

        search = Search(
            db,
            plan.change,
            self._users(plan.cut_off, datetime.fromisoformat(report.now)).can_be_disabled,
            timedelta(days=self._days()),
            self.paced,
            throttler,
            self.time_budget,
        )
        warn(
            search,
            plan.cut_off,
            warn_days=self.warn_days,
            on_warning=self.on_warning,
            report=report,
            context=context,
        )

    def _users(self, cut_off: datetime, now: datetime) -> InactiveUsers:
        return InactiveUsers.of(
            cut_off=cut_off,
            now=now,
            max_inactive_days=self._days(),
            min_age_days=arguments.days("min_age_days", self.min_age_days),
            exempt_admins=self.exempt_admins,
            exempt_names=self.exempt_names,
        )

    def _days(self) -> int:
        return arguments.days("max_inactive_days", self.max_inactive_days)


def _check_warnings(warn_days: object, on_warning: object) -> None:
    if not isinstance(warn_days, (list, tuple)) or not all(type(number) is int for number in warn_days):
        raise JobArgumentError(
            f"warn_days is {warn_days!r}; expected a list of whole numbers, such as (14, 3)"
        )
    for number in warn_days:
        if arguments.days("warn_days", number) == 0:
            raise JobArgumentError("warn_days has 0; expected days before a user is disabled, from 1 on")
    if on_warning is not None and not callable(on_warning):
        raise JobArgumentError(f"on_warning is {on_warning!r}; expected a notifier or a function")
    if on_warning is not None and not warn_days:
        raise JobArgumentError("on_warning is given, but warn_days is empty, so that nothing would call it")


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
