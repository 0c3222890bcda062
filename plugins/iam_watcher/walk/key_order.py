"""The order in which a walk comes to the rows of a table."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.pace import ChunkSize
    from iam_watcher.walk.rows import Rows

# The keys to walk between.
EDGES = "SELECT MIN({key}), MAX({key}) FROM {table}"

# The next keys to write, and for rows that are only counted the reason why.
PROBE = (
    "SELECT {key}, {reason}, {size} FROM {table} FORCE INDEX (PRIMARY)"
    " WHERE {key} > %(after)s AND {key} <= %(upto)s AND ({wanted}) ORDER BY {key} LIMIT %(limit)s"
)

# How many rows a span of keys has, how many of them meet each condition, and the bytes of some.
TALLY = (
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
class Found:
    """The next rows.

    Attributes:
        matched: how many are to be written.
        keys: theirs, sorted; None if they were counted only, and stand in the range `after` to `upto`.
        upto: how far this goes, in the terms of the order.
        examined: rows that were looked at.
        after: where the range begins: behind this key.
        left_out: reason → rows that are only counted.
    """

    matched: int
    keys: list[int] | None
    upto: Any
    examined: int
    after: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


class Order(Protocol):
    """An order in which a walk comes to the rows."""

    name: str

    @property
    def position(self) -> int | None:
        """The key up to which everything is done, if this order goes by the key."""

    @property
    def window_name(self) -> str:
        """Where the next rows are looked for, for messages."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to find."""

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""

    def begin(self) -> None:
        """Read where to begin and to end; once, in a transaction of its own."""

    def find(self, limit: int, *, exact: bool) -> Found:
        """Return at most `limit` of the next rows, with their keys if `exact`; if not, about `limit`."""

    def keys_of(self, found: Found) -> list[int]:
        """Return the keys of rows that were counted only."""

    def passed(self, found: Found) -> None:
        """Go on behind what was found: it is written and committed."""


class KeyOrder:
    """The rows by their primary key, between the smallest and the largest at the beginning.

    Args:
        db: the transactions that `begin` and `find` are called in.
        rows: the table.
        size: of the chunks; its span follows the probes' time.
        after: begin behind this key instead of at the smallest.
        expected: rows of the whole table, for `share`; None if nobody knows.

    Attributes:
        position: the key up to which everything is done; None before `begin` and in an empty table.
    """

    name = "key"

    def __init__(
        self,
        db: Transactions,
        rows: Rows,
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
        """Read where to begin and to end."""
        ((first, last),) = self._db.read(EDGES.format(table=self._rows.table, key=self._rows.key))
        if first is None:
            self.position = None
            return
        self._first, self._end = first - 1, last
        self.position = max(first - 1, self.position) if self.position is not None else first - 1
        self._began = self.position

    @property
    def window_name(self) -> str:
        """The keys of the next span."""
        window = self.window()
        return f"{self._rows.key} over {window['after']} up to {window['upto']}"

    @property
    def finished(self) -> bool:
        """Whether there is nothing beyond `position`."""
        return self.position is None or self.position >= self._end

    @property
    def share(self) -> float:
        """How much of the rows is done, 0 to 1: by the keys alone, gaps between them would count as rows."""
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

    def tally(self, window: Mapping[str, int], conditions: Mapping[str, str]) -> tuple[int, Counter[str]]:
        """Count the rows in a window: all, and those that meet each of the named conditions."""
        examined, counts, _ = self._tally(window, conditions)
        return examined, counts

    def _tally(
        self, window: Mapping[str, int], conditions: Mapping[str, str], bytes_of: str | None = None
    ) -> tuple[int, Counter[str], float]:
        rows, size = self._rows, "0"
        if bytes_of is not None and rows.size != "0":
            size = SIZE.format(condition=bytes_of, size=rows.size)
        # A COUNT of what is true or NULL is a fifth faster than the SUM of a CASE, which is a DECIMAL.
        counts = "".join(f", COUNT(({condition}) OR NULL)" for condition in conditions.values())
        query = TALLY.format(counts=counts, size=size, table=rows.table, key=rows.key)
        ((examined, size_of_all, *numbers),) = self._db.read(query, {**rows.values, **window})
        return examined, Counter(dict(zip(conditions, numbers, strict=True))), float(size_of_all or 0)

    def find(self, limit: int, *, exact: bool) -> Found:
        """Return at most `limit` rows of the next span, or about so many by their range.

        Where many rows match, they are counted only: that they come over the line one by one, and go
        back in a list, would cost up to a fifth of the whole.
        """
        found = self._list(limit) if exact or not self._dense else self._count(limit)
        self._dense = found.matched * DENSE >= found.examined > 0
        return found

    def keys_of(self, found: Found) -> list[int]:
        """Return the keys of rows that were counted only."""
        span = found.upto - found.after
        return [key for key, reason, _ in self._probe(found.upto, limit=span) if reason is None]

    def _list(self, limit: int) -> Found:
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
            examined, _ = self.tally({"after": self._after, "upto": upto}, {})
        self._keys_per_row = max(1.0, (upto - self._after) / max(1, len(keys)))
        return Found(
            matched=len(keys),
            keys=keys,
            upto=upto,
            examined=max(examined, len(found)),
            left_out=Counter(reason for _, reason, _ in found if reason is not None),
        )

    def _count(self, limit: int) -> Found:
        conditions = {"": self._rows.predicate, **self._rows.left_out}
        span = min(int(limit * self._keys_per_row), self._size.span)
        while True:
            window = self._window(span)
            began = time.monotonic()
            examined, counts, size = self._tally(window, conditions, bytes_of=self._rows.predicate)
            self._size.read(time.monotonic() - began, whole_span=span == self._size.span)
            matched = counts.pop("")
            self._keys_per_row = max(1.0, (window["upto"] - self._after) / max(1, matched))
            excess = max(matched / limit, self._size.in_chunks(size))
            if excess <= 2 or matched <= 1:  # noqa: PLR2004  a factor of two is no long transaction yet
                return Found(matched, None, examined=examined, left_out=+counts, **window)
            # More of them stand here than further back, or larger ones: a shorter span, or it would be a long
            # transaction.
            span = max(1, int((window["upto"] - self._after) / excess))

    @property
    def _after(self) -> int:
        return self._first if self.position is None else self.position

    def _window(self, span: int) -> dict[str, int]:
        return {"after": self._after, "upto": min(self._after + span, self._end)}

    def passed(self, found: Found) -> None:
        """Go on behind what was found."""
        self.counted(found.upto, found.examined)

    def counted(self, upto: int, examined: int) -> None:
        """Go on behind a key up to which so many rows were looked at."""
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
