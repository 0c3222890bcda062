"""The tables whose rows belong to the rows of another one, and are deleted with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.key import Key, KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.row_change import RowChange, RowRecorder


@dataclass(frozen=True)
class Reference:
    """Columns of a table that refer to the rows of another one.

    Attributes:
        table: quoted name of the table that has them.
        by: these columns, with the index that finds rows by them; its name is empty if the job does not
            choose it.
        to: the columns that they refer to.
        also: SQL that leaves out rows that don't count; in it, the table is called `referring`.
        on_delete: what the server does with the rows of a foreign key when the row that they refer to is
            deleted; set for the references of a table to itself.
        checked_by: quoted names of the indexes on `to`: before the server lets a row refer to another one, it
            looks for that one in one of them. None if each lock on a row is in this index anyway. With each,
            the condition of `Table.any_row`.
    """

    table: str
    by: Key
    to: Key
    also: str = ""
    on_delete: str = ""
    checked_by: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ChildTable:
    """A table whose rows are deleted with the rows of its parent table that they refer to.

    Attributes:
        table: the table.
        change: deletes rows of it, whatever they are; each row meets its condition.
        parent: how its rows refer to their parents.
        children: the tables of its own children.
        protected_by: other references to its rows, for which these stay.
        in_key_order: whether the index has the rows of one parent in the order of their keys.
        to_itself: how its rows refer to rows of the same table by foreign keys.
        at_once: whether all of the rows are found and recorded before the first row below is deleted: the
            server may change them then.
        waiting: SQL for a number that is not 0 for rows that go in the same transaction as their parent.
    """

    table: Table
    change: RowChange
    parent: Reference
    children: tuple[ChildTable, ...]
    protected_by: tuple[Reference, ...]
    in_key_order: bool
    to_itself: tuple[Reference, ...] = ()
    at_once: bool = False
    waiting: str = ""

    def all(self) -> Iterator[ChildTable]:
        """Yield this table and those below it."""
        yield self
        for child in self.children:
            yield from child.all()


@dataclass(frozen=True)
class Family:
    """The table of a job, and the tables whose rows belong to its rows.

    Attributes:
        children: the tables of the children.
        protected_by: references from other tables to the rows of the job.
        tables: the tables below that of the job, each once, in an order in which rows can be inserted.
    """

    children: tuple[ChildTable, ...]
    protected_by: tuple[Reference, ...] = ()
    tables: tuple[Table, ...] = ()

    def all(self) -> list[ChildTable]:
        """Return all tables below that of the job; a table may be there more than once."""
        return [one for child in self.children for one in child.all()]

    def pairs(self, top: str) -> Iterator[tuple[str, str, dict[str, str]]]:
        """Yield the name of each child table and of its parent, and column → column of the parent.

        Args:
            top: name of the table of the job.
        """

        def below(parent: str, children: Sequence[ChildTable]) -> Iterator[tuple[str, str, dict[str, str]]]:
            for child in children:
                to = child.parent.to.names
                yield child.table.name, parent, dict(zip(child.parent.by.names, to, strict=True))
                yield from below(child.table.name, child.children)

        yield from below(top, self.children)

    def shown(self) -> list[dict[str, Any]]:
        """Return the tree as plain values, from top to bottom: table, key and depth of each child table."""

        def below(children: Sequence[ChildTable], depth: int) -> Iterator[dict[str, Any]]:
            for child in children:
                key = child.parent.by.named
                yield {"table": child.table.name, "key": key, "depth": depth}
                yield from below(child.children, depth + 1)

        return list(below(self.children, 1))


class Records(Protocol):
    """Records the rows of all tables that one transaction deletes, before the commit."""

    def recorder(self, db: Transactions, child: ChildTable, rows: RowChange) -> RowRecorder | None:
        """Return what records rows of a child table; None if nothing does."""

    def parents(self, db: Transactions) -> RowRecorder:
        """Return what locks and records the rows of the job's table."""

    def mark(self) -> Sequence[int]:
        """Return how much was recorded in this transaction."""

    def drop(self, mark: Sequence[int]) -> None:
        """Forget what was recorded since the mark."""

    def store(self) -> None:
        """Make what was recorded durable."""


def condition(key: Key, values: Sequence[KeyValue]) -> str:
    """Return the condition for rows of some values of a key: a range, if no value is missing in it."""
    if key.is_integer and len(values) > 1:
        first, last = min(values), max(values)
        if last - first + 1 == len(set(values)):
            return f"({key.from_on(first)} AND {key.up_to(last)})"
    return key.among(values)
