"""An age column of UUIDv7 or ULID values: their first 48 bits are the milliseconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from iam_watcher.database.column import AS_UTF8, FIRST_TIME, SHORT_TEXTS
from iam_watcher.database.key_column import BINARIES
from iam_watcher.jobs.table_job.age_column import EPOCH, AgeColumn

if TYPE_CHECKING:
    from collections.abc import Sequence

TYPES = SHORT_TEXTS | BINARIES | {"uuid"}

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
PATTERNS = {
    "uuid7": "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$",
    "ulid": "^[0-7][0-9a-hjkmnp-tv-zA-HJKMNP-TV-Z]{25}$",
}
LENGTHS = {"uuid7": (36, 13), "ulid": (26, 10)}
"""Characters of a text, and of its first part that has the time."""


@dataclass(frozen=True)
class IdColumn(AgeColumn):
    """A column of ids that begin with their time: 16 bytes, or a text.

    Upper and lower case mean the same. A binary collation sorts them apart, upper case first: there the bare
    comparison finds too many rows, and the comparison of the time alone decides.

    Attributes:
        kind: "uuid7" or "ulid".
    """

    kind: Literal["uuid7", "ulid"] = "uuid7"

    @property
    def form(self) -> str:
        """The kind."""
        return "UUIDv7" if self.kind == "uuid7" else "ULID"

    @property
    def has_index(self) -> bool:
        """MariaDB's type UUID is in another order on some of its versions."""
        return self.column.data_type != "uuid"

    @property
    def is_ordered(self) -> bool:
        """A binary collation sorts a later id in upper case before an earlier one in lower case."""
        return self.has_index and (self._is_bytes or not str(self.column.collation).endswith("_bin"))

    def sorts_before(self, number: int = 0) -> str:
        """Return the condition. The bare column lets the server use an index; `_time` decides on texts."""
        bare = f"{self.column.quoted} < %(cut_off{number})s AND {self.present}"
        if self._is_bytes:
            return bare
        exact = f"{self._time} < %(age_before{number})s"
        return f"{bare if self.has_index else self.present} AND {exact}"

    def before(self, number: int = 0) -> str:
        """Return the condition. An id of before FIRST_TIME is not `valid`."""
        return self.sorts_before(number)

    @property
    def first(self) -> object:
        """The beginning of the first id, as bytes."""
        return self._prefix(FIRST_TIME)

    @property
    def zero(self) -> str:
        """An empty value."""
        return f"{self.column.quoted} = ''" if self.has_index else "FALSE"

    @property
    def present(self) -> str:
        """Not empty."""
        return f"{self.column.quoted} > ''" if self.has_index else f"{self.column.quoted} IS NOT NULL"

    @property
    def shown(self) -> str:
        """Bytes as hexadecimal digits."""
        return f"HEX({self.column.quoted})" if self._is_bytes else self._text

    @property
    def position(self) -> str | None:
        """The value itself."""
        return self.column.quoted

    @property
    def valid(self) -> str:
        """Such an id, of 1980 or later."""
        column = self.column.quoted
        if self._is_bytes:
            digits = f"HEX({column})"
            conditions = [f"LENGTH({column}) = 16", f"{column} >= %(age_first)s"]
            if self.kind == "uuid7":
                conditions += [
                    f"SUBSTRING({digits}, 13, 1) = '7'",
                    f"SUBSTRING({digits}, 17, 1) IN ('8', '9', 'A', 'B')",
                ]
        else:
            conditions = [
                f"CHAR_LENGTH({self._text}) = {LENGTHS[self.kind][0]}",
                f"{self._text} REGEXP %(age_pattern)s",
                f"{self._time} >= %(age_first)s",
            ]
        return f"({' AND '.join(conditions)})"

    def cut_off(self, moment: datetime) -> object:
        """Return the beginning of the first id of a moment, as text or bytes."""
        prefix = self._prefix(moment)
        return prefix if self._is_bytes else prefix.decode()

    def values(self, cut_offs: Sequence[datetime]) -> dict[str, object]:
        """Return the cut-offs, the first time and the pattern."""
        values = super().values(cut_offs)
        if not self._is_bytes:
            before = {f"age_before{number}": self._prefix(moment) for number, moment in enumerate(cut_offs)}
            values |= {**before, "age_pattern": PATTERNS[self.kind]}
        return values

    def moment_of(self, text: str) -> datetime | None:
        """Return the moment in an id; None if it is no such id."""
        text = str(text).lower()
        if self._is_bytes:
            if len(text) != 32 or (self.kind == "uuid7" and not (text[12] == "7" and text[16] in "89ab")):  # noqa: PLR2004  16 bytes
                return None
            milliseconds = int(text[:12], 16)
        else:
            length, prefix = LENGTHS[self.kind]
            digits = text[:prefix].replace("-", "")
            alphabet = "0123456789abcdef" if self.kind == "uuid7" else CROCKFORD
            version = text[14:15] == "7" if self.kind == "uuid7" else True
            if len(text) != length or not version or not set(digits) <= set(alphabet):
                return None
            milliseconds = 0
            for digit in digits:
                milliseconds = milliseconds * len(alphabet) + alphabet.index(digit)
        try:
            return EPOCH + timedelta(milliseconds=milliseconds)
        except OverflowError:
            return None

    @property
    def _is_bytes(self) -> bool:
        return self.column.data_type in BINARIES

    @property
    def _text(self) -> str:
        return (
            self.column.quoted
            if self.column.data_type in SHORT_TEXTS
            else f"CAST({self.column.quoted} AS CHAR)"
        )

    @property
    def _time(self) -> str:
        """SQL for the part of a text that has the time, as bytes in lower case: they sort as the times do."""
        return AS_UTF8.format(column=f"LOWER(LEFT({self._text}, {LENGTHS[self.kind][1]}))")

    def _prefix(self, moment: datetime) -> bytes:
        """Return the beginning of the first id of a moment, in lower case."""
        milliseconds = (moment - EPOCH) // timedelta(milliseconds=1)
        if self._is_bytes:
            return milliseconds.to_bytes(6, "big")
        if self.kind == "uuid7":
            digits = f"{milliseconds:012x}"
            return f"{digits[:8]}-{digits[8:]}".encode()
        digits = ""
        for _ in range(LENGTHS["ulid"][1]):
            milliseconds, digit = divmod(milliseconds, len(CROCKFORD))
            digits = CROCKFORD[digit] + digits
        return digits.encode()
