"""Counts the rows of child tables that would be deleted with the rows of a job, without writing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from iam_watcher.walk.row_change import RowChange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.child_rows import ChildTable, Family, Reference

# From the rows of a span down to the rows of one table, each step by the index on the key of the children.
COUNT = (
    "SELECT COUNT(*) FROM (SELECT {referred} FROM {table} FORCE INDEX ({index}) WHERE {within}"
    " AND ({predicate})) AS row0{joins}"
)
JOIN = " STRAIGHT_JOIN {table} AS row{number} FORCE INDEX ({index}) ON {equal}"

# Whether a row of a child table belongs to a row of its parent table that meets a condition.
BELONGS = "EXISTS (SELECT 1 FROM {parents} WHERE {equal} AND ({condition}))"

Path = tuple["ChildTable", ...]


class ChildCount:
    """Counts rows of child tables.

    Args:
        db: where.
        rows: the change that would be made to the rows of the job.
        family: the tables below.
    """

    def __init__(self, db: Transactions, rows: RowChange, family: Family) -> None:
        self._db = db
        self._rows = rows
        paths: dict[str, list[Path]] = {}
        for path in _paths(family.children, ()):
            paths.setdefault(path[-1].table.name, []).append(path)
        self._once = {name: found[0] for name, found in paths.items() if len(found) == 1}
        self._more = {name: found for name, found in paths.items() if len(found) > 1}

    def in_span(self, within: str) -> Counter[str]:
        """Return table → rows that belong to the rows of a span, for the tables that are in the tree once."""
        found = Counter[str]()
        for name, path in self._once.items():
            ((found[name],),) = self._db.read(self._query(path, within), self._rows.values)
        return found

    def elsewhere(self) -> Iterator[tuple[str, RowChange]]:
        """Yield the tables that are in the tree more than once, with the rows to be counted.

        A row may belong to several of the job's rows then, so these tables are read themselves.
        """
        for name, paths in self._more.items():
            change = paths[0][-1].change
            belongs = " OR ".join(self._belongs(path) for path in paths)
            yield name, RowChange(change.table, change.key, belongs, values=self._rows.values)

    def _query(self, path: Path, within: str) -> str:
        rows = self._rows
        joins = "".join(
            JOIN.format(
                table=child.change.table,
                number=number,
                index=child.parent.by.index,
                equal=_equal(child.parent, f"row{number}", f"row{number - 1}"),
            )
            for number, child in enumerate(path, start=1)
        )
        return COUNT.format(
            referred=path[0].parent.to.quoted,
            table=rows.table,
            index=rows.key.index,
            within=within,
            predicate=rows.predicate,
            joins=joins,
        )

    def _belongs(self, path: Path) -> str:
        condition, parents = self._rows.predicate, self._rows.table
        for child in path:
            equal = _equal(child.parent, child.change.table, parents)
            condition = BELONGS.format(parents=parents, equal=equal, condition=condition)
            parents = child.change.table
        return condition


def _paths(children: Sequence[ChildTable], above: Path) -> Iterator[Path]:
    for child in children:
        yield (*above, child)
        yield from _paths(child.children, (*above, child))


def _equal(reference: Reference, child: str, parent: str) -> str:
    return " AND ".join(
        f"{child}.{mine.column.quoted} = {parent}.{theirs.column.quoted}"
        for mine, theirs in zip(reference.by.columns, reference.to.columns, strict=True)
    )
