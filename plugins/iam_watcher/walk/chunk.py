"""A chunk, the rows that one transaction writes, and the order in which a walk takes the rows of a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from iam_watcher.database.key import KeyValue

DENSE = 4  # keys are not worth a list if at least one row in so many is to be written


@dataclass(frozen=True)
class Chunk:
    """The rows that one transaction writes.

    Attributes:
        matched: how many are to be written.
        keys: of these rows, in order; None if the rows were only counted, those of `within` that match.
        upto: the position after this chunk, in the terms of the order.
        examined: rows that the server read.
        within: SQL condition for the keys of this chunk, if the rows were only counted.
        left_out: reason → rows that are counted and not written.
    """

    matched: int
    keys: list[KeyValue] | None
    upto: Any
    examined: int
    within: str = ""
    left_out: Counter[str] = field(default_factory=Counter)


class Order(Protocol):
    """The order in which a walk takes the rows of a table."""

    name: str

    @property
    def position(self) -> KeyValue | None:
        """The key up to which all rows are done; None if there is none, as in an order by age."""

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

    def keys_of(self, chunk: Chunk) -> list[KeyValue]:
        """Return the keys of a chunk whose rows were only counted."""

    def advance(self, chunk: Chunk) -> None:
        """Advance the position past a chunk that is committed."""
