"""A table at its place in the tree of a purge, and the foreign keys between such tables.

The job deletes the rows below a row before the row, and the rows of one branch before those of the next. So a
foreign key between two tables of the tree is harmless if the rows that refer are gone by then. If not, the
server refuses the delete, or changes or deletes these rows before the archive has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iam_watcher.database.column import quoted
from iam_watcher.database.foreign_keys import DELETES_WITH_IT, REFUSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from iam_watcher.database.foreign_keys import ForeignKey

    ReferencesTo = Callable[[str], Sequence[ForeignKey]]
    Referenced = Callable[["Branch", "Branch"], Sequence[str]]

# How many rows `referred` of the branch that `referring` refers to have a row above that both belong to. A
# number is no condition that the server turns into a join, which might begin with another table.
BELONG = "(SELECT STRAIGHT_JOIN COUNT(*) FROM {tables} WHERE {conditions})"


@dataclass(eq=False)
class Branch:
    """A table of the tree, before it was looked at.

    Attributes:
        name: of the table.
        columns: that refer to the parent; none for the top.
        referenced: names of the columns that they refer to; None for the parent's primary key.
        children: the branches below.
        problem: why the rows can't be deleted; None if they can.
    """

    name: str
    columns: tuple[str, ...] = ()
    referenced: tuple[str, ...] | None = None
    children: list[Branch] = field(default_factory=list)
    problem: str | None = None

    @property
    def shown(self) -> str:
        """The branch with all below it, for messages."""
        below = f" [{', '.join(child.shown for child in self.children)}]" if self.children else ""
        columns = f" ({', '.join(self.columns)})" if self.columns else ""
        return f"{self.name}{columns}{below}"

    def all(self) -> Iterator[Branch]:
        """Yield this branch and those below it."""
        yield self
        for child in self.children:
            yield from child.all()

    def paths(self) -> Iterator[tuple[Branch, ...]]:
        """Yield the way to each branch from this one, in the order in which their rows are deleted."""
        for child in self.children:
            for path in child.paths():
                yield (self, *path)
        yield (self,)

    def has_child(self, key: ForeignKey) -> bool:
        """Return whether the rows that refer to rows of this branch by a foreign key are its children."""
        return key.is_here and any(
            child.name == key.table and set(child.columns) == set(key.columns) for child in self.children
        )


def in_order(branches: Sequence[Branch], references_to: ReferencesTo) -> list[Branch]:
    """Return branches so that a table comes before those that its rows refer to, where that can be.

    Where no order is right for all foreign keys, one with ON DELETE SET NULL is the first to be ignored.
    """

    def refer(branch: Branch, to: Branch, *, strictly: bool) -> bool:
        names = {one.name for one in branch.all()}
        return any(
            key.is_here
            and key.table in names
            and key.table != one.name
            and not one.has_child(key)
            and (not strictly or is_strict(key))
            for one in to.all()
            for key in references_to(one.name)
        )

    rest, found = list(branches), list[Branch]()
    while rest:
        free = [
            [
                one
                for one in rest
                if not any(refer(other, one, strictly=strictly) for other in rest if other is not one)
            ]
            for strictly in (False, True)
        ]
        found.append((free[0] or free[1] or rest)[0])
        rest.remove(found[-1])
    return found


def is_strict(key: ForeignKey) -> bool:
    """Return whether the server refuses to delete a row that is referred to, or deletes what refers to it."""
    return key.on_delete in REFUSES | {DELETES_WITH_IT}


@dataclass
class Meeting:
    """Two ways through the tree: to rows that a foreign key refers to, and to rows that refer to them.

    Attributes:
        to: the way to the rows that are referred to.
        by: the way to the rows that refer.
    """

    to: tuple[Branch, ...]
    by: tuple[Branch, ...]

    @property
    def depth(self) -> int:
        """The depth of the lowest branch on both ways; for rows of one branch, that of their parents."""
        if self.to[-1] is self.by[-1]:
            return len(self.to) - 2
        same = sum(one is other for one, other in zip(self.to, self.by, strict=False))
        return same - 1

    @property
    def is_upward(self) -> bool:
        """Whether the rows that refer are above the others."""
        return self.depth == len(self.by) - 1

    @property
    def is_in_order(self) -> bool:
        """Whether of the rows below one row of the lowest branch those that refer go first."""
        depth = self.depth
        if self.is_upward or self.to[-1] is self.by[-1] or depth == len(self.to) - 1:
            return not self.is_upward
        below = [id(one) for one in self.to[depth].children]
        return below.index(id(self.by[depth + 1])) < below.index(id(self.to[depth + 1]))

    def belong(self, key: ForeignKey, depth: int, table_key: Sequence[str], referenced: Referenced) -> str:
        """Return SQL for a number that is not 0 if a row belongs to the same row as the one it refers to.

        Args:
            key: the foreign key.
            depth: of the branch of that same row.
            table_key: names of the key of its table.
            referenced: returns the names of the columns of a parent that a branch refers to.
        """
        tables = [f"{quoted(self.to[-1].name)} AS referred"]
        conditions = _equal("referred", key.referenced, "referring", key.columns)
        ends = []
        for first, path in (("referring", self.by), ("referred", self.to)):
            alias = first
            for at in range(len(path) - 1, depth, -1):
                above = f"above_{first}{at}"
                tables.append(f"{quoted(path[at - 1].name)} AS {above}")
                columns = referenced(path[at - 1], path[at])
                conditions += _equal(above, columns, alias, path[at].columns)
                alias = above
            ends.append(alias)
        conditions += _equal(ends[0], table_key, ends[1], table_key)
        return BELONG.format(tables=", ".join(tables), conditions=" AND ".join(conditions))


def same_row(table: str, alias: str, columns: Sequence[str], other: str, others: Sequence[str]) -> str:
    """Return SQL for how many rows of a table have in some columns what a row of another table has."""
    conditions = " AND ".join(_equal(alias, columns, quoted(other), others))
    return BELONG.format(tables=f"{quoted(table)} AS {alias}", conditions=conditions)


def _equal(alias: str, columns: Sequence[str], other: str, others: Sequence[str]) -> list[str]:
    pairs = zip(columns, others, strict=True)
    return [f"{alias}.{quoted(one)} = {other}.{quoted(two)}" for one, two in pairs]
