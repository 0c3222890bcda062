"""Disabling inactive users: who is disabled, what is recorded before, and who is warned after."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from iam_watcher.accounts.disable_recorder import EXPIRE_REHEARSAL, DisableRecorder
from iam_watcher.accounts.due_search import Search
from iam_watcher.accounts.due_users import warn
from iam_watcher.accounts.exempt_names import shown, warn_of_unmatched
from iam_watcher.accounts.inactive_users import InactiveUsers
from iam_watcher.archive.format import ArchiveKind
from iam_watcher.arguments import time_zone
from iam_watcher.database.catalogue import read_table
from iam_watcher.database.column import AS_UTF8
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.announce import SECRET_CHANGED, announcing
from iam_watcher.jobs.table_job import absent_values, conditions
from iam_watcher.jobs.table_job.accounts import account_columns, check_accounts, check_undo
from iam_watcher.jobs.table_job.job import TableJob
from iam_watcher.jobs.table_job.plan import Plan
from iam_watcher.jobs.table_job.side_effects import warn_of_on_update, warn_of_side_effects
from iam_watcher.jobs.table_job.table_job_report import Words
from iam_watcher.walk.row_change import RowChange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.sdk import Context

    from iam_watcher.accounts.account_columns import AccountColumns
    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.account_table import AccountTable
    from iam_watcher.jobs.table_job.table_job_report import TableJobReport
    from iam_watcher.walk.row_change import RowRecorder

# One column only. The table's own ON UPDATE rule moves others along with it.
DISABLE = "{status} = %(disabled)s"


@dataclass
class DisableUsersJob(TableJob):
    """Disables inactive users.

    Attributes:
        accounts: the account table.
        needs_record: whether the job must not write without a location for its undo record.
        max_inactive_days: days since the last login; 0 turns the job off.
        min_age_days: leave accounts that were made less than so many days ago.
        exempt_admins: leave administrators.
        exempt_names: names, or globs of them, to leave.
        expire_secrets: whether the secrets of a disabled user expire.
        warn_days: the warnings: days before a user is disabled.
        on_warning: called with the users who are due.
        columns: of the accounts, known from `plan` on.
    """

    accounts: AccountTable
    needs_record: bool
    max_inactive_days: int
    min_age_days: int
    exempt_admins: bool
    exempt_names: Sequence[str]
    expire_secrets: bool
    warn_days: Sequence[int]
    on_warning: Callable[[Context], Any] | None
    columns: AccountColumns = field(init=False)
    _recorder: DisableRecorder | None = field(default=None, init=False)
    _unmatched: list[str] = field(default_factory=list, init=False)
    _absent: list[str] = field(default_factory=list, init=False)

    @property
    def words(self) -> Words:
        """What the run report says in the log."""
        return Words("users", "disabled", "undo record", "users can be re-enabled only by name")

    @property
    def off_because(self) -> str | None:
        """Why the job is off; None if it is not."""
        if self.max_inactive_days == 0:
            return "max_inactive_days is 0, which turns this job off"
        return None

    def plan(self, table: Table, now: datetime) -> Plan:
        """Return the users to disable."""
        accounts = self.accounts if self.warn_days else replace(self.accounts, email=None)
        self.columns = columns = account_columns(accounts, table)
        if self.needs_record:
            check_undo(columns)
        if self.expire_secrets:
            table.check_integer_key()
        if self.expire_secrets and self.location is None:
            raise JobArgumentError(
                "on_disable is 'expire_secrets', which needs an undo record, but there is no location for "
                "one. Set undo_location, or [iam_watcher] archive, to a URL such as 's3://connection@bucket/folder'"
            )
        cut_off = now - timedelta(days=self.max_inactive_days)
        users = self.users(cut_off, now)
        rows = RowChange(
            table=table.quoted,
            key=table.key,
            predicate=users.inactive,
            assignments=DISABLE.format(status=columns.status.quoted),
            values=users.values,
            left_out=users.left_out,
        )
        return Plan(
            table,
            rows,
            cut_off,
            columns.counted_from,
            columns.counted_from_moment,
            eligible=users.eligible,
            label=AS_UTF8.format(column=columns.name.quoted),
            also_writes=(EXPIRE_REHEARSAL,) if self.expire_secrets else (),
        )

    def check(self, db: Transactions, plan: Plan, now: datetime, throttler: Throttler) -> None:
        """Check a sample of the accounts, and whether the server can compare users with the exempt names.

        Exempt names, and values of `where`, that no account has are logged.
        """
        columns = [self.columns.status.name]
        self.side_effects = warn_of_side_effects(db, plan.table, columns)
        warn_of_on_update(db, plan.table, columns, restorable=False)
        if self.expire_secrets:
            secrets = read_table(db, "secret")
            self.side_effects += warn_of_side_effects(db, secrets, ["expires"])
            warn_of_on_update(db, secrets, ["expires"], restorable=False)
        check_accounts(db, plan, self.accounts, self.columns, now, pace=self.pace, throttler=throttler)
        conditions.rehearse(db, plan, "exempt_names")
        if self.exempt_names:
            throttler.wait()
            self._unmatched = warn_of_unmatched(db, self.columns, self.exempt_names)
        zone = time_zone("time_zone", self.accounts.time_zone)
        texts = absent_values.left_alone(self.accounts.where, plan.table)
        self._absent = absent_values.warn_of_absent(db, plan.table, zone, "where", texts, throttler)

    def writing(self, context: Context) -> AbstractContextManager[Callable[[], None]]:
        """Announce the secrets that are expired."""
        if not self.expire_secrets:
            return nullcontext(lambda: None)
        return announcing(SECRET_CHANGED, run=str(context["ti"].id))

    def archive_facts(self, plan: Plan) -> dict[str, Any]:
        """Return what re-enabling needs to know."""
        return {
            "kind": ArchiveKind.DISABLED_USERS,
            "max_inactive_days": self.max_inactive_days,
            "accounts": self.accounts.shape,
            "on_disable": "expire_secrets" if self.expire_secrets else "keep",
            "checksum_of": list(plan.table.columns),
        }

    def recorder(self, db: Transactions, plan: Plan, archive: Archive | None) -> RowRecorder:
        """Return what writes the undo record or, by the user's own choice, logs the names.

        Raises:
            JobArgumentError: there is no location for the undo record, and nobody chose that.
        """
        if archive is None and self.needs_record:
            raise JobArgumentError(
                "undo_location is not set and [iam_watcher] archive is empty, so the job has no location for "
                "its undo record. Set [iam_watcher] archive to a URL such as "
                "'s3://connection@bucket/folder', or set undo_location='none' if you never want to "
                "re-enable these users exactly"
            )
        self._recorder = DisableRecorder(
            db,
            plan.change,
            self.columns,
            archive,
            expire_secrets=self.expire_secrets,
            cut_off=plan.cut_off.isoformat(timespec="seconds"),
        )
        return self._recorder

    def committed(self) -> None:
        """Count the secrets that were expired."""
        if self._recorder is not None:
            self._recorder.committed()

    def fill(self, report: TableJobReport) -> None:
        """Report exempt names and values of `where` that no account has, and expired secrets."""
        report.unmatched = self._unmatched
        if self._recorder is not None and self.expire_secrets:
            report.also["secrets_expired"] = self._recorder.expired
        if self._unmatched and report.dry_run:
            report.real_run.append(
                f"leave nobody alone for {shown(self._unmatched)} of exempt_names: no account matches"
            )
        if report.dry_run:
            report.real_run += self._absent

    def finish(
        self, db: Transactions, plan: Plan, report: TableJobReport, context: Context, throttler: Throttler
    ) -> None:
        """Warn the users who are due."""
        if not self.warn_days:
            return
        from iam_watcher.database.hook import place

        search = Search(
            db,
            self.columns,
            plan.change,
            self.users(plan.cut_off, datetime.fromisoformat(report.now)).can_be_disabled,
            timedelta(days=self.max_inactive_days),
            timedelta(days=self.min_age_days),
            self.pace,
            throttler,
            self.time_budget,
        )
        warn(
            search,
            plan.cut_off,
            server=place(report.connection),
            warn_days=self.warn_days,
            on_warning=self.on_warning,
            dry_run=report.dry_run,
            counts=report.also,
            context=context,
        )

    def users(self, cut_off: datetime, now: datetime) -> InactiveUsers:
        """Return the conditions for users who logged in before `cut_off`."""
        return InactiveUsers.of(
            self.columns,
            cut_off=cut_off,
            now=now,
            min_age_days=self.min_age_days,
            exempt_admins=self.exempt_admins,
            exempt_names=self.exempt_names,
        )
