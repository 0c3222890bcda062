"""An age column of digits: a text, a whole number or a YEAR in a stated format, such as 20260131."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from iam_watcher.database.column import FIRST_TIME, INTEGERS, SHORT_TEXTS
from iam_watcher.errors import JobArgumentError, TableError
from iam_watcher.jobs.table_job.age_column import AgeColumn, latest_local

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.database.catalogue import Table

FIELDS = {
    "Y": (4, "[1-9][0-9]{3}"),
    "m": (2, "(0[1-9]|1[0-2])"),
    "d": (2, "(0[1-9]|[12][0-9]|3[01])"),
    "H": (2, "([01][0-9]|2[0-3])"),
    "M": (2, "[0-5][0-9]"),
    "S": (2, "[0-5][0-9]"),
    "f": (6, "[0-9]{6}"),
}
"""Field → its digits, and a pattern for them."""

LARGEST_FIRST = "".join(FIELDS)
BETWEEN = frozenset("-./:_, TZ")
DIVISIBLE_BY_4 = "^([02468][048]|[13579][26])$"

TYPES = SHORT_TEXTS | INTEGERS | {"year"}

_FORMAT = re.compile(r"%(.)|([^%])", re.DOTALL)


def check_format(name: str, value: object) -> str:
    """Return a format of times.

    Raises:
        JobArgumentError: it has something else than %Y %m %d %H %M %S %f and marks between them, has one of
            them twice, or lacks a larger one than it has.
    """
    fields, between = "", ""
    if isinstance(value, str) and "".join(match[0] for match in _FORMAT.finditer(value)) == value:
        for match in _FORMAT.finditer(value):
            fields += match[1] or ""
            between += match[2] or ""
        if fields and sorted(fields) == sorted(LARGEST_FIRST[: len(fields)]) and set(between) <= BETWEEN:
            return value
    raise JobArgumentError(
        f"{name} is {value!r}; expected %Y, and what of %m %d %H %M %S %f the values have, without gaps, "
        f"and between them only characters of {''.join(sorted(BETWEEN))!r}, such as '%Y%m%d' or "
        "'%Y-%m-%dT%H:%M:%SZ'"
    )


@dataclass(frozen=True)
class FormatColumn(AgeColumn):
    """A column whose values are times in one format; each field has a fixed number of digits.

    A value means the whole day, month or year that it names: it is old when that is over.

    Attributes:
        format: such as "%Y%m%d"; see `check_format`.
    """

    format: str = "%Y%m%d"

    @classmethod
    def of(cls, table: Table, name: str, form: str, zone: ZoneInfo) -> FormatColumn:
        """Return the column.

        Args:
            table: of the column.
            name: of the column.
            form: the format.
            zone: the time zone of the values, unless the format has a Z, which means UTC.

        Raises:
            TableError: there is none of that name, or its values can't have this format.
        """
        column = table.column(name, TYPES)
        age = cls(column, ZoneInfo("UTC") if "Z" in form else zone, form)
        if not age._is_text and age._order != form.replace("%", ""):
            raise TableError(
                f"column {name!r} of {table.name} is {column.data_type}, a number, but age_format is "
                f"{form!r}; expected a format of fields alone, such as '%Y%m%d'"
            )
        return age

    @property
    def form(self) -> str:
        """The format."""
        return f"the format {self.format}"

    @property
    def has_index(self) -> bool:
        """The values are in order if the format begins with the largest field."""
        return self._order == LARGEST_FIRST[: len(self._order)]

    @property
    def sorted_by(self) -> str:
        """The column, or its fields. Texts compare digit by digit: each digit is at the same place in all."""
        if self.has_index:
            return self.column.quoted
        fields = ", ".join(self._field(field) for field in LARGEST_FIRST[: len(self._order)])
        return f"CONCAT({fields})"

    @property
    def present(self) -> str:
        """Not empty, not 0."""
        return f"{self.column.quoted} > {repr('') if self._is_text else 0}"

    @property
    def position(self) -> str | None:
        """A text itself."""
        return self.column.quoted if self._is_text else None

    @property
    def valid(self) -> str:
        """The pattern, and the number of days that the month has. Nothing here converts a type.

        In a statement that writes, the server makes an error of a text that is no number or no date.
        """
        text = self._text
        conditions = [
            f"CHAR_LENGTH({text}) = {sum(length for _, _, length in self._places)}",
            f"{text} REGEXP %(age_pattern)s",
        ]
        if "d" in self._order:
            year, month, day = (self._field(field) for field in "Ymd")
            century, rest = f"LEFT({year}, 2)", f"RIGHT({year}, 2)"
            leap = f"IF({rest} = '00', {century} REGEXP %(age_leap)s, {rest} REGEXP %(age_leap)s)"
            conditions += [
                f"NOT ({day} = '31' AND {month} IN ('02', '04', '06', '09', '11'))",
                f"NOT ({day} = '30' AND {month} = '02')",
                f"NOT ({day} = '29' AND {month} = '02' AND NOT {leap})",
            ]
        return f"({' AND '.join(conditions)})"

    def cut_off(self, moment: datetime) -> object:
        """Return a text, or a number for a column of numbers."""
        # What the format leaves out is cut off: a whole day is over only if the cut-off is on a later one.
        return self._written(latest_local(moment, self.zone))

    @property
    def first(self) -> object:
        """The beginning of that year, whatever the time zone is."""
        return self._written(FIRST_TIME)

    def values(self, cut_offs: Sequence[datetime]) -> dict[str, object]:
        """Return the cut-offs and the patterns."""
        pattern = "".join(
            mark.replace(".", "[.]") if field is None else FIELDS[field][1] for field, mark, _ in self._places
        )
        return {**super().values(cut_offs), "age_pattern": f"^{pattern}$", "age_leap": DIVISIBLE_BY_4}

    def moment_of(self, text: str) -> datetime | None:
        """Return the beginning of what the value names; None if it has another format."""
        text = str(text)
        if len(text) != sum(length for _, _, length in self._places) or not text.isascii():
            return None
        try:
            return datetime.strptime(text, self.format).replace(tzinfo=self.zone).astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    def _written(self, local: datetime) -> str | int:
        """Return a time as `sorted_by` has it."""
        largest_first = "".join(f"%{field}" for field in LARGEST_FIRST[: len(self._order)])
        text = local.strftime(self.format if self.has_index else largest_first)
        return int(text) if self.has_index and not self._is_text else text

    @property
    def _is_text(self) -> bool:
        return self.column.data_type in SHORT_TEXTS

    @property
    def _text(self) -> str:
        return self.column.quoted if self._is_text else f"CAST({self.column.quoted} AS CHAR)"

    @cached_property
    def _places(self) -> list[tuple[str | None, str, int]]:
        """The parts of the format: field or None, the mark if it is none, and the number of characters."""
        return [
            (match[1], "", FIELDS[match[1]][0]) if match[1] else (None, match[2], 1)
            for match in _FORMAT.finditer(self.format)
        ]

    @property
    def _order(self) -> str:
        return "".join(field for field, _, _ in self._places if field)

    def _field(self, wanted: str) -> str:
        """Return SQL for the digits of a field."""
        at = 1
        for field, _, length in self._places:
            if field == wanted:
                return f"SUBSTRING({self._text}, {at}, {length})"
            at += length
        raise KeyError(wanted)
