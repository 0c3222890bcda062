"""Inserts archived rows, a batch in a transaction, and compares what the table then has with the archive.

What a statement can't take, or the server refuses, ends in the same insert: hence the length.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from iam_watcher.archive.column_formats import format_of
from iam_watcher.archive.refusals import PACKET
from iam_watcher.archive.row_comparison import Batch, RowComparison
from iam_watcher.archive.row_keys import literals_of, row_key
from iam_watcher.database.server_errors import code_of, may_be_committed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from iam_watcher.archive.column_formats import Bound
    from iam_watcher.archive.reader import ArchivedTry, Row
    from iam_watcher.archive.replaced_rows import ReplacedRows
    from iam_watcher.archive.row_keys import RowKey
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.pace import ChunkSize

    Tries = Sequence[tuple[ArchivedTry, list[Column]]]

# Allows values that a table can have: a 0 in an AUTO_INCREMENT column, a zero date, the 31st of February.
STRICT = "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'"

# For a row that the strict mode refuses, such as one with a value that is no member of its ENUM. The server
# may store another value. So the row is compared, and rolled back if it differs.
LENIENT = "SET SESSION sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'"

INSERT = "INSERT INTO {table} ({columns}) VALUES {rows}"
UPDATE = "UPDATE {table} FORCE INDEX ({index}) SET {assignments} WHERE {key} AND {condition}"

# A value that would make a statement too long is put together from pieces, in a variable of the session.
BEGIN_VALUE = "SET @archived_{number} = _binary %(piece)s"
ADD_TO_VALUE = "SET @archived_{number} = CONCAT(@archived_{number}, _binary %(piece)s)"

CHARSETS = "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS"

SAVEPOINT = "before_row"

DOES_NOT_FIT, FOREIGN_KEY, UNIQUE_KEY, REPLACED = "does_not_fit", "foreign_key", "unique_key", "replaced"

REFUSED = {
    1062: UNIQUE_KEY,
    1216: FOREIGN_KEY,
    1452: FOREIGN_KEY,
    3819: "check",
    4025: "check",
    1644: "trigger",
    **dict.fromkeys((1048, 1264, 1265, 1292, 1300, 1366, 1406, 1526, 3140, 3854, 4078), DOES_NOT_FIT),
}
"""Error number → why the server refuses a row. It has then taken back the statement, not the transaction."""

MOST_ROWS, MOST_BYTES = 500, 1_000_000  # of one statement
LONGEST_INLINE = 256  # bytes of a value in the statement of a row that is too long for one


@dataclass
class Put:
    """What one transaction has done.

    Attributes:
        there: keys of rows that existed.
        inserted: keys of rows that were inserted.
        unconfirmed: keys of rows that exist now, after a commit of ours that got no answer.
        unlike: keys of rows that existed with other values than the archive has, if others refer to them.
        refused: key and reason of rows that the server refused, or that belong to a replaced row.
        altered: column → rows in which the table now has another value than the archive.
    """

    there: set[RowKey] = field(default_factory=set)
    inserted: set[RowKey] = field(default_factory=set)
    unconfirmed: set[RowKey] = field(default_factory=set)
    unlike: set[RowKey] = field(default_factory=set)
    refused: list[tuple[RowKey, str]] = field(default_factory=list)
    altered: Counter[str] = field(default_factory=Counter)


class RowInserter(RowComparison):
    """Inserts rows into one table.

    Args:
        db: where.
        table: of the rows.
        dry_run: look which rows exist, insert none.
        replaced: the replaced rows of the archive; None if all rows are of one table.

    Attributes:
        unanswered: keys of the batch at work whose commit got no answer.
    """

    def __init__(
        self, db: Transactions, table: Table, *, dry_run: bool, replaced: ReplacedRows | None = None
    ) -> None:
        super().__init__(db, table)
        self.unanswered: set[RowKey] = set()
        self._dry_run = dry_run
        self._replaced = replaced

        def facts() -> tuple[int, frozenset[str]]:
            ((packet,),) = db.read(PACKET)
            charsets = frozenset(name for (name,) in db.read(CHARSETS))
            db.commit()
            return int(packet), charsets

        packet, self._charsets = db.run(facts, what="max_allowed_packet")
        # The driver writes two characters for some bytes.
        self._most_bytes = min(MOST_BYTES, packet // 4)

    def batches(self, rows: Iterable[Row], columns: Sequence[Column], size: ChunkSize) -> Iterator[Batch]:
        """Return the rows in batches that fit into one statement each, of `size.rows` at most."""
        batch, length = Batch(columns), 0
        for row in rows:
            bound = [self._bind(row[column.name], column) for column in columns]
            more = sum(len(value) for _, value in bound if isinstance(value, bytes))
            key = row_key(row, self.table.key)
            full = len(batch.rows) >= min(size.rows, MOST_ROWS) or length + more > self._most_bytes
            # Of a row in two parts the newer one comes first, and has to be there before the older one.
            if batch.rows and (full or key in batch.rows):
                yield batch
                batch, length = Batch(columns), 0
            batch.rows[key] = (row, bound)
            batch.is_long = length + more > self._most_bytes
            length += more
        if batch.rows:
            yield batch

    def orphans(self, batch: Batch, put: Put) -> Batch:
        """Return the rows that were refused because what they refer to is not there, in the reverse order.

        It may come later in the archive: rows can refer to rows of the same table. `put` has them no more.
        """
        keys = [key for key, why in put.refused if why == FOREIGN_KEY]
        put.refused = [(key, why) for key, why in put.refused if why != FOREIGN_KEY]
        return Batch(batch.columns, {key: batch.rows[key] for key in reversed(keys)}, batch.is_long)

    def put(self, batch: Batch, what: str) -> Put:
        """Insert the rows of a batch whose keys are not there, in one transaction."""
        return self._db.run(lambda: self._put(batch), what=what)

    def missing(self, keys: Collection[RowKey], tries: Tries, size: ChunkSize) -> Iterator[Row]:
        """Return the rows of these keys that the table has in no version, in all their versions.

        After a crash, a row can be in two parts of an archive, and the table can have it as one of them.
        """
        versions: dict[RowKey, list[Row]] = {key: [] for key in keys}
        for written, columns in tries:
            rows = (row for row in written.rows() if row_key(row, self.table.key) in versions)
            for batch in self.batches(rows, columns, size):
                unlike = self.unlike(batch)
                for key, (row, _) in batch.rows.items():
                    if key not in unlike:
                        versions.pop(key, None)
                    elif key in versions:
                        versions[key].append(row)
        yield from chain.from_iterable(versions.values())

    def _put(self, batch: Batch) -> Put:
        db, put = self._db, Put()
        there = self._read(batch, batch.rows, [part.column for part in self.table.key.columns]).keys()
        put.unconfirmed = there & self.unanswered
        put.there = there - put.unconfirmed
        missing = [key for key in batch.rows if key not in there]
        if self._replaced is not None:
            missing = self._without_replaced(self._replaced, batch, missing, put)
        if self._dry_run:
            put.inserted.update(missing)
        elif missing:
            db.change(STRICT)
            self._insert(batch, missing, put)
        put.altered.update(self._altered(batch, put.inserted))
        self._commit(put)
        return put

    def _commit(self, put: Put) -> None:
        try:
            self._db.commit()
        except BaseException as error:
            if may_be_committed(error):
                self.unanswered |= put.inserted
            raise
        self.unanswered = set()

    def _without_replaced(
        self, replaced: ReplacedRows, batch: Batch, missing: list[RowKey], put: Put
    ) -> list[RowKey]:
        """Return the rows that belong to no replaced row; note the others, and those that may be replaced."""
        if replaced.are_referred_to(self.table.name):
            put.unlike = set(self._differing(batch, put.there))
        strangers = {key for key in missing if replaced.refers(self.table.name, batch.rows[key][0])}
        put.refused += [(key, REPLACED) for key in missing if key in strangers]
        return [key for key in missing if key not in strangers]

    def _insert(self, batch: Batch, keys: list[RowKey], put: Put) -> None:
        """Insert rows; if the server refuses one, find it by halving."""
        why = self._try(batch, keys)
        if why is None:
            put.inserted.update(keys)
        elif len(keys) > 1:
            half = len(keys) // 2
            self._insert(batch, keys[:half], put)
            self._insert(batch, keys[half:], put)
        elif why == DOES_NOT_FIT and self._fits_after_all(batch, keys[0]):
            put.inserted.update(keys)
        else:
            put.refused.append((keys[0], why))

    def _fits_after_all(self, batch: Batch, key: RowKey) -> bool:
        """Write a row that the strict mode refuses; return whether the table then has it as the archive."""
        db = self._db
        db.change(f"SAVEPOINT {SAVEPOINT}")
        db.change(LENIENT)
        fits = self._try(batch, [key]) is None and not self._differing(batch, [key])
        db.change(STRICT)
        if not fits:
            db.change(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
        return fits

    def _try(self, batch: Batch, keys: list[RowKey]) -> str | None:
        """Insert rows by one statement; return why the server refuses one of them, or None."""
        texts, values = list[str](), dict[str, object]()
        for number, key in enumerate(keys):
            inserts = [
                self._literal(batch, place, bound, values, f"v{number}_{place}")
                for place, bound in enumerate(batch.rows[key][1])
            ]
            texts.append(f"({', '.join(inserts)})")
        columns = ", ".join(column.quoted for column in batch.columns)
        query = INSERT.format(table=self.table.quoted, columns=columns, rows=", ".join(texts))
        return self._refused(query, values)

    def _update(
        self, batch: Batch, key: RowKey, condition: str = "TRUE", bound: Mapping[str, object] | None = None
    ) -> str | None:
        """Write all values of a row that meets a condition; return why the server refuses them, or None.

        What is written, the server does not set to the current time (ON UPDATE).
        """
        table, values = self.table, dict(bound or {})
        assignments = [
            f"{column.quoted} = {self._literal(batch, place, one, values, f'v{place}')}"
            for place, (column, one) in enumerate(zip(batch.columns, batch.rows[key][1], strict=True))
            if column.name not in table.key.names
        ]
        query = UPDATE.format(
            table=table.quoted,
            assignments=", ".join(assignments),
            index=table.key.index,
            key=table.key.among_literals([literals_of(batch.rows[key][0], table.key)]),
            condition=condition,
        )
        return self._refused(query, values)

    def _literal(self, batch: Batch, place: int, bound: Bound, values: dict[str, object], name: str) -> str:
        """Return SQL for the value of a column; add the value to `values`, or send it in pieces."""
        template, value = bound
        if batch.is_long and isinstance(value, bytes) and len(value) > LONGEST_INLINE:
            return template.format(value=self._in_pieces(place, value))
        values[name] = value
        return template.format(value=f"_binary %({name})s" if isinstance(value, bytes) else f"%({name})s")

    def _refused(self, query: str, values: Mapping[str, object]) -> str | None:
        """Run a statement that writes; return why the server refuses a row, or None."""
        try:
            self._db.change(query, values)
        except self._db.error as error:
            why = REFUSED.get(code_of(error) or 0)
            if why is None:
                raise
            return why
        return None

    def _in_pieces(self, number: int, value: bytes) -> str:
        """Send a value in pieces and return the variable that it is in then."""
        statement = BEGIN_VALUE
        for at in range(0, len(value), self._most_bytes):
            piece = value[at : at + self._most_bytes]
            self._db.change(statement.format(number=number), {"piece": piece})
            statement = ADD_TO_VALUE
        return f"@archived_{number}"

    def _altered(self, batch: Batch, inserted: Iterable[RowKey]) -> list[str]:
        """Return the columns in which rows were written with another value, once for each row."""
        differing = {} if self._dry_run else self._differing(batch, inserted)
        return [name for names in differing.values() for name in names]

    def _bind(self, value: Any, column: Column) -> Bound:
        if value is None:
            return "{value}", None
        return format_of(column, self.table.name).bind(value, self._charsets)
