"""The pace of a walk: target times, chunk sizes that follow them, and limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING

from iam_watcher.errors import JobArgumentError, shown_at_the_call

if TYPE_CHECKING:
    from collections.abc import Sequence

# The first chunk is small: nobody knows yet what the foreign keys of a row delete with it.
LEAST_ROWS, FIRST_ROWS, MOST_ROWS = 10, 50, 20_000
LEAST_SPAN, FIRST_SPAN = 100, 10_000
MOST_BYTES = 8 * 2**20  # of the long values of a chunk's rows


@shown_at_the_call
@dataclass(frozen=True)
class Pace:
    """How fast a job works.

    Attributes:
        target: seconds that one transaction should take.
        duty: share of the time in which the job works, over 0 and up to 1. It pauses for the rest of the
            time.
    """

    target: float
    duty: float

    def __post_init__(self) -> None:
        numbers = all(type(number) in {int, float} for number in (self.target, self.duty))
        if not (numbers and 0 < self.target < math.inf and 0 < self.duty <= 1):
            raise JobArgumentError(f"{self}: expected a target over 0 s and a duty over 0 and up to 1")

    def rest(self, worked: float) -> float:
        """Return the seconds to sleep after so many seconds of work."""
        return worked * (1 - self.duty) / self.duty


PACES = {"fast": Pace(target=0.1, duty=1.0), "polite": Pace(target=0.025, duty=0.5)}


def pace_of(value: object) -> Pace:
    """Return the pace that an operator's argument `pace` names, or is.

    Raises:
        JobArgumentError: it is something else.
    """
    if isinstance(value, Pace):
        return value
    if isinstance(value, str) and value in PACES:
        return PACES[value]
    raise JobArgumentError(f"pace is {value!r}; expected one of {', '.join(PACES)}, or a Pace(...)")


@dataclass
class ChunkSize:
    """The size of a chunk: at most `rows` rows to write, found within the next `span` keys.

    Each measurement moves a size by a factor of two at most, so one slow chunk can't stop a walk. Near its
    target `rows` grows by a tenth at most: a server that stutters does so again soon.
    """

    target: float
    rows: int = FIRST_ROWS
    span: int = FIRST_SPAN
    row_bytes: float = 0.0

    def limit(self, rows: int) -> int:
        """Return how many of so many rows to ask for, so that not far more than MOST_BYTES are read."""
        if not self.row_bytes:
            return rows
        return max(1, min(rows, int(2 * MOST_BYTES / self.row_bytes)))

    def in_chunks(self, size: float) -> float:
        """Return how many chunks have so many bytes."""
        return size / MOST_BYTES

    def within_bytes(self, sizes: Sequence[int]) -> int:
        """Return how many of these rows are one chunk, at least one; remember how many bytes a row has."""
        if sizes:
            self.row_bytes = sum(sizes) / len(sizes)
        fit = sum(total <= MOST_BYTES for total in accumulate(sizes))
        return max(1, fit)

    def wrote(self, rows: int, seconds: float) -> None:
        """Adapt to the seconds that a transaction took to write so many rows."""
        if seconds < self.target and rows * 2 < self.rows:
            return  # A small chunk was quick: that says nothing about a full one.
        ideal = int(rows * self.target / seconds)
        most = self.rows * 2 if seconds < self.target / 2 else int(self.rows * 1.1)
        self.rows = min(max(ideal, self.rows // 2, LEAST_ROWS), most, MOST_ROWS)

    def read(self, seconds: float, *, whole_span: bool) -> None:
        """Adapt to the seconds that a read took, and to whether it read the whole span."""
        if seconds > self.target:
            self.span = max(self.span // 2, LEAST_SPAN)
        elif whole_span and seconds < self.target / 2:
            self.span *= 2

    def halve(self) -> None:
        """Make the next chunks smaller, after a failure."""
        self.rows = max(self.rows // 2, LEAST_ROWS)
        # It doubled on the way through a gap, and what lies behind the gap may be dense.
        self.span = max(min(self.span // 2, FIRST_SPAN), LEAST_SPAN)


class Limit(StrEnum):
    """A limit that ended a walk, by the name of the argument that sets it."""

    ROWS = "max_rows"
    TIME = "time_budget"


@dataclass(frozen=True)
class Limits:
    """When a walk stops before the end of the table.

    Attributes:
        max_rows: to write; None for no limit.
        seconds: to work; None for no limit. The transaction that is under way then is finished.
    """

    max_rows: int | None = None
    seconds: float | None = None

    def reached(self, rows: int, seconds: float) -> Limit | None:
        """Return the limit that is reached, or None."""
        if self.max_rows is not None and rows >= self.max_rows:
            return Limit.ROWS
        if self.seconds is not None and seconds >= self.seconds:
            return Limit.TIME
        return None

    def seconds_left(self, seconds: float) -> float | None:
        """Return how long the work may go on after so many seconds; None for no limit."""
        return None if self.seconds is None else max(0.0, self.seconds - seconds)

    def left(self, wanted: int, rows: int) -> int:
        """Return how many of the wanted rows may still be written after so many."""
        return wanted if self.max_rows is None else min(wanted, self.max_rows - rows)


NO_LIMITS = Limits()
