"""Finds matching rows through an index on the age column, oldest first: used if few rows are old.

The key order reads the whole table to find these rows. This order reads the rows alone, but the server jumps
between the pages of the table to delete them. That is slower if more than about a tenth of the rows match.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.database.server_errors import INDEX_UNUSABLE, STATEMENT_TIMEOUTS, code_of
from iam_watcher.log_lines import get_logger
from iam_watcher.walk.chunk import Chunk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.database.key import KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.pace import ChunkSize
    from iam_watcher.walk.row_change import RowChange

logger = get_logger(__name__)

# Counts the rows that meet a condition, up to the limit.
FEW = (
    "SELECT COUNT(*) FROM"
    " (SELECT 1 FROM {table} FORCE INDEX ({index}) WHERE {condition} LIMIT %(limit)s) AS counted"
)

# The oldest rows to write. InnoDB keeps the primary key behind the columns of each index, in order.
FIRST_PROBE = (
    "SELECT {selected}, {position}, {size} FROM {table} FORCE INDEX ({index})"
    " WHERE {predicate} ORDER BY {age}, {order} LIMIT %(limit)s"
)

# The oldest rows behind the last one of the chunk before.
NEXT_PROBE = (
    "SELECT {selected}, {position}, {size} FROM {table} FORCE INDEX ({index})"
    " WHERE {predicate} AND {age} >= %(age)s AND ({age} > %(age)s OR {behind})"
    " ORDER BY {age}, {order} LIMIT %(limit)s"
)

EXPLAIN = "EXPLAIN FORMAT=TRADITIONAL {query}"

# If the count takes too long, the rows are not few.
NOT_BY_INDEX = STATEMENT_TIMEOUTS | {INDEX_UNUSABLE}

FEW_SHARE = 0.1
MOST_COUNTED = 1_000_000
MOST_LEFT_OUT = 10_000  # of each reason, to be counted


@dataclass(frozen=True)
class AgeIndex:
    """An index on the age column alone.

    Attributes:
        name: quoted.
        age: the column, quoted.
        table_rows: as the catalogue estimates them.
        old: the condition for rows that are old, whatever else they have to meet.
        left_out: reason → condition for rows whose age is why they are left out, whatever else they meet.
        position: SQL for the age, if it is no number and no date.
    """

    name: str
    age: str
    table_rows: int
    old: str
    left_out: Mapping[str, str] = field(default_factory=dict)
    position: str | None = None

    @property
    def resumes_at(self) -> str:
        """SQL for the age of a row that the column can be compared with, to resume behind it."""
        # As a number: no date of the driver has a day of zero or a 31 February, and as a text MySQL would
        # refuse to compare it.
        return self.position or f"{self.age} + 0"


class IndexOrder:
    """The order by age: matching rows, oldest first. `begin` counts the rows that are left out, if few.

    Attributes:
        position: always None: a new walk begins with the oldest row again.
        few: whether `begin` found that few rows are old. If not, the order must not be used.
    """

    name = "index"
    position = None

    def __init__(self, db: Transactions, rows: RowChange, index: AgeIndex, size: ChunkSize) -> None:
        self.few = False
        self.finished = False
        self._db = db
        self._rows = rows
        self._index = index
        self._size = size
        self._left_out: Counter[str] = Counter()
        self._total = self._passed = 0
        self._last: tuple[KeyValue, Any] | None = None

    @property
    def window_name(self) -> str:
        """Return where the next chunk begins, for messages."""
        where = "at the oldest row" if self._last is None else f"from {self._last[1]} on"
        return f"by {self._index.name} {where}"

    def begin(self) -> None:
        """Count the rows that are old, and those that are left out."""
        limit = min(int(self._index.table_rows * FEW_SHARE), MOST_COUNTED)
        try:
            self._total = self._count(self._index.old, limit)
            if self._total >= limit or not self._is_range():
                return
            self._count_left_out()
        except self._db.error as error:
            if code_of(error) not in NOT_BY_INDEX:
                raise
            return
        self.few = True

    def _is_range(self) -> bool:
        """Return whether the server reads a range of the index, in its order."""
        query = EXPLAIN.format(query=self._format(FIRST_PROBE, predicate=self._rows.predicate))
        (plan, *_) = self._db.read(query, {**self._rows.values, "limit": 1})
        return "range" in plan and "filesort" not in str(plan[-1])

    def _count_left_out(self) -> None:
        for reason, condition in self._rows.left_out.items():
            number = self._count(self._index.left_out.get(reason, condition), MOST_LEFT_OUT)
            if number < MOST_LEFT_OUT:
                self._left_out[reason] = self._count(condition, MOST_LEFT_OUT) if number else 0
            else:
                # To count them all could take longer than to delete what is old.
                logger.info(
                    "Rows that are left out were not counted: they are many, and the walk goes by the index. "
                    "table=%s reason=%s at_least=%d",
                    self._rows.table,
                    reason,
                    number,
                )
        self._left_out = +self._left_out

    @property
    def share(self) -> float:
        """The share of the matching rows that are done, 0 to 1."""
        return min(self._passed / self._total, 1.0) if self._total else 1.0

    def next_chunk(self, limit: int, *, exact: bool) -> Chunk:  # noqa: ARG002  it is always exact
        """Return the next chunk: at most `limit` rows."""
        limit = self._size.limit(limit)
        values = {**self._rows.values, "limit": limit}
        query, behind, key = FIRST_PROBE, "", self._rows.key
        if self._last is not None:
            query, behind = NEXT_PROBE, key.behind(self._last[0])
            values |= {"age": self._last[1]}
        found = self._db.read(self._format(query, predicate=self._rows.predicate, behind=behind), values)
        full = len(found) == limit
        fit = self._size.within_bytes([size for *_, size in found])
        fit = min(fit, key.fit_a_list(list(map(key.take, found))))
        if fit < len(found):
            found, full = found[:fit], True
        left_out = Counter[str]() if self._last else self._left_out
        return Chunk(
            matched=len(found),
            # Rows that lie near each other are deleted together; nothing depends on the order.
            keys=sorted(map(key.take, found)),
            upto=(key.take(found[-1]), found[-1][-2]) if full else None,
            examined=len(found) + left_out.total(),
            left_out=left_out,
        )

    def keys_of(self, chunk: Chunk) -> list[KeyValue]:
        """Return the keys of a chunk."""
        return chunk.keys or []

    def advance(self, chunk: Chunk) -> None:
        """Advance the position past the rows that were found."""
        self._passed += chunk.matched
        self._last = chunk.upto
        self.finished = chunk.upto is None

    def _count(self, condition: str, limit: int) -> int:
        query = self._format(FEW, condition=condition)
        ((count,),) = self._db.read(query, {**self._rows.values, "limit": limit})
        return int(count)

    def _format(self, query: str, **parts: str) -> str:
        rows, index = self._rows, self._index
        return query.format(
            table=rows.table,
            selected=rows.key.selected,
            order=rows.key.ordered,
            index=index.name,
            age=index.age,
            position=index.resumes_at,
            size=rows.size,
            **parts,
        )
