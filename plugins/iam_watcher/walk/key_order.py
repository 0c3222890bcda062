"""The order of a walk along the primary key, chunk by chunk."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.pace import ChunkSize
    from iam_watcher.walk.row_change import RowChange

# The keys to walk between.
EDGES = "SELECT MIN({key}), MAX({key}) FROM {table}"

# The next keys to write, and for rows that are only counted the reason why.
PROBE = (
    "SELECT {key}, {reason}, {size} FROM {table} FORCE INDEX (PRIMARY)"
    " WHERE {key} > %(after)s AND {key} <= %(upto)s AND ({wanted}) ORDER BY {key} LIMIT %(limit)s"
)

# How many rows a span of keys has, how many of them meet each condition, and the bytes of some.
COUNT_WINDOW = (
    "SELECT COUNT(*), {size}{counts} FROM {table} FORCE INDEX (PRIMARY)"
    " WHERE {key} > %(after)s AND {key} <= %(upto)s"
)

# As a DOUBLE, which is quicker than a DECIMAL.
SIZE = "SUM(IF({condition}, {size}, 0) + 0e0)"

# How many rows this session has asked the storage engine for, by key order.
READS = (
    "SHOW SESSION STATUS WHERE Variable_name IN"
    " ('Handler_read_first', 'Handler_read_key', 'Handler_read_next')"
)


DENSE = 4  # keys are not worth a list if at least one row in so many is to be written


@dataclass(frozen=True)
class Chunk:
    """The rows that one transaction writes.

    Attributes:
        matched: how many are to be written.
        keys: of these rows, in order; None if the rows were only counted, between `after` and `upto`.
        upto: the position after this chunk, in the terms of the order.
        examined: rows that the server read.
        after: where the range begins: behind this key.
        left_out: reason → rows that are counted and not written.
    """

    matched: int
    keys: list[int] | None
    upto: Any
    examined: int
    after: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


class Order(Protocol):
    """The order in which a walk takes the rows of a table."""

    name: str

    @property
    def position(self) -> int | None:
        """The key up to which all rows are done; None if this order does not go by the key."""

    @property
    def window_name(self) -> str:
        """Where the next chunk is searched, for messages."""

    @property
    def finished(self) -> bool:
        """Whether no chunk is left."""

    @property
    def share(self) -> float:
        """The share of the work that is done, 0 to 1."""

    def begin(self) -> None:
        """Read the first and the last position; called once, in a transaction of its own."""

    def next_chunk(self, limit: int, *, exact: bool) -> Chunk:
        """Return the next chunk: at most `limit` rows with their keys if `exact`, else about `limit` rows."""

    def keys_of(self, chunk: Chunk) -> list[int]:
        """Return the keys of a chunk whose rows were only counted."""

    def advance(self, chunk: Chunk) -> None:
        """Advance the position past a chunk that is committed."""


class KeyOrder:
    """The order by primary key, from the smallest to the largest key at the beginning.

    Args:
        db: the transactions that `begin` and `find` are called in.
        rows: the table.
        size: of the chunks; its span follows the probes' time.
        after: the key to begin behind; None to begin at the smallest.
        expected: estimated rows of the whole table, for `share`; None if there is no estimate.

    Attributes:
        position: the key up to which all rows are done; None before `begin` and in an empty table.
    """

    name = "key"

    def __init__(
        self,
        db: Transactions,
        rows: RowChange,
        size: ChunkSize,
        *,
        after: int | None = None,
        expected: int | None = None,
    ) -> None:
        self.position = after
        self._expected = expected
        self._examined = 0
        self._db = db
        self._rows = rows
        self._size = size
        self._first = self._began = self._end = 0
        self._dense = False
        self._keys_per_row = 1.0

    def begin(self) -> None:
        """Read the smallest and the largest key."""
        ((first, last),) = self._db.read(EDGES.format(table=self._rows.table, key=self._rows.key))
        if first is None:
            self.position = None
            return
        self._first, self._end = first - 1, last
        self.position = max(first - 1, self.position) if self.position is not None else first - 1
        self._began = self.position

    @property
    def window_name(self) -> str:
        """The keys of the next span, for messages."""
        window = self.window()
        return f"{self._rows.key} over {window['after']} up to {window['upto']}"

    @property
    def finished(self) -> bool:
        """Whether no key is left behind `position`."""
        return self.position is None or self.position >= self._end

    @property
    def share(self) -> float:
        """The share of the rows that is done, 0 to 1. Gaps between the keys don't count as rows."""
        if self.position is None or self.finished:
            return 1.0
        keys = self._end - self._first
        before = (self._began - self._first) / keys
        if self._expected is None:
            return (self.position - self._first) / keys
        keys_done, keys_left = self.position - self._began, self._end - self.position
        rows_left = min(self._expected * (1 - before) - self._examined, keys_left)
        if rows_left <= 0:
            # There are more than expected: as many for each key as so far.
            rows_left = self._examined / max(1, keys_done) * keys_left
        rows = self._examined + rows_left
        return before + (1 - before) * self._examined / rows if rows else before

    def window(self) -> dict[str, int]:
        """Return the next span of keys, as the values of the placeholders after and upto."""
        return self._window(self._size.span)

    def count(self, window: Mapping[str, int], conditions: Mapping[str, str]) -> tuple[int, Counter[str]]:
        """Count the rows in a window: all, and those that meet each of the named conditions."""
        examined, counts, _ = self._count_window(window, conditions)
        return examined, counts

    def _count_window(
        self, window: Mapping[str, int], conditions: Mapping[str, str], bytes_of: str | None = None
    ) -> tuple[int, Counter[str], float]:
        rows, size = self._rows, "0"
        if bytes_of is not None and rows.size != "0":
            size = SIZE.format(condition=bytes_of, size=rows.size)
        # A COUNT of what is true or NULL is a fifth faster than the SUM of a CASE, which is a DECIMAL.
        counts = "".join(f", COUNT(({condition}) OR NULL)" for condition in conditions.values())
        query = COUNT_WINDOW.format(counts=counts, size=size, table=rows.table, key=rows.key)
        ((examined, size_of_all, *numbers),) = self._db.read(query, {**rows.values, **window})
        return examined, Counter(dict(zip(conditions, numbers, strict=True))), float(size_of_all or 0)

    def next_chunk(self, limit: int, *, exact: bool) -> Chunk:
        """Return the next chunk, from the next span of keys.

        Where many rows match, the chunk has no keys: to send each key to the client and back would cost up
        to a fifth of the whole time.
        """
        found = self._list_chunk(limit) if exact or not self._dense else self._count_chunk(limit)
        self._dense = found.matched * DENSE >= found.examined > 0
        return found

    def keys_of(self, chunk: Chunk) -> list[int]:
        """Return the keys of a chunk whose rows were only counted."""
        span = chunk.upto - chunk.after
        return [key for key, reason, _ in self._probe(chunk.upto, limit=span) if reason is None]

    def _list_chunk(self, limit: int) -> Chunk:
        upto = self.window()["upto"]
        reads = self._reads()
        began = time.monotonic()
        limit = self._size.limit(limit)
        found = self._probe(upto, limit)
        full = len(found) == limit
        self._size.read(time.monotonic() - began, whole_span=not full)
        # A row that is left out has no bytes to write.
        cut = (fit := self._size.within_bytes([size for _, _, size in found])) < len(found)
        if cut:
            found, full = found[:fit], True
        # The engine was also asked for the row after the last one, unless the limit came first.
        examined = self._reads() - reads - (0 if full else 1)
        keys = [key for key, reason, _ in found if reason is None]
        upto = found[-1][0] if full else upto
        if cut:
            examined, _ = self.count({"after": self._after, "upto": upto}, {})
        self._keys_per_row = max(1.0, (upto - self._after) / max(1, len(keys)))
        return Chunk(
            matched=len(keys),
            keys=keys,
            upto=upto,
            examined=max(examined, len(found)),
            left_out=Counter(reason for _, reason, _ in found if reason is not None),
        )

    def _count_chunk(self, limit: int) -> Chunk:
        conditions = {"": self._rows.predicate, **self._rows.left_out}
        span = min(int(limit * self._keys_per_row), self._size.span)
        while True:
            window = self._window(span)
            began = time.monotonic()
            examined, counts, size = self._count_window(window, conditions, bytes_of=self._rows.predicate)
            self._size.read(time.monotonic() - began, whole_span=span == self._size.span)
            matched = counts.pop("")
            self._keys_per_row = max(1.0, (window["upto"] - self._after) / max(1, matched))
            excess = max(matched / limit, self._size.in_chunks(size))
            if excess <= 2 or matched <= 1:  # noqa: PLR2004  a factor of two is no long transaction yet
                return Chunk(matched, None, examined=examined, left_out=+counts, **window)
            # More of them stand here than further back, or larger ones: a shorter span, or it would be a long
            # transaction.
            span = max(1, int((window["upto"] - self._after) / excess))

    @property
    def _after(self) -> int:
        return self._first if self.position is None else self.position

    def _window(self, span: int) -> dict[str, int]:
        return {"after": self._after, "upto": min(self._after + span, self._end)}

    def advance(self, chunk: Chunk) -> None:
        """Advance the position past the rows that were found."""
        self.advance_to(chunk.upto, chunk.examined)

    def advance_to(self, upto: int, examined: int) -> None:
        """Advance the position to a key.

        Args:
            upto: the key.
            examined: rows that were read on the way.
        """
        self.position = upto
        self._examined += examined

    def _probe(self, upto: int, limit: int) -> Any:
        rows = self._rows
        cases = " ".join(f"WHEN {condition} THEN '{why}'" for why, condition in rows.left_out.items())
        query = PROBE.format(
            table=rows.table,
            key=rows.key,
            reason=f"CASE {cases} END" if cases else "NULL",
            size="0" if rows.size == "0" else f"IF({rows.predicate}, {rows.size}, 0)",
            wanted=" OR ".join(f"({condition})" for condition in (rows.predicate, *rows.left_out.values())),
        )
        return self._db.read(query, {**rows.values, "after": self._after, "upto": upto, "limit": limit})

    def _reads(self) -> int:
        return sum(int(value) for _, value in self._db.read(READS))
