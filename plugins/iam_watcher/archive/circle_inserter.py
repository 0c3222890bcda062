"""Inserts archived rows that refer to each other in a circle, such as an order that refers to its last line.

None of them can be inserted first. So each is inserted with NULL in the columns that refer to tables of the
archive, and gets its values when all of them are there, in the same transaction. A row that can't get its
values is not inserted, and neither are the rows that refer to it: no row is ever half restored.

Rows that are not connected by references need no common transaction.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from iam_watcher.archive.row_comparison import Batch
from iam_watcher.archive.row_inserter import FOREIGN_KEY, MOST_ROWS, STRICT, Put, RowInserter
from iam_watcher.database.foreign_keys import references_of
from iam_watcher.database.server_errors import may_be_committed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from iam_watcher.archive.reader import Row
    from iam_watcher.archive.row_keys import RowKey
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.transactions import Transactions

    Refused = dict[RowKey, str]
    Node = tuple[int, RowKey]  # the place of a table, and a key in it
    Read = Callable[[Row, Iterable[str]], tuple[Any, ...]]

SAVEPOINT = "before_circles"


class CircleInserter(RowInserter):
    """Inserts rows of one table without some of their references, and then writes these.

    Args:
        db: where.
        table: of the rows.
        waiting: the rows.
        among: names of the tables of the archive.

    Attributes:
        waiting: the rows.
        references: name of another table, column of this one → column of the other one, for each foreign key.
        later: names of the columns that are written when all rows are there.
    """

    def __init__(
        self, db: Transactions, table: Table, waiting: Sequence[Batch], among: Collection[str]
    ) -> None:
        super().__init__(db, table, dry_run=False)
        self.waiting = waiting
        self.references = [(to, pairs) for to, pairs in references_of(db, table.name) if to in among]
        self.later = {name for _, pairs in self.references for name in pairs if table.columns[name].nullable}

    def of(self, keys: Collection[RowKey]) -> CircleInserter:
        """Return an inserter of these rows."""
        one = copy.copy(self)
        one.unanswered = set()
        one.waiting = [
            Batch(batch.columns, {key: row for key, row in batch.rows.items() if key in keys}, batch.is_long)
            for batch in self.waiting
        ]
        return one

    def rows(self) -> Iterator[tuple[RowKey, Row]]:
        """Yield the rows with their keys."""
        for batch in self.waiting:
            for key, (row, _) in batch.rows.items():
                yield key, row

    def insert(self, apart_from: Collection[RowKey]) -> Put:
        """Insert the rows whose keys are not there, without their references."""
        put, key_columns = Put(), [part.column for part in self.table.key.columns]
        self._db.change(STRICT)
        for batch in self.waiting:
            rows = {key: self._without(batch, key) for key in batch.rows if key not in apart_from}
            if not rows:
                continue
            part = Batch(batch.columns, rows)
            there = self._read(part, rows, key_columns).keys()
            put.unconfirmed |= there & self.unanswered
            put.there |= there - self.unanswered
            if missing := [key for key in rows if key not in there]:
                self._insert(part, missing, put)
        return put

    def complete(self, inserted: Collection[RowKey]) -> Refused:
        """Write the references of rows that were inserted; return those that the server refuses, and why."""
        refused = {}
        for batch in self.waiting:
            for key, (row, _) in batch.rows.items():
                has_references = any(row.get(name) is not None for name in self.later)
                if has_references and key in inserted and (why := self._update(batch, key)):
                    refused[key] = why
        return refused

    def compare(self, put: Put) -> None:
        """Count the values in which the table differs from the archive."""
        for batch in self.waiting:
            put.altered.update(self._altered(batch, put.inserted & batch.rows.keys()))

    def _without(self, batch: Batch, key: RowKey) -> tuple[Row, list[Any]]:
        row, bound = batch.rows[key]
        return {**row, **dict.fromkeys(self.later & row.keys())}, [
            ("{value}", None) if column.name in self.later else one
            for column, one in zip(batch.columns, bound, strict=True)
        ]


def connected(tables: Sequence[CircleInserter]) -> Iterator[list[CircleInserter]]:
    """Split the rows into parts of about 500 rows, so that connected rows are in the same part.

    A part is larger if more rows are connected. Only the server knows which texts are equal: upper and lower
    case count as equal here, and with other characters than those of ASCII, all rows are one part.
    """
    referring = _referring(tables, _folded)
    referred = {(to, names) for to, names, _ in referring}
    neighbours: dict[Node, set[Node]] = {
        (number, key): set() for number, one in enumerate(tables) for key, _ in one.rows()
    }
    compared = [values for _, _, values in referring]
    for number, one in enumerate(tables):
        for key, row in one.rows():
            for names in (names for to, names in referred if to == one.table.name):
                compared.append(values := _folded(row, names))
                for other in referring.get((one.table.name, names, values), ()):
                    neighbours[number, key].add(other)
                    neighbours[other].add((number, key))
    if not all(one.isascii() for values in compared for one in values if isinstance(one, str)):
        yield list(tables)
        return
    part: set[Node] = set()
    for node in list(neighbours):
        part |= _take_connected(neighbours, node)
        if len(part) >= MOST_ROWS:
            yield _of(tables, part)
            part = set()
    if part:
        yield _of(tables, part)


def _take_connected(neighbours: dict[Node, set[Node]], node: Node) -> set[Node]:
    """Remove a row and all that are connected with it, and return them."""
    found: set[Node] = set()
    open_nodes = [node]
    while open_nodes:
        one = open_nodes.pop()
        if one in neighbours:
            found.add(one)
            open_nodes += neighbours.pop(one)
    return found


def _of(tables: Sequence[CircleInserter], nodes: Iterable[Node]) -> list[CircleInserter]:
    keys: dict[int, set[RowKey]] = defaultdict(set)
    for number, key in nodes:
        keys[number].add(key)
    return [one.of(keys[number]) for number, one in enumerate(tables)]


def insert_circles(db: Transactions, tables: Sequence[CircleInserter], what: str) -> list[Put]:
    """Insert rows that wait for each other, in one transaction; return what it has done, for each table.

    Args:
        db: where.
        tables: in an order in which rows can be inserted, apart from circles.
        what: names the transaction in messages.
    """
    referring = _referring(tables, _exact)

    def insert() -> list[Put]:
        refused: list[Refused] = [{} for _ in tables]
        db.change(f"SAVEPOINT {SAVEPOINT}")
        while True:
            done = [one.insert(without) for one, without in zip(tables, refused, strict=True)]
            more = [one.complete(put.inserted) for one, put in zip(tables, done, strict=True)]
            if not any(more):
                break
            db.change(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
            for found, new in zip(refused, more, strict=True):
                found.update(new)
            _add_referring(tables, refused, referring)
        for one, put, found in zip(tables, done, refused, strict=True):
            put.refused += found.items()
            one.compare(put)
        try:
            db.commit()
        except BaseException as error:
            if may_be_committed(error):
                for one, put in zip(tables, done, strict=True):
                    one.unanswered |= put.inserted
            raise
        for one in tables:
            one.unanswered = set()
        return done

    return db.run(insert, what=what)


def _referring(tables: Sequence[CircleInserter], read: Read) -> dict[Any, list[Node]]:
    """Return table, columns and their values → the rows that refer to a row with them."""
    found: dict[Any, list[Node]] = defaultdict(list)
    for number, one in enumerate(tables):
        for to, pairs in one.references:
            for key, row in one.rows():
                values = read(row, pairs)
                if None not in values:
                    found[to, tuple(pairs.values()), values].append((number, key))
    return found


def _exact(row: Row, names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in names)


def _folded(row: Row, names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(one.rstrip().lower() if isinstance(one, str) else one for one in _exact(row, names))


def _add_referring(
    tables: Sequence[CircleInserter],
    refused: Sequence[Refused],
    referring: dict[Any, list[Node]],
) -> None:
    """Add the rows that refer to refused rows: else a long thread would lose one row at each attempt."""
    rows = [dict(one.rows()) for one in tables]
    referred = {(to, names) for to, names, _ in referring}
    open_rows = [(number, key) for number, found in enumerate(refused) for key in found]
    while open_rows:
        number, key = open_rows.pop()
        for to, names in referred:
            if to == tables[number].table.name:
                for other, one in referring.get((to, names, _exact(rows[number][key], names)), ()):
                    if one not in refused[other]:
                        refused[other][one] = FOREIGN_KEY
                        open_rows.append((other, one))
