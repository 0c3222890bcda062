"""The columns of an account table: what each of them means, as SQL, for every use of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from iam_watcher.database.column import AS_UTF8, FIRST_TIME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column

ACTIVE, DISABLED, OTHER = "active", "disabled", "other"
"""The states of an account, as `AccountColumns.state` reads them."""

LOGIN, CREATED = "L", "C"  # which of the two a moment is

UserId = int | str | tuple[str, ...]
"""The key of an account's row, as an undo record has it: a list there is a tuple here."""


class TimeForm(Protocol):
    """The interface of a time column. `AgeColumn` of the retention jobs implements it."""

    @property
    def column(self) -> Column:
        """The column."""

    def cut_off(self, moment: datetime) -> object:
        """Return a moment as a value of the column; if the column can't hold it exactly, an earlier one."""

    def moment_of(self, text: str) -> datetime | None:
        """Return the moment that a value means; None if it means none. The text is as the server shows it."""


@dataclass(frozen=True)
class TimeColumn:
    """The time of an account's last login, or of its creation.

    Attributes:
        form: the column and the form of its values.
        is_number: whether the values are numbers, of which 0 stands for no time.
        first: name of the placeholder for the first value that is a date.
    """

    form: TimeForm
    is_number: bool
    first: str

    @property
    def quoted(self) -> str:
        """The column."""
        return self.form.column.quoted

    @property
    def text(self) -> str:
        """SQL for a value as the server shows it, as bytes."""
        return AS_UTF8.format(column=self.quoted)

    @property
    def never(self) -> str:
        """The condition for a value that says that there was no such time."""
        # If a DATETIME is NOT NULL, then IS NULL is true of a zero date in WHERE: on MariaDB always, on MySQL
        # outside of OR.
        is_null = f"{self.quoted} IS NULL" if self.form.column.nullable else "FALSE"
        return f"({is_null} OR {self.quoted} = 0)" if self.is_number else is_null

    @property
    def dated(self) -> str:
        """The condition for a value that is a date."""
        return f"{self.quoted} >= %({self.first})s"

    @property
    def undated(self) -> str:
        """The condition for a value that is neither a date nor NULL, such as a zero date."""
        return f"{self.quoted} < %({self.first})s"


@dataclass(frozen=True)
class AccountColumns:
    """The columns of an account table, checked against the catalogue.

    Attributes:
        table: of the accounts.
        name: of the user.
        status: says whether the account is active.
        active: value of `status` of an active account.
        disabled: value of `status` of a disabled account.
        last_login: NULL, or 0 in a column of numbers, if the user never logged in.
        created: creation of the account; None if the table has none.
        admins: flags of administrators.
        email: None if the table has none.
        updated: changes with each change of the row; None if the table has none.
        where: the condition for the rows that are accounts.
        where_values: of its placeholders.
    """

    table: Table
    name: Column
    status: Column
    active: int | str
    disabled: int | str
    last_login: TimeColumn
    created: TimeColumn | None
    admins: Sequence[Column] = ()
    email: Column | None = None
    updated: Column | None = None
    where: str = "TRUE"
    where_values: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_active(self) -> str:
        """The condition for an active account; its value is in `values`."""
        return self._has_status("active")

    @property
    def is_disabled(self) -> str:
        """The condition for a disabled account; its value is in `values`."""
        return self._has_status("disabled")

    def _has_status(self, placeholder: str) -> str:
        equal = f"{self.status.quoted} = %({placeholder})s"
        if self.status.charset is None or self.status.data_type == "enum":
            return equal
        # By the collation other texts are equal too: in capitals, or with spaces at the end. The system of
        # the accounts may give them another meaning, and an undo would not restore them.
        stored, wanted = (
            AS_UTF8.format(column=self.status.quoted),
            AS_UTF8.format(column=f"%({placeholder})s"),
        )
        return f"{equal} AND {stored} = {wanted}"

    @property
    def state(self) -> str:
        """SQL for the state of an account: ACTIVE, DISABLED or OTHER."""
        return (
            f"CASE WHEN {self.is_active} THEN '{ACTIVE}' WHEN {self.is_disabled} THEN '{DISABLED}'"
            f" ELSE '{OTHER}' END"
        )

    @property
    def is_admin(self) -> str:
        """The condition for administrators; "" if there is no such column. NULL may mean one."""
        return " OR ".join(
            f"COALESCE({column.quoted} <> 0, TRUE)" if column.nullable else f"{column.quoted} <> 0"
            for column in self.admins
        )

    @property
    def values(self) -> dict[str, object]:
        """The values of the placeholders in these conditions, and of `active` and `disabled`."""
        times = [time for time in (self.last_login, self.created) if time is not None]
        return {
            "active": self.active,
            "disabled": self.disabled,
            **{time.first: time.form.cut_off(FIRST_TIME) for time in times},
            **self.where_values,
        }

    @property
    def texts(self) -> str:
        """SQL for name, last login, creation and last change as bytes, and whether there was no login."""
        no_value = "NULL"
        return ", ".join((
            AS_UTF8.format(column=self.name.quoted),
            self.last_login.text,
            no_value if self.created is None else self.created.text,
            no_value if self.updated is None else AS_UTF8.format(column=self.updated.quoted),
            self.last_login.never,
        ))  # fmt: skip

    @property
    def counted_from(self) -> str:
        """SQL for the moment that a user's inactivity counts from, which `counted_from_moment` reads."""
        if self.created is None:
            return f"CONCAT('{LOGIN}', {self.last_login.quoted})"
        return (
            f"IF({self.last_login.never}, CONCAT('{CREATED}', {self.created.quoted}),"
            f" CONCAT('{LOGIN}', {self.last_login.quoted}))"
        )

    def counted_from_moment(self, text: str) -> datetime | None:
        """Return the moment that a text of `counted_from` means; None if it is no date of the calendar."""
        time = self.created if text.startswith(CREATED) else self.last_login
        return None if time is None else time.form.moment_of(text[1:])

    def last_seen(self, login: bytes | None, created: bytes | None, never: object) -> datetime | None:
        """Return the moment that a user's inactivity counts from, given values that `texts` reads.

        Returns:
            The last login or, if there was none, the creation of the account; None if neither is known.
        """
        time, text = (self.created, created) if never else (self.last_login, login)
        return None if time is None or text is None else time.form.moment_of(text.decode())

    def id_of(self, key: Any) -> UserId:
        """Return a key of the table as an undo record has it."""
        if isinstance(key, int):
            return key
        encoded = self.table.key.encode(key)
        return encoded if isinstance(encoded, str) else tuple(encoded)

    def key_of(self, user: UserId) -> Any:
        """Return the key of the table that `id_of` made.

        Raises:
            ValueError: this table has no such keys.
        """
        if isinstance(user, int):
            if self.table.key.is_integer:
                return user
            raise ValueError(f"{user} is no key of {self.table.name}")
        return self.table.key.decode(user if isinstance(user, str) else list(user))
