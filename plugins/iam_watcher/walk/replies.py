"""Rows of a child table that refer to rows of the same table: which of them go first, and which stay.

A row is deleted after all rows that refer to it. So the server deletes none of these by ON DELETE CASCADE,
without the archive, and does not refuse to delete the row. A row outside of the family that refers to a row
of the family protects that row.
"""

from __future__ import annotations

from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from iam_watcher.database.column import INTEGERS
from iam_watcher.database.foreign_keys import DELETES_WITH_IT, REFUSES
from iam_watcher.walk.row_locks import lock_referred

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from iam_watcher.database.key import Key, KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.child_rows import ChildTable

# The rows that are referred to were locked before, by `lock_referred` too: nobody can begin to refer to them.
REFERRERS = (
    "SELECT {referring}, {referred} FROM (SELECT {columns} FROM {table} FORCE INDEX ({index}) WHERE {rows})"
    " AS referred STRAIGHT_JOIN {table} AS referring FORCE INDEX ({by}) ON {equal}{lock}"
)
LOCKED = " FOR UPDATE"


class ReferredError(Exception):
    """A row that stays refers to one of the rows."""


class TooManyReferrersError(Exception):
    """Too many rows refer to the rows: `rows` are some of those to delete first."""

    def __init__(self, rows: Sequence[KeyValue]) -> None:
        super().__init__(rows)
        self.rows = rows


def references(
    db: Transactions,
    child: ChildTable,
    keys: Sequence[KeyValue],
    *,
    lock: str = LOCKED,
    most: int | None = None,
) -> Iterable[tuple[KeyValue, KeyValue, bool]]:
    """Yield which rows refer to rows of these keys: their key, key of the other row, and whether strictly.

    Not strictly: if the other row is deleted, the server sets the reference to NULL. A row that refers to
    itself is left out if the server deletes it.

    Args:
        db: where.
        child: the table.
        keys: of the rows that are referred to.
        lock: SQL that locks the rows.
        most: how many rows to read and lock that refer strictly, for a foreign key and a list of keys; None
            for all of them.
    """
    key = child.change.key
    width = len(key.columns)
    for own in child.to_itself:
        is_strict = own.on_delete in REFUSES | {DELETES_WITH_IT}
        limit = f" LIMIT {most}" if most is not None and is_strict else ""
        columns = {part.column.name: part.column.quoted for part in (*key.columns, *own.to.columns)}
        for some in key.in_lists(keys):
            query = REFERRERS.format(
                referring=key.selected_from("referring"),
                referred=key.selected_from("referred"),
                columns=", ".join(columns.values()),
                table=child.change.table,
                index=key.index,
                rows=key.among(some),
                by=own.by.index,
                equal=" AND ".join(
                    f"referring.{mine.column.quoted} = referred.{theirs.column.quoted}"
                    for mine, theirs in zip(own.by.columns, own.to.columns, strict=True)
                ),
                lock=limit + lock,
            )
            for row in db.read(query):
                referring, referred = key.take(row), key.take(row[width:])
                if referring != referred or own.on_delete in REFUSES:
                    yield referring, referred, is_strict


def in_order(
    db: Transactions,
    child: ChildTable,
    keys: Sequence[KeyValue],
    lock: Callable[[Sequence[KeyValue]], Collection[KeyValue]],
    most: int | None = None,
) -> tuple[list[list[KeyValue]], bool]:
    """Return rows and all of the family that refer to them, in lists: one after the other can be deleted.

    No row refers to another one of its list: one statement can delete them, in any order. The second value is
    whether rows refer to each other in a circle. Then there is one list, in the order of `Key.reversed`, and
    its rows should be deleted one by one.

    Args:
        db: where.
        child: the table.
        keys: of the rows, which are locked.
        lock: locks those rows of some keys that are of the family, and returns their keys.
        most: how many rows may be returned, and they fit a list of keys; None for any number.

    Raises:
        ReferredError: a row that is not of the family refers to one of them.
        TooManyReferrersError: there are more than `most` rows.
    """
    key = child.change.key
    before: dict[KeyValue, set[KeyValue]] = {one: set() for one in keys}
    new = list(keys)
    while new:
        for own in child.to_itself:
            lock_referred(db, child.change.table, key, new, own)
        # Of more rows one is not of the family, or they are too many: then the others need no lock.
        found = list(references(db, child, new, most=len(before) + (most or 0) + 1))
        new = list(lock(list(dict.fromkeys(one for one, _, _ in found if one not in before))))
        known = {*before, *new}
        if any(strict and one not in known for one, _, strict in found):
            raise ReferredError
        if most is not None and new and (len(known) > most or key.fit_a_list([*known]) < len(known)):
            raise TooManyReferrersError(new)
        before |= {one: set() for one in new}
        for one, to, _ in found:
            if one in known:
                before[to].add(one)
    try:
        ordered = list(TopologicalSorter(before).static_order())
    except CycleError:
        return [sorted(before, reverse=True)], True
    place: dict[KeyValue, int] = {}
    lists: defaultdict[int, list[KeyValue]] = defaultdict(list)
    for one in ordered:
        place[one] = max((place[other] + 1 for other in before[one]), default=0)
        lists[place[one]].append(one)
    return [sorted(lists[number], reverse=True) for number in sorted(lists)], False


def goes_first(key: Key, one: KeyValue, other: KeyValue) -> bool:
    """Return whether a row surely comes before another one in the order of `Key.reversed`."""
    return all(part.column.data_type in INTEGERS and not part.descending for part in key.columns) and bool(
        one > other
    )


class Circles:
    """Finds whether rows refer to each other in a circle, page by page in the order of `Key.reversed`.

    It keeps the rows to which one refers that comes later, and those to which these refer.
    """

    def __init__(self, key: Key) -> None:
        self._key = key
        self._open: dict[KeyValue, set[KeyValue]] = {}

    def add(self, found: Iterable[tuple[KeyValue, KeyValue]]) -> None:
        """Add which rows refer to the rows of a page: key, and key of the other row."""
        for one, to in sorted(found, key=lambda pair: pair[1], reverse=True):
            if one in self._open or not goes_first(self._key, one, to):
                self._open.setdefault(to, set()).add(one)

    def found(self) -> bool:
        """Return whether there is a circle."""
        try:
            TopologicalSorter(self._open).prepare()
        except CycleError:
            return True
        return False
