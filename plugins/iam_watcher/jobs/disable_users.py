"""Disables the users of an account table who have not logged in for a long time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.account_table import AccountTable, account_table
from iam_watcher.jobs.table_job_operator import TableJobOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.sdk import Context

    from iam_watcher.jobs.table_job.disable_users_job import DisableUsersJob

__all__ = ["AccountTable", "DisableInactiveUsersOperator"]

OnDisable = Literal["keep", "expire_secrets"]

NO_UNDO_RECORD = "none"


class DisableInactiveUsersOperator(TableJobOperator):
    """Disables accounts whose last login is too long ago, in short transactions.

    By default, the accounts are the users of IAM, whose `status` becomes 0. The inactivity of a user counts
    from the last login or, if the user never logged in, from the creation. If this date is before 1980, such
    as a zero date, the job leaves the user alone and counts it. The job writes only the status, and with
    "expire_secrets" the expiry times of secrets.

    It also takes the arguments of `TableJobOperator`: `max_share` (of the active users that are not exempt;
    default 0.5); of `LimitedOperator`: `max_rows`, `time_budget`; of `TableOperator`: `table` (another name
    of IAM's table, without `accounts`; default "user"); and of `DatabaseOperator`: `mysql_conn_id`, `pace`,
    `throttle`, `dry_run` (disables and warns nobody).

    :param accounts: the `AccountTable` of another system. Default: IAM's.
    :param max_inactive_days: disable users whose last login is more than this number of days ago. 0 turns the
        job off. (templated)
    :param exempt_admins: leave administrators alone. Set it to False for accounts without a column for them.
    :param exempt_names: names of users to leave alone, or patterns of names: `*` is any text, `?` is one
        character. The column's collation decides whether upper and lower case differ (not in IAM).
    :param min_age_days: leave accounts alone that were created less than this number of days ago. (templated)
    :param undo_location: URL of the location for the undo record, such as "s3://connection@bucket/iam". The
        job writes the record before each commit. The run report names the run's folder, which
        `reenable_users` takes. Default: `[iam_watcher] archive`. If both are empty, the task fails before its
        first write. "none": no undo record; the task then logs the names of the users that it disables.
        (templated)
    :param on_disable: what happens to the secrets of a disabled user. "keep": they still work.
        "expire_secrets": the valid ones expire in the same transaction, and the job publishes a message. This
        needs an undo record and IAM's tables.
    :param warn_days: list users whom the job will disable in this number of days, such as (14, 3), once for
        each number. All are below `max_inactive_days`. Pace and throttle apply to the search for these users
        too. If the search takes longer than `time_budget`, the job warns nobody.
    :param on_warning: a notifier or a function. The job calls it with the context, in which `due_users` is
        that list: dictionaries with `id`, `name`, `email`, `last_seen`, `due`, `days`. If the call raises an
        error, the task fails, and its retry has the same list.
    """

    template_fields: Sequence[str] = (
        "max_inactive_days",
        "min_age_days",
        "undo_location",
        *TableJobOperator.template_fields,
    )

    def __init__(
        self,
        *,
        max_inactive_days: int | str,
        accounts: AccountTable | None = None,
        exempt_admins: bool = True,
        exempt_names: Sequence[str] = (),
        min_age_days: int | str = 0,
        undo_location: str | None = None,
        on_disable: OnDisable = "keep",
        warn_days: Sequence[int] = (),
        on_warning: Callable[[Context], Any] | None = None,
        table: str | None = None,
        max_share: float | str | None = 0.5,
        **kwargs: Any,
    ) -> None:
        self.accounts = account_table(accounts, table)
        super().__init__(table=self.accounts.table, max_share=max_share, **kwargs)
        self.max_inactive_days = max_inactive_days
        self.exempt_admins = exempt_admins
        self.exempt_names = exempt_names
        self.min_age_days = min_age_days
        self.undo_location = undo_location
        self.on_disable = on_disable
        self.warn_days = warn_days
        self.on_warning = on_warning
        arguments.check_literal(arguments.days, "max_inactive_days", max_inactive_days)
        arguments.check_literal(arguments.days, "min_age_days", min_age_days)
        if undo_location != NO_UNDO_RECORD:
            arguments.check_literal(arguments.location, "undo_location", undo_location)
        arguments.boolean("exempt_admins", exempt_admins)
        arguments.listed_names("exempt_names", exempt_names)
        arguments.one_of("on_disable", on_disable, ("keep", "expire_secrets"))
        _check_warnings(warn_days, on_warning)
        arguments.check_literal(self._limit, "max_inactive_days", max_inactive_days)
        self._check_accounts()

    def _check_accounts(self) -> None:
        accounts = self.accounts
        if self.exempt_admins and not accounts.admins:
            raise JobArgumentError(
                "the AccountTable names no column of administrators, so the job can't leave them alone. Set "
                "admin to the column, or set exempt_admins=False and name them in exempt_names"
            )
        if accounts.created is None and self.min_age_days not in {0, "0"}:
            raise JobArgumentError(
                f"min_age_days is {self.min_age_days!r}, but the AccountTable names no column of the "
                "creation. Set created, or leave min_age_days out"
            )
        if self.on_disable != "keep" and not accounts.is_iam:
            raise JobArgumentError(
                f"on_disable is {self.on_disable!r}, which needs the table `secret` of IAM; expected 'keep' "
                f"for the accounts in {accounts.table!r}"
            )

    def _limit(self, name: str, value: object) -> int:
        """Return `max_inactive_days`, which is more than each of `warn_days`."""
        limit, longest = arguments.days(name, value), max(self.warn_days, default=0)
        if 0 < limit <= longest:
            raise JobArgumentError(
                f"warn_days has {longest}, and {name} is {limit}: a user would be listed at each login. Use "
                f"numbers below {limit} in warn_days"
            )
        return limit

    def job(self) -> DisableUsersJob:
        """Return the job with the arguments of this run."""
        from iam_watcher.archive.location import configured_location
        from iam_watcher.jobs.table_job.disable_users_job import DisableUsersJob

        wanted = self.undo_location != NO_UNDO_RECORD
        given = arguments.location("undo_location", self.undo_location) if wanted else None
        max_inactive_days = self._limit("max_inactive_days", self.max_inactive_days)
        return DisableUsersJob(
            **self.shared_arguments(),
            accounts=self.accounts,
            location=given or (configured_location() if wanted else None),
            needs_record=wanted,
            max_inactive_days=max_inactive_days,
            min_age_days=arguments.days("min_age_days", self.min_age_days),
            exempt_admins=self.exempt_admins,
            exempt_names=self.exempt_names,
            expire_secrets=self.on_disable == "expire_secrets",
            warn_days=self.warn_days,
            on_warning=self.on_warning,
        )


def _check_warnings(warn_days: object, on_warning: object) -> None:
    if not isinstance(warn_days, (list, tuple)) or not all(type(number) is int for number in warn_days):
        raise JobArgumentError(
            f"warn_days is {warn_days!r}; expected a list of whole numbers, such as (14, 3)"
        )
    for number in warn_days:
        if arguments.days("warn_days", number) == 0:
            raise JobArgumentError("warn_days has 0; expected days before a user is disabled, from 1 on")
    if on_warning is not None and not arguments.is_callback(on_warning):
        raise JobArgumentError(
            f"on_warning is {on_warning!r}; expected a notifier, or a function that is not async "
            "and no generator"
        )
    if on_warning is not None and not warn_days:
        raise JobArgumentError("on_warning is given, but warn_days is empty, so that nothing would call it")
