"""The partitions of a table by ranges of one column, as the server's catalogue has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.database.column import quoted
from iam_watcher.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.database.transactions import Transactions

PARTITIONS = (
    "SELECT PARTITION_NAME, PARTITION_METHOD, PARTITION_EXPRESSION, PARTITION_DESCRIPTION, SUBPARTITION_NAME"
    " FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s"
    " ORDER BY PARTITION_ORDINAL_POSITION, SUBPARTITION_ORDINAL_POSITION"
)

RANGES = frozenset({"RANGE", "RANGE COLUMNS"})
MAXVALUE = "MAXVALUE"

# A column, or a function of it that grows with it. MySQL needs FLOOR for a TIMESTAMP with parts of a second.
_EXPRESSION = re.compile(
    r"(?:(to_days|year|unix_timestamp|floor\(unix_timestamp)\()?`((?:[^`]|``)+)`(\){0,2})", re.IGNORECASE
)

# SQL for the value of the column at which a partition ends, by the function in the expression.
ENDS = {
    "": "%(bound)s",
    "to_days": "FROM_DAYS(%(bound)s)",
    "year": "MAKEDATE(%(bound)s, 1)",
    "unix_timestamp": "FROM_UNIXTIME(%(bound)s)",
}

EXPECTED = "RANGE or RANGE COLUMNS of the age column, or RANGE of its TO_DAYS, YEAR or UNIX_TIMESTAMP"


@dataclass(frozen=True)
class Partition:
    """A partition.

    Attributes:
        name: of the partition.
        bound: the rows in it have smaller values; a number or a text, None for no bound.
    """

    name: str
    bound: int | str | None

    @property
    def quoted(self) -> str:
        """Its name for an SQL text."""
        return quoted(self.name)


@dataclass(frozen=True)
class Partitions:
    """The partitions of a table.

    Attributes:
        column: name of the column whose ranges they are.
        function: of this column, in lower case; "" for the column itself.
        all: in the order of their ranges.
    """

    column: str
    function: str
    all: tuple[Partition, ...]

    @property
    def end(self) -> str:
        """SQL for the value of the column at which a partition ends, with the placeholder `bound`."""
        return ENDS[self.function]

    @property
    def by_name(self) -> Mapping[str, Partition]:
        """Name → partition."""
        return {one.name: one for one in self.all}


def read_partitions(db: Transactions, table: str) -> Partitions:
    """Return the partitions of a table of the connection's database; called in a transaction.

    Raises:
        TableError: it has none, or they are of another kind.
    """
    rows = db.read(PARTITIONS, {"table": table})
    _, method, expression, _, subpartition = rows[0] if rows else (None,) * 5
    if method is None:
        raise TableError(f"{table} has no partitions; expected {EXPECTED}. Leave drop_partitions out")
    found = _EXPRESSION.fullmatch(expression or "")
    function = (found[1] or "").lower() if found else ""
    # FLOOR does not change the end, which is a whole number.
    if (
        subpartition is not None
        or method not in RANGES
        or not found
        or len(found[3]) != function.count("(") + (function != "")
    ):
        has = f"{method} ({expression}){' with subpartitions' if subpartition is not None else ''}"
        raise TableError(
            f"{table} is partitioned by {has}; drop_partitions expects {EXPECTED}, without subpartitions. "
            "Leave drop_partitions out: then the rows are deleted one by one"
        )
    partitions = tuple(Partition(name, _bound(text)) for name, _, _, text, _ in rows)
    return Partitions(found[2].replace("``", "`"), function.rpartition("(")[2], partitions)


def _bound(text: str) -> int | str | None:
    """Return a bound as a value: the catalogue has a literal."""
    if text == MAXVALUE:
        return None
    return text[1:-1] if text.startswith("'") else int(text)
