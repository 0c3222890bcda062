"""The order of a walk along the primary key, or another unique key, chunk by chunk."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from iam_watcher.walk.chunk import DENSE, Chunk
from iam_watcher.walk.windows import windows_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.database.key import KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.pace import ChunkSize
    from iam_watcher.walk.row_change import RowChange
    from iam_watcher.walk.windows import Window

# The next keys to write, and for rows that are only counted the reason why.
PROBE = (
    "SELECT {selected}, {reason}, {size} FROM {table} FORCE INDEX ({index})"
    " WHERE {within} AND ({wanted}) ORDER BY {order}{limit}"
)

# How many rows a window has, how many of them meet each condition, and the bytes of some.
COUNT_WINDOW = "SELECT COUNT(*), {size}{counts} FROM {table} FORCE INDEX ({index}) WHERE {within}"

# As a DOUBLE, which is quicker than a DECIMAL.
SIZE = "SUM(IF({condition}, {size}, 0) + 0e0)"

# How many rows this session has asked the storage engine for, by key order.
READS = (
    "SHOW SESSION STATUS WHERE Variable_name IN"
    " ('Handler_read_first', 'Handler_read_key', 'Handler_read_next')"
)


class KeyOrder:
    """The order by key, from the first to the last key at the beginning.

    Args:
        db: the transactions that `begin` and `next_chunk` are called in.
        change: the table, its key and the rows to be written.
        size: of the chunks; its span follows the probes' time.
        after: the key to begin behind; None to begin at the first.
        expected: estimated rows of the whole table, for `share`; None if there is no estimate.

    Attributes:
        position: the key up to which all rows are done; None if there is none, and in an empty table.
    """

    name = "key"

    def __init__(
        self,
        db: Transactions,
        change: RowChange,
        size: ChunkSize,
        *,
        after: KeyValue | None = None,
        expected: int | None = None,
    ) -> None:
        self.position = after
        self._expected = expected
        self._examined = 0
        self._db = db
        self._change = change
        self._size = size
        self._windows = windows_of(db, change)
        self._window: Window | None = None  # the one that a full chunk has not come to the end of
        self._span = 0
        self._dense = False
        self._length_per_row = 1.0

    def begin(self) -> None:
        """Read the edges of the table."""
        self.position = self._windows.begin(self.position)

    @property
    def window_name(self) -> str:
        """The keys of the next span, for messages."""
        key = self._change.key
        behind = "the first row" if self.position is None else f"behind {key.shown(self.position)}"
        return f"by {key.quoted}, {behind}"

    @property
    def finished(self) -> bool:
        """Whether no row is left behind `position`."""
        return self._windows.ends_at(self.position)

    @property
    def share(self) -> float:
        """The share of the rows that is done, 0 to 1."""
        return self._windows.share(self.position, self._examined, self._expected)

    def window(self) -> Window:
        """Return the next span of keys; called in a transaction."""
        return self._windows.next(self.position, self._size.span)

    def count(self, window: Window, conditions: Mapping[str, str]) -> tuple[int, Counter[str]]:
        """Count the rows in a window: all, and those that meet each of the named conditions."""
        examined, counts, _ = self._count_window(window, conditions)
        return examined, counts

    def _count_window(
        self, window: Window, conditions: Mapping[str, str], bytes_of: str | None = None
    ) -> tuple[int, Counter[str], float]:
        change, size = self._change, "0"
        if bytes_of is not None and change.size != "0":
            size = SIZE.format(condition=bytes_of, size=change.size)
        # A COUNT of what is true or NULL is a fifth faster than the SUM of a CASE, which is a DECIMAL.
        counts = "".join(f", COUNT(({condition}) OR NULL)" for condition in conditions.values())
        query = COUNT_WINDOW.format(
            counts=counts, size=size, table=change.table, index=change.key.index, within=window.condition
        )
        ((examined, size_of_all, *numbers),) = self._db.read(query, change.values)
        return examined, Counter(dict(zip(conditions, numbers, strict=True))), float(size_of_all or 0)

    def next_chunk(self, limit: int, *, exact: bool) -> Chunk:
        """Return the next chunk, from the next span of keys.

        Where many rows match, the chunk has no keys: to send each key to the client and back would cost up
        to a fifth of the whole time.
        """
        chunk = self._list_chunk(limit) if exact or not self._dense else self._count_chunk(limit)
        self._dense = chunk.matched * DENSE >= chunk.examined > 0
        return chunk

    def keys_of(self, chunk: Chunk) -> list[KeyValue]:
        """Return the keys of a chunk whose rows were only counted."""
        take = self._change.key.take
        return [take(row) for row in self._probe(chunk.within) if row[-2] is None]

    def _list_chunk(self, limit: int) -> Chunk:
        take = self._change.key.take
        began = time.monotonic()
        if self._window is None or self._size.span < self._span:
            window, self._span = self.window(), self._size.span
        else:
            window = self._windows.until(self.position, self._window.upto)
        reads = self._reads()
        limit = self._size.limit(limit)
        found = self._probe(window.condition, limit)
        full = len(found) == limit
        self._size.read(time.monotonic() - began, whole_span=not full)
        # A row that is left out has no bytes to write.
        fit = self._size.within_bytes([row[-1] for row in found])
        # Those that are only counted are not listed; to take them for listed ones makes the chunk smaller.
        fit = min(fit, self._change.key.fit_a_list([take(row) for row in found]))
        # The engine was also asked for the row after the last one, unless the limit came first.
        examined = self._reads() - reads - (0 if full else 1)
        cut = fit < len(found)
        if cut:
            found, full = found[:fit], True
        keys = [take(row) for row in found if row[-2] is None]
        upto = take(found[-1]) if full else window.upto
        taken = self._windows.until(self.position, upto) if full else window
        if self._windows.counts_rows:
            # A condition on several columns is several ranges, and the engine is asked once more for each.
            examined = taken.length or self.count(taken, {})[0]
        elif cut:
            examined, _ = self.count(taken, {})
        # The end of a window of rows costs a read: it is kept until the walk has come there.
        self._window = window if full and self._windows.counts_rows else None
        self._length_per_row = max(1.0, (taken.length or examined) / max(1, len(keys)))
        return Chunk(
            matched=len(keys),
            keys=keys,
            upto=upto,
            examined=max(examined, len(found)),
            left_out=Counter(row[-2] for row in found if row[-2] is not None),
        )

    def _count_chunk(self, limit: int) -> Chunk:
        self._window = None
        conditions = {"": self._change.predicate, **self._change.left_out}
        span = max(1, min(int(limit * self._length_per_row), self._size.span))
        while True:
            began = time.monotonic()
            window = self._windows.next(self.position, span)
            examined, counts, size = self._count_window(window, conditions, bytes_of=self._change.predicate)
            self._size.read(time.monotonic() - began, whole_span=span == self._size.span)
            matched = counts.pop("")
            length = window.length or examined
            self._length_per_row = max(1.0, length / max(1, matched))
            excess = max(matched / limit, self._size.in_chunks(size))
            if excess <= 2 or matched <= 1:  # noqa: PLR2004  a factor of two is no long transaction yet
                return Chunk(
                    matched, None, window.upto, examined=examined, within=window.condition, left_out=+counts
                )
            # More rows match here than in the spans before, or larger ones. A shorter span keeps the
            # transaction short.
            span = max(1, int(length / excess))

    def advance(self, chunk: Chunk) -> None:
        """Advance the position past a chunk that is committed."""
        self.advance_to(chunk.upto, chunk.examined)

    def advance_to(self, upto: KeyValue, examined: int) -> None:
        """Advance the position to a key.

        Args:
            upto: the key.
            examined: rows that were read on the way.
        """
        self.position = upto
        self._examined += examined

    def _probe(self, within: str, limit: int | None = None) -> Any:
        change = self._change
        cases = " ".join(f"WHEN {condition} THEN '{why}'" for why, condition in change.left_out.items())
        query = PROBE.format(
            selected=change.key.selected,
            table=change.table,
            index=change.key.index,
            within=within,
            order=change.key.ordered,
            reason=f"CASE {cases} END" if cases else "NULL",
            size="0" if change.size == "0" else f"IF({change.predicate}, {change.size}, 0)",
            wanted=" OR ".join(
                f"({condition})" for condition in (change.predicate, *change.left_out.values())
            ),
            limit="" if limit is None else f" LIMIT {limit}",
        )
        return self._db.read(query, change.values)

    def _reads(self) -> int:
        return sum(int(value) for _, value in self._db.read(READS))
