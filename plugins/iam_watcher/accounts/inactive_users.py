"""Which users are inactive, which of them are left alone and why: the conditions, for every use of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from iam_watcher.accounts.exempt_names import exempt_condition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from iam_watcher.accounts.account_columns import AccountColumns


@dataclass(frozen=True)
class InactiveUsers:
    """The conditions, as SQL.

    Attributes:
        inactive: users to disable.
        eligible: users whom the safety limit takes the inactive ones as a share of.
        left_out: reason → inactive users who stay enabled for it.
        can_be_disabled: users who can become inactive: those that are new now among them.
        values: of the placeholders.
    """

    inactive: str
    eligible: str
    left_out: Mapping[str, str]
    can_be_disabled: str
    values: Mapping[str, object]

    @classmethod
    def of(
        cls,
        columns: AccountColumns,
        *,
        cut_off: datetime,
        now: datetime,
        min_age_days: int,
        exempt_admins: bool,
        exempt_names: Sequence[str],
    ) -> InactiveUsers:
        """Return the conditions.

        Args:
            columns: of the accounts.
            cut_off: users whose last login is earlier are inactive.
            now: the database's time.
            min_age_days: accounts that were created less than so many days ago are new; 0 for none.
            exempt_admins: whether administrators stay enabled.
            exempt_names: names, or globs of them, that stay enabled.
        """
        named, values = exempt_condition(columns.name, exempt_names)
        values |= columns.values
        login, created = columns.last_login, columns.created
        inactive, inactive_values = seen_before(columns, "cut_off", cut_off)
        values |= inactive_values
        others = f"{columns.where} AND {columns.is_active}"
        no_login = f"{login.undated} AND NOT ({login.never})" if login.is_number else login.undated
        no_creation = f" OR {login.never} AND {created.undated}" if created else ""
        left_out = {"zero_date": f"{others} AND ({no_login}{no_creation})"}
        if created is None:
            left_out["no_date"] = f"{others} AND {login.never}"
        elif created.form.column.nullable:
            left_out["no_date"] = f"{others} AND {login.never} AND {created.quoted} IS NULL"

        def leave_out(reason: str, condition: str) -> None:
            nonlocal others
            if condition:
                left_out[reason] = f"{others} AND ({condition}) AND {inactive}"
                others += f" AND NOT ({condition})"

        leave_out("no_name", f"{columns.name.quoted} IS NULL" if columns.name.nullable else "")
        leave_out("admin", columns.is_admin if exempt_admins else "")
        leave_out("exempt_name", named)
        dated = f"{login.dated} OR {login.never} AND {created.dated}" if created else login.dated
        can_be_disabled = f"{others} AND ({dated})"
        if min_age_days and created:
            # An account may have been made with the last login of an older one.
            values["new_since"] = created.form.cut_off(now - timedelta(days=min_age_days))
            leave_out("new_account", f"COALESCE({created.quoted} >= %(new_since)s, FALSE)")
        return cls(
            inactive=f"{others} AND {inactive}",
            eligible=others,
            left_out=left_out,
            can_be_disabled=can_be_disabled,
            values=values,
        )


def seen_before(columns: AccountColumns, name: str, moment: datetime) -> tuple[str, dict[str, object]]:
    """Return the condition for users who were last seen before a moment, and the values of its placeholders.

    For a user who never logged in, the creation of the account counts.

    Args:
        columns: of the accounts.
        name: of the placeholders.
        moment: to compare with.
    """
    login, created = columns.last_login, columns.created
    values = {f"{name}_login": login.form.cut_off(moment)}
    condition = f"{login.quoted} < %({name}_login)s AND {login.dated}"
    if created is not None:
        values[f"{name}_created"] = created.form.cut_off(moment)
        condition += f" OR {login.never} AND {created.quoted} < %({name}_created)s AND {created.dated}"
    return f"({condition})", values
