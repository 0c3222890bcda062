"""The age column of a purge: SQL for rows that are old or have no age, and what the column's values mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, ClassVar

from iam_watcher.database.column import FIRST_TIME, INTEGERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from iam_watcher.database.column import Column

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DATES = frozenset({"timestamp", "datetime", "date"})
NUMBERS = INTEGERS | {"decimal", "double"}


@dataclass(frozen=True)
class AgeColumn(ABC):
    """A column that a row's age counts from, in one of the forms that such columns have.

    `old` compares the bare column with the cut-off, so that the server can use an index on it. What the
    comparison can't tell from a time, such as a 13th month, is not `valid`: such a row is never old. A time
    before FIRST_TIME is no age either, in the column's own form: in another unit, such as seconds among
    milliseconds, a young row would have one.

    Attributes:
        column: of the table.
        zone: the time zone of values that name none.
    """

    column: Column
    zone: ZoneInfo

    is_checked: ClassVar[bool] = True
    """Whether a sample must show that the values have this form: another form has the same data types."""

    @property
    def has_index(self) -> bool:
        """Whether the order of the values is that of their times, so that an index on them helps."""
        return True

    @property
    def is_ordered(self) -> bool:
        """Whether a later time always sorts after an earlier one, so that the last values are the newest."""
        return self.has_index

    @property
    @abstractmethod
    def form(self) -> str:
        """The form of the values, for messages."""

    @property
    def sorted_by(self) -> str:
        """SQL for what `cut_off` and `first` are compared with."""
        return self.column.quoted

    def sorts_before(self, number: int = 0) -> str:
        """Return the condition for values that sort before a cut-off, also for those that are no age.

        Args:
            number: of the cut-off, see `values`.
        """
        return f"{self.sorted_by} < %(cut_off{number})s"

    def before(self, number: int = 0) -> str:
        """Return the condition for values that sort before a cut-off and may be an age.

        Args:
            number: of the cut-off, see `values`.
        """
        return f"{self.sorts_before(number)} AND {self.sorted_by} >= %(age_first)s"

    @property
    def zero(self) -> str:
        """The condition for values that stand for no time, such as a zero date or 1970-01-01."""
        return f"{self.sorted_by} < %(age_first)s"

    @property
    @abstractmethod
    def first(self) -> object:
        """FIRST_TIME as the column has it; values that sort before are no age."""

    @property
    def valid(self) -> str:
        """The condition for values that are a time in this form; "" if all are."""
        return ""

    @property
    def left_out(self) -> dict[str, str]:
        """Reason → condition of rows that have no age; `zero` is not among them."""
        found = {}
        if self.column.nullable:
            found["no_date"] = f"{self.column.quoted} IS NULL"
        if self.valid:
            found["no_time"] = f"{self.before()} AND NOT ({self.valid})"
        return found

    @property
    def present(self) -> str:
        """The condition for rows of a sample: they have a value that is not zero."""
        return f"{self.column.quoted} > 0"

    @property
    def shown(self) -> str:
        """SQL for a value as `moment_of` reads it."""
        return self.column.quoted

    @property
    def position(self) -> str | None:
        """SQL for a value that the column can be compared with; None for its number."""
        return None

    @abstractmethod
    def cut_off(self, moment: datetime) -> object:
        """Return a cut-off as the column has it."""

    def values(self, cut_offs: Sequence[datetime]) -> dict[str, object]:
        """Return the values of the placeholders: each cut-off by its number, and what is the same for all."""
        values = {f"cut_off{number}": self.cut_off(moment) for number, moment in enumerate(cut_offs)}
        return {**values, "age_first": self.first}

    @abstractmethod
    def moment_of(self, text: str) -> datetime | None:
        """Return the moment that a value means, as the server shows it; None if it means none."""


class DateColumn(AgeColumn):
    """A TIMESTAMP, DATETIME or DATE column."""

    is_checked = False

    @property
    def form(self) -> str:
        """The data type."""
        return self.column.data_type

    @property
    def first(self) -> object:
        """The day, whatever the time zone is."""
        return FIRST_TIME.date()

    def cut_off(self, moment: datetime) -> object:
        """Return a date or time."""
        if self.column.data_type == "timestamp":
            return moment.replace(tzinfo=None)
        if self.column.data_type == "date":
            # A DATE is a whole day: it is over before the cut-off only if the cut-off is on a later one.
            return moment.astimezone(self.zone).date()
        return latest_local(moment, self.zone)

    def moment_of(self, text: str) -> datetime | None:
        """Return the moment; None for a date that no calendar has."""
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            return None  # A month of zero, or 31 February under ALLOW_INVALID_DATES.
        zone = UTC if self.column.data_type == "timestamp" else self.zone
        return value.replace(tzinfo=zone).astimezone(UTC)


@dataclass(frozen=True)
class UnixColumn(AgeColumn):
    """A column of seconds, or parts of seconds, since 1970 in UTC.

    Attributes:
        unit: of one: a second, a millisecond or a microsecond.
    """

    unit: timedelta = timedelta(seconds=1)

    @property
    def form(self) -> str:
        """The unit."""
        parts = {timedelta(seconds=1): "seconds", timedelta(milliseconds=1): "milliseconds"}
        return parts.get(self.unit, "microseconds")

    @property
    def first(self) -> object:
        """A number of whole units."""
        return self.cut_off(FIRST_TIME)

    def cut_off(self, moment: datetime) -> object:
        """Return a number of whole units."""
        return (moment - EPOCH) // self.unit

    def moment_of(self, text: str) -> datetime | None:
        """Return the moment; None if it is after the year 9999."""
        try:
            microseconds = int(Decimal(str(text)) * (self.unit // timedelta(microseconds=1)))
            return EPOCH + timedelta(microseconds=microseconds)
        except (InvalidOperation, ValueError, OverflowError):
            return None


def latest_local(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the local time, without a zone, before which every local time means an earlier moment.

    Before a clock is set back, a value may mean a moment after that, and its row is not old yet.
    """
    local = moment.astimezone(zone)
    wait = local.replace(fold=1).astimezone(UTC) - moment
    return local.replace(tzinfo=None) - wait
