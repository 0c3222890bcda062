"""The order in which a walk comes to the rows of a table."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from iam_watcher.jobs.pace import ChunkSize
    from iam_watcher.jobs.rows import Rows
    from iam_watcher.jobs.transaction import Transactions

# The keys to walk between.
EDGES = "SELECT MIN({key}), MAX({key}) FROM {table}"

# The next keys to write, and for rows that are only counted the reason why.
PROBE = (
    "SELECT {key}, {reason} FROM {table} FORCE INDEX (PRIMARY)"
    " WHERE {key} > %(after)s AND {key} <= %(upto)s AND ({wanted}) ORDER BY {key} LIMIT %(limit)s"
)

# How many rows this session has asked the storage engine for, by key order.
READS = (
    "SHOW SESSION STATUS WHERE Variable_name IN"
    " ('Handler_read_first', 'Handler_read_key', 'Handler_read_next')"
)


@dataclass(frozen=True)
class Found:
    """What a probe found: keys to write, sorted; reasons of rows that are only counted; how far it came."""

    keys: list[int]
    left_out: list[str]
    examined: int
    upto: Any


class Order(Protocol):
    """An order in which a walk comes to the rows."""

    name: str

    @property
    def position(self) -> int | None:
        """The key up to which everything is done, if this order goes by the key."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to find."""

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""

    def begin(self) -> None:
        """Read where to begin and to end; once, in a transaction of its own."""

    def find(self, limit: int) -> Found:
        """Return at most `limit` of the next rows."""

    def passed(self, found: Found) -> None:
        """Go on behind what was found: it is written and committed."""


class KeyOrder:
    """The rows by their primary key, between the smallest and the largest at the beginning.

    Args:
        db: the transactions that `begin` and `find` are called in.
        rows: the table.
        size: of the chunks; its span follows the probes' time.
        after: begin behind this key instead of at the smallest.

    Attributes:
        position: the key up to which everything is done; None before `begin` and in an empty table.
    """

    name = "key"

    def __init__(self, db: Transactions, rows: Rows, size: ChunkSize, *, after: int | None = None) -> None:
        self.position = after
        self._db = db
        self._rows = rows
        self._size = size
        self._first = self._end = 0

    def begin(self) -> None:
        """Read where to begin and to end."""
        ((first, last),) = self._db.read(EDGES.format(table=self._rows.table, key=self._rows.key))
        if first is None:
            self.position = None
            return
        self._first, self._end = first - 1, last
        self.position = max(first - 1, self.position) if self.position is not None else first - 1

    @property
    def finished(self) -> bool:
        """Whether there is nothing beyond `position`."""
        return self.position is None or self.position >= self._end

    @property
    def share(self) -> float:
        """How much of the keys' range is done, 0 to 1."""
        if self.position is None or self.finished:
            return 1.0
        return (self.position - self._first) / (self._end - self._first)

    def window(self) -> dict[str, int]:
        """Return the next span of keys, as the values of the placeholders after and upto."""
        after = self._first if self.position is None else self.position
        return {"after": after, "upto": min(after + self._size.span, self._end)}

    def find(self, limit: int) -> Found:
        """Return at most `limit` rows of the next span."""
        window = self.window()
        reads = self._reads()
        began = time.monotonic()
        found = self._db.read(self._probe(), {**self._rows.values, **window, "limit": limit})
        full = len(found) == limit
        self._size.read(time.monotonic() - began, whole_span=not full)
        # The engine was also asked for the row after the last one, unless the limit came first.
        examined = self._reads() - reads - (0 if full else 1)
        return Found(
            keys=[key for key, reason in found if reason is None],
            left_out=[reason for _, reason in found if reason is not None],
            examined=max(examined, len(found)),
            upto=found[-1][0] if full else window["upto"],
        )

    def passed(self, found: Found) -> None:
        """Go on behind what was found."""
        self.position = found.upto

    def _probe(self) -> str:
        rows = self._rows
        cases = " ".join(f"WHEN {condition} THEN '{why}'" for why, condition in rows.left_out.items())
        return PROBE.format(
            table=rows.table,
            key=rows.key,
            reason=f"CASE {cases} END" if cases else "NULL",
            wanted=" OR ".join(f"({condition})" for condition in (rows.predicate, *rows.left_out.values())),
        )

    def _reads(self) -> int:
        return sum(int(value) for _, value in self._db.read(READS))
