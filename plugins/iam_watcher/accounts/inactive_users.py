"""Which users are inactive, which of them are left alone and why: the conditions, for every use of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from iam_watcher.accounts.exempt_names import exempt_condition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

# Who never logged in counts from the day the account was made.
LAST_SEEN = "COALESCE(`loginedAt`, `createdAt`)"

# A zero date is smaller than any cut-off, but says nothing about a login.
DATED = f"{LAST_SEEN} >= '1970-01-01 00:00:01'"
ZERO_DATE = f"{LAST_SEEN} < '1970-01-01 00:00:01'"
INACTIVE = f"{LAST_SEEN} < %(cut_off)s AND {DATED}"

# An account may have been made with the last login of an older one.
NEW = "`createdAt` >= %(new_since)s"

# Later than the last login for an account which is still too new when it has been inactive for long enough.
COUNTED_FROM = (
    f"GREATEST({LAST_SEEN}, COALESCE(`createdAt` + INTERVAL %(min_age)s - %(max_inactive)s DAY, {LAST_SEEN}))"
)

ACTIVE = "`status` = 1"
ADMIN = "`isAdmin` <> 0"


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
        *,
        cut_off: datetime,
        now: datetime,
        max_inactive_days: int,
        min_age_days: int,
        exempt_admins: bool,
        exempt_names: Sequence[str],
    ) -> InactiveUsers:
        """Return the conditions.

        Args:
            cut_off: who logged in before it is inactive.
            now: the database's time.
            max_inactive_days: days between the two.
            min_age_days: accounts that were made less than so many days ago are new; 0 for none.
            exempt_admins: whether administrators stay enabled.
            exempt_names: names, or globs of them, that stay enabled.
        """
        named, values = exempt_condition(exempt_names)
        others, left_out = ACTIVE, {"zero_date": f"{ACTIVE} AND {ZERO_DATE}"}

        def leave_out(reason: str, condition: str) -> None:
            nonlocal others
            if condition:
                left_out[reason] = f"{others} AND ({condition}) AND {INACTIVE}"
                others += f" AND NOT ({condition})"

        leave_out("admin", ADMIN if exempt_admins else "")
        leave_out("exempt_name", named)
        can_be_disabled = f"{others} AND {DATED}"
        leave_out("new_account", NEW if min_age_days else "")
        return cls(
            inactive=f"{others} AND {INACTIVE}",
            eligible=others,
            left_out=left_out,
            can_be_disabled=can_be_disabled,
            values={
                "cut_off": cut_off.replace(tzinfo=None),
                "new_since": (now - timedelta(days=min_age_days)).replace(tzinfo=None),
                "min_age": min_age_days,
                "max_inactive": max_inactive_days,
                **values,
            },
        )
