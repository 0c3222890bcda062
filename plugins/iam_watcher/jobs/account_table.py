"""Which table the accounts are in, and what its columns mean: `AccountTable`, for DAG files."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError, shown_at_the_call
from iam_watcher.jobs.conditions import Column
from iam_watcher.jobs.table_job import conditions
from iam_watcher.jobs.table_job.age_forms import UNIX
from iam_watcher.jobs.table_job.condition_syntax import simple_conditions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.jobs.conditions import Condition

TimeUnit = Literal["unix_seconds", "unix_milliseconds", "unix_microseconds"]

# Words of a name whose flag is 1 for accounts that are not active, and words that turn their meaning around.
INACTIVE_WORDS = frozenset(
    {
        *("block", "blocked", "lock", "locked", "disable", "disabled", "suspend", "suspended", "inactive"),
        *("del", "delete", "deleted", "ban", "banned", "deactivated"),
    }
)
NEGATIONS = frozenset({"non", "not", "no", "never"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def _compared(value: object) -> object:
    """Return a status as the server may compare it, by whatever collation."""
    return value.strip().casefold() if isinstance(value, str) else value


class _Default(int):
    """A number that nobody gave, as `dataclasses.replace` keeps it."""


ONE, ZERO = _Default(1), _Default(0)


@shown_at_the_call
@dataclass(frozen=True, kw_only=True)
class AccountTable:
    """A table of accounts: the names of its columns, and what their values mean.

    Attributes:
        table: name of the table.
        name: column of the user's name.
        status: column that says whether an account is active.
        active: value of `status` for an active account: a whole number, or a text, which is compared exactly.
        disabled: value of `status` for a disabled account. The job leaves accounts with any other value
            alone. Give both values if the name of the column says that its accounts are not active, such as
            `blocked`.
        last_login: column of the last login: a date, or a number in `time_unit`. NULL, or 0 in a column of
            numbers, means that the user never logged in.
        created: column of the account's creation. The inactivity of a user who never logged in counts from
            the creation. None: the job leaves such users alone.
        admin: column that is 0 for all users who are not administrators, or several such columns. (): there
            is no such column.
        email: column of the mail address, for warnings.
        updated: column that changes with each change of the row. An undo needs this column only if the
            columns of the table were changed after the run.
        time_unit: unit of `last_login` and `created` in columns of numbers.
        time_zone: IANA name of the time zone of `last_login` and `created` in DATETIME and DATE columns.
        where: conditions for the rows that the operators work on, in the form of `where` of
            `PurgeRowsOperator`.
    """

    table: str
    name: str
    status: str
    active: int | str = ONE
    disabled: int | str = ZERO
    last_login: str
    created: str | None = None
    admin: str | Sequence[str] = ()
    email: str | None = None
    updated: str | None = None
    time_unit: TimeUnit | None = None
    time_zone: str = "UTC"
    where: Sequence[Condition] = ()

    def __post_init__(self) -> None:
        for field in ("table", "name", "status", "last_login"):
            arguments.identifier(field, getattr(self, field))
        for field in ("created", "email", "updated"):
            if getattr(self, field) is not None:
                arguments.identifier(field, getattr(self, field))
        self._check_admins()
        self._check_different_columns()
        self._check_statuses()
        if self.time_unit is not None:
            arguments.one_of("time_unit", self.time_unit, tuple(UNIX))
        arguments.time_zone("time_zone", self.time_zone)
        conditions.check(self.where)
        self._check_where()

    @property
    def admins(self) -> tuple[str, ...]:
        """The names of the columns that `admin` names."""
        return (self.admin,) if isinstance(self.admin, str) else tuple(self.admin)

    @property
    def is_iam(self) -> bool:
        """Whether this is IAM's table, by any name: IAM has a table of secrets beside it."""
        return replace(self, table=IAM_ACCOUNTS.table) == IAM_ACCOUNTS

    @property
    def shape(self) -> dict[str, Any]:
        """What an undo record and the job that reads it must agree on, as JSON has it."""
        names = ("name", "status", "active", "disabled", "last_login", "updated", "time_unit", "time_zone")
        values = {name: getattr(self, name) for name in names}
        return {name: int(value) if isinstance(value, _Default) else value for name, value in values.items()}

    def _check_admins(self) -> None:
        if not isinstance(self.admin, (str, list, tuple)):
            raise JobArgumentError(
                f"admin is {self.admin!r}; expected the name of a column, or a list of names"
            )
        for name in self.admins:
            arguments.identifier("admin", name)

    def _check_different_columns(self) -> None:
        used: dict[str, str] = {}
        named = [(field, getattr(self, field)) for field in ("name", "status", "last_login", "created")]
        for field, name in [*named, *(("admin", admin) for admin in self.admins)]:
            if name is None:
                continue
            if (other := used.setdefault(name.lower(), field)) != field:
                raise JobArgumentError(f"{other} and {field} are both {name!r}; expected different columns")

    def _check_statuses(self) -> None:
        for field in ("active", "disabled"):
            value = getattr(self, field)
            if not isinstance(value, (int, str)):
                raise JobArgumentError(f"{field} is {value!r}; expected a whole number or a text")
            conditions.check_value("accounts", f"{field}={value!r}", value)
        if isinstance(self.active, str) != isinstance(self.disabled, str):
            raise JobArgumentError(
                f"active is {self.active!r} and disabled is {self.disabled!r}; expected two numbers or "
                "two texts"
            )
        if len({_compared(self.active), _compared(self.disabled)}) == 1:
            raise JobArgumentError(
                f"active is {self.active!r} and disabled is {self.disabled!r}; expected two values that "
                "differ by more than capitals and spaces"
            )
        if isinstance(self.active, _Default) or isinstance(self.disabled, _Default):
            self._check_meaning()

    def _check_where(self) -> None:
        """Refuse a condition that a row no longer meets once it is disabled: the undo would not find it."""
        both = {_compared(self.active), _compared(self.disabled)}
        for condition in simple_conditions(self.where):
            other = condition.value.name if isinstance(condition.value, Column) else ""
            if self.status.lower() not in {condition.column.lower(), other.lower()}:
                continue
            values = set(map(_compared, condition.values))
            harmless = {
                "in": both <= values,
                "not in": not both & values,
                "<>": bool(values) and not both & values,
                "is not": True,
            }
            if not harmless.get(condition.operator, False):
                raise JobArgumentError(
                    f"where has {condition.given!r}, a condition on {self.status!r}, the column of the "
                    "status. A disabled account may not meet it and could not be enabled again. Remove it: "
                    "the operators leave accounts with another status than active and disabled alone"
                )

    def _check_meaning(self) -> None:
        """Refuse the default values for a column such as `blocked`: they would unblock accounts."""
        words = [word.lower() for word in _WORD.findall(self.status)]
        found = [
            word
            for before, word in zip(["", *words], words, strict=False)
            if word in INACTIVE_WORDS and before not in NEGATIONS
        ]
        if found:
            raise JobArgumentError(
                f"status is {self.status!r}, and by the word {found[0]!r} in this name, 1 is the value of an "
                "account that is not active. The defaults are active=1 and disabled=0, with which the job "
                "would enable such accounts. Give active= and disabled= explicitly, such as "
                "active=0, disabled=1"
            )


IAM_ACCOUNTS = AccountTable(
    table="user",
    name="name",
    status="status",
    last_login="loginedAt",
    created="createdAt",
    admin="isAdmin",
    email="email",
    updated="updatedAt",
)
"""The users of IAM."""


def account_table(accounts: object, table: str | None) -> AccountTable:
    """Return the account table that the arguments of an operator mean.

    Args:
        accounts: its argument `accounts`; None for IAM's columns.
        table: its argument `table`; None for the name that the account table has.

    Raises:
        JobArgumentError: one of them is not valid, or both are given.
    """
    if table is not None:
        arguments.identifier("table", table)
    if accounts is None:
        return IAM_ACCOUNTS if table is None else replace(IAM_ACCOUNTS, table=table)
    if not isinstance(accounts, AccountTable):
        raise JobArgumentError(f"accounts is {accounts!r}; expected an AccountTable(...)")
    if table is not None:
        raise JobArgumentError(
            f"table is {table!r}, and accounts names the table {accounts.table!r}; leave table out"
        )
    return accounts
