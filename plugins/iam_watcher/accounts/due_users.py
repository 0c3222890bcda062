"""Lists users who will be disabled soon, each of them once for each warning.

For each warning, a Variable stores the last login up to which users were listed. The next run lists the users
from this login up to the login that is due in so many days. So no user is listed twice for the same login. If
a run was missed, the next run lists its users. A user who logs in is listed again when the time comes.
"""

from __future__ import annotations

import inspect
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable
from airflow.sdk.exceptions import AirflowSkipException

from iam_watcher.accounts.due_search import Band
from iam_watcher.accounts.exempt_names import shown
from iam_watcher.errors import JobArgumentError, JobError
from iam_watcher.log_lines import fact, get_logger
from iam_watcher.task_variable import task_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow.sdk import Context

    from iam_watcher.accounts.due_search import Search

logger = get_logger(__name__)

VARIABLE = "iam_watcher:warned:{dag_id}:{task_id}"


def bands(cut_off: datetime, warn_days: Iterable[int], warned: Mapping[str, Any]) -> list[Band]:
    """Return the users to list, as one band of last logins for each warning.

    Args:
        cut_off: users whose last login is earlier are disabled now.
        warn_days: the warnings: how many days before the user is disabled.
        warned: days → the last login up to which users were listed, ISO 8601.
    """
    found = []
    earlier = cut_off
    for days in sorted(set(warn_days)):
        before = cut_off + timedelta(days=days)
        since = datetime.fromisoformat(warned[str(days)]) if str(days) in warned else earlier
        found.append(Band(days, max(since, earlier), before))
        earlier = before
    return found


class Warned:
    """Up to which last login users were listed, kept in a Variable of the task.

    A last login says who was listed only for the same table of the same server, and for limits that have not
    become larger: with larger ones, the same users are due later. A Variable of an earlier version, which may
    lack any of this, says nothing: a user who is warned twice is better than one who is not warned.

    Args:
        context: of the task.
        search: finds the users.
        server: that has the table, as the connection names it.
    """

    def __init__(self, context: Context, search: Search, server: str) -> None:
        self._variable = task_variable(VARIABLE, context)
        table = search.columns.table
        self._table = {"server": server, "database": table.database, "table": table.name}
        self._limits = {"max_inactive_days": search.max_inactive.days, "min_age_days": search.min_age.days}

    def read(self) -> dict[str, Any]:
        """Return days → last login, ISO 8601; nothing if that is of another table or of smaller limits."""
        kept: dict[str, Any] = Variable.get(self._variable, default={}, deserialize_json=True)
        if kept and (
            any(kept.get(name) != mine for name, mine in self._table.items())
            or any(kept.get(name, -1) < mine for name, mine in self._limits.items())
        ):
            logger.info(
                "Users are listed again: server, table or limits differ from those of the last list: %s", kept
            )
            return {}
        return kept

    def save(self, listed: Iterable[Band]) -> None:
        """Record which users were listed for which warning period."""
        value = {str(band.days): max(band.seen_from, band.seen_before).isoformat() for band in listed}
        Variable.set(self._variable, {**value, **self._table, **self._limits}, serialize_json=True)


def warn(
    search: Search,
    cut_off: datetime,
    *,
    server: str,
    warn_days: Iterable[int],
    on_warning: Callable[[Context], Any] | None,
    dry_run: bool,
    counts: dict[str, int],
    context: Context,
) -> None:
    """List the users who are due. Unless this is a dry run, call `on_warning` and save who was listed.

    Args:
        search: finds the users.
        cut_off: users whose last login is earlier are disabled now.
        server: that has the accounts, as the connection names it.
        warn_days: the warnings: how many days before the user is disabled.
        on_warning: called with the context, in which `due_users` is the list.
        dry_run: warn nobody.
        counts: of the run report; gets the users of each warning, and those who are due without a date, or
            that the list is incomplete.
        context: of the task.

    Raises:
        JobArgumentError: `on_warning` is async or a generator, so that its call warned nobody.
        JobError: `on_warning` raised a skip.
    """
    warned = Warned(context, search, server)
    asked = bands(cut_off, warn_days, warned.read())
    found = search.users(asked)
    if found is None:
        counts["due_list_incomplete"] = 1
        logger.warning(
            "No user is warned in this run: the list of users who are due was not complete after "
            "time_budget=%s. The next run lists them again. If this happens in each run, raise time_budget.",
            search.time_limit,
        )
        return
    due = found.listed
    for band in asked:
        counts[f"due_in_{band.days}_days"] = sum(user["days"] == band.days for user in due)
    for user in due:
        logger.info("event=user_due user=%s due=%s days=%d", fact(user["name"]), user["due"], user["days"])
    if found.without_date:
        counts["due_without_a_date"] = len(found.without_date)
        logger.warning(
            "The job can't warn users whose last login or creation is not a date of the calendar. It will "
            "still disable them. Correct the date: %s",
            shown(found.without_date),
        )
    if dry_run:
        return
    if due and on_warning is not None:
        try:
            answer = on_warning({**context, "due_users": due})  # type: ignore[typeddict-unknown-key]
        except AirflowSkipException as skip:
            # Airflow would show the task as skipped, although it has disabled users and warned nobody.
            raise JobError(f"on_warning skipped: {skip}. The users who are due are not warned") from skip
        if inspect.isawaitable(answer) or inspect.isgenerator(answer):
            raise JobArgumentError(
                f"on_warning returned {answer!r}, which nobody runs, so nobody was warned; expected a "
                "function that has sent the warning when it returns"
            )
    warned.save(asked)
