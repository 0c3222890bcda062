"""The windows of a walk along a key: how far the next read goes, and which share of the rows is done.

Between the values of an integer key lies a distance, so the end of a window is an addition. Values of any
other key have none: there the server is asked for the key that stands so many rows further. That read is
a second pass over the index, so integers do without: with it, a walk along an integer key took twice the time
where one row of 200 matched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from iam_watcher.database.key import KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.row_change import RowChange

# The keys to walk between.
EDGES = "SELECT MIN({key}), MAX({key}) FROM {table}"

FIRST = "SELECT {selected} FROM {table} FORCE INDEX ({index}) WHERE {behind} ORDER BY {order} LIMIT 1"

# The key of the last row of a window of so many rows.
BOUNDARY = (
    "SELECT {selected} FROM {table} FORCE INDEX ({index}) WHERE {behind} AND {up_to}"
    " ORDER BY {order} LIMIT 1 OFFSET {skipped}"
)

# The server estimates how many rows stand before a key.
# MySQL looks into a forced index for the number of rows only if the query counts them.
ESTIMATE = "EXPLAIN FORMAT=TRADITIONAL SELECT COUNT(*) FROM {table} FORCE INDEX ({index}) WHERE {up_to}"
MYSQL_PLAN = 12  # columns; those of MariaDB are without `partitions` and `filtered`


@dataclass(frozen=True)
class Window:
    """The keys of one read: behind `after`, up to `upto`.

    Attributes:
        after: the key; None for no lower limit.
        upto: the key.
        condition: SQL for the rows in it.
        length: the distance of the two keys, or the rows between; None if it is not known.
    """

    after: KeyValue | None
    upto: KeyValue
    condition: str
    length: int | None


class Windows(Protocol):
    """The windows between the first and the last key at the beginning of a walk."""

    counts_rows: bool
    """Whether a length is a number of rows."""

    def begin(self, after: KeyValue | None) -> KeyValue | None:
        """Read the edges; return the key to begin behind: `after`, or a better one."""

    def ends_at(self, position: KeyValue | None) -> bool:
        """Return whether no row is left behind a position."""

    def next(self, position: KeyValue | None, length: int) -> Window:
        """Return the window of that length behind a position."""

    def until(self, position: KeyValue | None, upto: KeyValue) -> Window:
        """Return the window from a position up to a key."""

    def share(self, position: KeyValue | None, examined: int, expected: int | None) -> float:
        """Return the share of the rows that is done at a position, 0 to 1.

        Args:
            position: that the walk has come to.
            examined: rows that it has read.
            expected: estimated rows of the whole table; None if there is no estimate.
        """


class IntegerWindows:
    """Windows of an integer key: lengths are distances of keys.

    Args:
        db: the transactions that `begin` is called in.
        change: the table.
    """

    counts_rows = False

    def __init__(self, db: Transactions, change: RowChange) -> None:
        self._db = db
        self._change = change
        self._first = self._began = self._end = 0

    def begin(self, after: int | None) -> int | None:
        """Read the smallest and the largest key."""
        key = self._change.key
        ((first, last),) = self._db.read(EDGES.format(table=self._change.table, key=key.quoted))
        if first is None:
            return None
        self._first, self._end = first - 1, last
        self._began = self._first if after is None else max(self._first, after)
        return self._began

    def ends_at(self, position: int | None) -> bool:
        """Return whether no key is left behind a position."""
        return position is None or position >= self._end

    def next(self, position: int | None, length: int) -> Window:
        """Return the window of so many keys behind a position."""
        after = self._first if position is None else position
        return self.until(after, min(after + length, self._end))

    def until(self, position: int | None, upto: int) -> Window:
        """Return the window from a position up to a key."""
        after, key = self._first if position is None else position, self._change.key
        return Window(after, upto, f"{key.behind(after)} AND {key.up_to(upto)}", upto - after)

    def share(self, position: int | None, examined: int, expected: int | None) -> float:
        """Return the share of the rows that is done. Gaps between the keys don't count as rows."""
        if position is None or self.ends_at(position):
            return 1.0
        keys = self._end - self._first
        before = (self._began - self._first) / keys
        if expected is None:
            return (position - self._first) / keys
        keys_done, keys_left = position - self._began, self._end - position
        rows_left = min(expected * (1 - before) - examined, keys_left)
        if rows_left <= 0:
            # The table has more rows than expected. The rest is estimated: as many rows per key as so far.
            rows_left = examined / max(1, keys_done) * keys_left
        rows = examined + rows_left
        return before + (1 - before) * examined / rows if rows else before


class RowWindows:
    """Windows of any other key: lengths are numbers of rows.

    Args:
        db: the transactions that `begin` and `next` are called in.
        change: the table.
    """

    counts_rows = True

    def __init__(self, db: Transactions, change: RowChange) -> None:
        self._db = db
        self._change = change
        self._end: KeyValue | None = None
        self._before = 0

    def begin(self, after: KeyValue | None) -> KeyValue | None:
        """Read the largest key, if there is a row behind `after`."""
        key = self._change.key
        if self._read(FIRST, behind=self._behind(after), order=key.ordered):
            last = self._read(FIRST, behind="TRUE", order=key.reversed)
            self._end = key.take(last[0]) if last else None
        if after is not None:
            ((*plan,),) = self._read(ESTIMATE, up_to=key.up_to(after))
            self._before = int(plan[-3 if len(plan) == MYSQL_PLAN else -2] or 0)
        return after

    def ends_at(self, position: KeyValue | None) -> bool:
        """Return whether a position is that of the last row."""
        return self._end is None or position == self._end

    def next(self, position: KeyValue | None, length: int) -> Window:
        """Return the window of so many rows behind a position."""
        key = self._change.key
        found = self._read(
            BOUNDARY,
            behind=self._behind(position),
            up_to=key.up_to(self._end),
            order=key.ordered,
            skipped=length - 1,
        )
        window = self.until(position, key.take(found[0]) if found else self._end)
        return Window(window.after, window.upto, window.condition, length if found else None)

    def until(self, position: KeyValue | None, upto: KeyValue) -> Window:
        """Return the window from a position up to a key."""
        up_to = self._change.key.up_to(upto)
        return Window(position, upto, f"{self._behind(position)} AND {up_to}", None)

    def share(self, position: KeyValue | None, examined: int, expected: int | None) -> float:
        """Return the share of the rows that is done, as far as their number is known."""
        if self.ends_at(position):
            return 1.0
        done = self._before + examined
        # If there are more than expected, nobody knows how many more.
        return 0.0 if not expected else min(done / max(expected, done + 1), 0.99)

    def _behind(self, position: KeyValue | None) -> str:
        return "TRUE" if position is None else self._change.key.behind(position)

    def _read(self, query: str, **parts: Any) -> Any:
        change, key = self._change, self._change.key
        return self._db.read(
            query.format(table=change.table, index=key.index, selected=key.selected, **parts)
        )


def windows_of(db: Transactions, change: RowChange) -> Windows:
    """Return the windows that fit the key of a table."""
    return IntegerWindows(db, change) if change.key.is_integer else RowWindows(db, change)
