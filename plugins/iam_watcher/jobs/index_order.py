"""The rows of a table by an index on their age, oldest first: for when few of them have come of age.

The key order reads the whole table to find them. This one reads only them, but jumps between the pages
of the table to delete them, which is slower as soon as more than about a tenth is to go.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iam_watcher.jobs.order import Found
from iam_watcher.jobs.server_errors import (
    INDEX_UNUSABLE,
    STATEMENT_TIMEOUT_MARIADB,
    STATEMENT_TIMEOUT_MYSQL,
    code_of,
)

if TYPE_CHECKING:
    from iam_watcher.jobs.rows import Rows
    from iam_watcher.jobs.transaction import Transactions

# Whether few rows match: it stops counting at the limit.
FEW = (
    "SELECT COUNT(*) FROM"
    " (SELECT 1 FROM {table} FORCE INDEX ({index}) WHERE {condition} LIMIT %(limit)s) AS counted"
)

# The oldest rows to write. InnoDB keeps the primary key behind the columns of each index, in order. The age
# is read as a number: no date of the driver has a day of zero or a 31 February, and as a text MySQL would
# refuse to compare it.
FIRST_PROBE = (
    "SELECT {key}, {age} + 0 FROM {table} FORCE INDEX ({index})"
    " WHERE {predicate} ORDER BY {age}, {key} LIMIT %(limit)s"
)

# The next ones behind those.
NEXT_PROBE = (
    "SELECT {key}, {age} + 0 FROM {table} FORCE INDEX ({index})"
    " WHERE {predicate} AND {age} >= %(age)s AND ({age} > %(age)s OR {key} > %(after)s)"
    " ORDER BY {age}, {key} LIMIT %(limit)s"
)

# A count that takes too long finds no few rows.
NOT_BY_INDEX = frozenset({INDEX_UNUSABLE, STATEMENT_TIMEOUT_MARIADB, STATEMENT_TIMEOUT_MYSQL})

FEW_SHARE = 0.1
MOST_COUNTED = 1_000_000


@dataclass(frozen=True)
class AgeIndex:
    """An index on the age column alone.

    Attributes:
        name: quoted.
        age: the column, quoted.
        table_rows: as the catalogue estimates them.
    """

    name: str
    age: str
    table_rows: int


class IndexOrder:
    """The rows that match, oldest first; those that are left out are counted at the beginning.

    Attributes:
        position: always None: a new walk begins with the oldest row again.
        few: whether, as counted by `begin`, it is worth it; if not, the order must not be used.
    """

    name = "index"
    position = None

    def __init__(self, db: Transactions, rows: Rows, index: AgeIndex) -> None:
        self.few = False
        self.finished = False
        self._db = db
        self._rows = rows
        self._index = index
        self._left_out: Counter[str] = Counter()
        self._total = self._passed = 0
        self._last: tuple[int, Any] | None = None

    @property
    def window_name(self) -> str:
        """The age that the next rows have at least."""
        where = "at the oldest row" if self._last is None else f"from {self._last[1]} on"
        return f"by {self._index.name} {where}"

    def begin(self) -> None:
        """Count the rows that match, and those that are left out."""
        limit = min(int(self._index.table_rows * FEW_SHARE), MOST_COUNTED)
        try:
            counts = Counter(
                {reason: self._count(condition, limit) for reason, condition in self._rows.left_out.items()}
            )
            self._total = self._count(self._rows.predicate, limit)
        except self._db.error as error:
            if code_of(error) not in NOT_BY_INDEX:
                raise
            return
        self._left_out = +counts
        self.few = self._total + counts.total() < limit

    @property
    def share(self) -> float:
        """How many of the matching rows are done, 0 to 1."""
        return min(self._passed / self._total, 1.0) if self._total else 1.0

    def find(self, limit: int, *, exact: bool) -> Found:  # noqa: ARG002  it is always exact
        """Return the next rows, at most `limit`."""
        values = {**self._rows.values, "limit": limit}
        query = FIRST_PROBE
        if self._last is not None:
            query = NEXT_PROBE
            values |= {"after": self._last[0], "age": self._last[1]}
        found = self._db.read(self._format(query, predicate=self._rows.predicate), values)
        left_out = Counter[str]() if self._last else self._left_out
        return Found(
            matched=len(found),
            keys=sorted(key for key, _ in found),
            upto=found[-1] if len(found) == limit else None,
            examined=len(found) + left_out.total(),
            left_out=left_out,
        )

    def keys_of(self, found: Found) -> list[int]:
        """Return the keys that were found."""
        return found.keys or []

    def passed(self, found: Found) -> None:
        """Go on behind what was found."""
        self._passed += found.matched
        self._last = found.upto
        self.finished = found.upto is None

    def _count(self, condition: str, limit: int) -> int:
        query = self._format(FEW, condition=condition)
        ((count,),) = self._db.read(query, {**self._rows.values, "limit": limit})
        return int(count)

    def _format(self, query: str, **parts: str) -> str:
        rows, index = self._rows, self._index
        return query.format(table=rows.table, key=rows.key, index=index.name, age=index.age, **parts)
