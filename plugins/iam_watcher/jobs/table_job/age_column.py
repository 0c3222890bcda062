"""The age column of a purge: SQL for rows that are old or have no age, and what its values mean."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from iam_watcher.database.catalogue import INTEGERS
from iam_watcher.errors import JobArgumentError

if TYPE_CHECKING:
    from iam_watcher.database.catalogue import Column, Table

# A zero date is smaller than any cut-off, but says nothing about an age.
OLD_DATE = "{age} < %(cut_off)s AND {age} >= '{first}'"
ZERO_DATE = "{age} < '{first}'"

# The first moment of each type. MySQL takes a comparison with one that a TIMESTAMP can't have for decided:
# everything, the zero date too, would be later.
FIRST_DATE = "1000-01-01"
FIRST_TIMESTAMP = "1970-01-01 00:00:01"

# 0 stands for no date at all in a column of unix seconds.
OLD_SECONDS = "{age} < %(cut_off)s AND {age} > 0"
ZERO_SECONDS = "{age} <= 0"

NO_DATE = "{age} IS NULL"

DATES = frozenset({"timestamp", "datetime", "date"})


@dataclass(frozen=True)
class AgeColumn:
    """A column that a row's age counts from.

    Attributes:
        column: of DATES, or an integer one.
        in_seconds: whether it has unix seconds.
        zone: that a DATETIME or DATE column is in.
    """

    column: Column
    in_seconds: bool
    zone: ZoneInfo

    @classmethod
    def of(cls, table: Table, name: str, *, in_seconds: bool, zone: ZoneInfo) -> AgeColumn:
        """Return it; for the arguments see the attributes.

        Raises:
            TableError: there is none of that name, or its type has no such ages.
        """
        return cls(table.column(name, INTEGERS if in_seconds else DATES), in_seconds, zone)

    @property
    def old(self) -> str:
        """The condition for rows that are older than the placeholder cut_off."""
        return self._format(OLD_SECONDS if self.in_seconds else OLD_DATE)

    @property
    def zero(self) -> str:
        """The condition for rows whose value is no age."""
        return self._format(ZERO_SECONDS if self.in_seconds else ZERO_DATE)

    @property
    def unknown(self) -> str:
        """The condition for rows that have no value."""
        return self._format(NO_DATE)

    def value_of(self, moment: datetime) -> object:
        """Return a moment as the column has it."""
        if self.in_seconds:
            return int(moment.timestamp())
        if self.column.data_type == "timestamp":
            return moment.replace(tzinfo=None)
        local = moment.astimezone(self.zone)
        if self.column.data_type == "date":
            # A DATE is a whole day: it is over before the cut-off only if the cut-off is on a later one.
            return local.date()
        # Before a clock is set back, a value may mean a moment after that, and its row is not old yet.
        wait = local.replace(fold=1).astimezone(UTC) - moment
        return local.replace(tzinfo=None) - wait

    def moment_of(self, text: str) -> datetime | None:
        """Return what the server shows of a value as a moment; None for a date that no calendar has."""
        if self.in_seconds:
            return datetime.fromtimestamp(int(text), UTC)
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            return None  # A month of zero, or 31 February under ALLOW_INVALID_DATES.
        zone = UTC if self.column.data_type == "timestamp" else self.zone
        return value.replace(tzinfo=zone).astimezone(UTC)

    def _format(self, condition: str) -> str:
        first = FIRST_TIMESTAMP if self.column.data_type == "timestamp" else FIRST_DATE
        return condition.format(age=self.column.quoted, first=first)


def time_zone(name: str, value: object) -> ZoneInfo:
    """Return the time zone that an argument names.

    Raises:
        JobArgumentError: there is none of that name.
    """
    try:
        if isinstance(value, str):
            return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise JobArgumentError(f"{name} is {value!r}; expected an IANA name such as 'Asia/Shanghai'")
