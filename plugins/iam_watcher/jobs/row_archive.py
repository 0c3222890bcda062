"""Puts rows into an archive before the delete that removes them commits."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from msgspec.json import Encoder

from iam_watcher.errors import ArchiveError, TableError
from iam_watcher.jobs.archive import Packed, compress, compressor
from iam_watcher.jobs.column_format import format_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from iam_watcher.jobs.archive import Archive
    from iam_watcher.jobs.catalogue import Column, Table
    from iam_watcher.jobs.rows import Rows
    from iam_watcher.jobs.transaction import Transactions

    Row = tuple[Any, ...]

KIND = "rows"

# The rows that are to be written: locked, so that they stay as they are read until they are.
LOCK = (
    "SELECT {columns} FROM {table} FORCE INDEX (PRIMARY) WHERE {key} IN ({keys}) AND ({predicate}) FOR UPDATE"
)

# A value that is longer than max_allowed_packet comes as NULL, with no more than a warning.
IS_NULL = "({column} IS NULL)"

VERSION = "SELECT VERSION()"

# Fails if the account may not read each column: those that it may not read are hidden from it.
ALL_COLUMNS = "SELECT * FROM {table} WHERE FALSE"

ENCODER = Encoder()  # the standard library's would take as long as all the rest
MOST_AHEAD = 8  # batches that wait to be packed


def kept_columns(table: Table, redact: Collection[str]) -> list[Column]:
    """Return the columns that an archive of this table has.

    Args:
        table: to be archived.
        redact: names of columns to leave out, upper and lower case alike.

    Raises:
        TableError: the key is among them, or the type of another column is unknown.
    """
    left_out = {name.lower() for name in redact}
    if table.key.name.lower() in left_out:
        raise TableError(f"redact names {table.key.name!r}, the primary key of {table.name}; keep it")
    columns = [
        column
        for column in table.columns.values()
        if column.name.lower() not in left_out and not column.generated
    ]
    for column in columns:
        format_of(column, table.name)
    return columns


class RowArchive:
    """Locks and reads rows, and keeps those that are deleted.

    A thread packs the rows while the server deletes them: that is half of what an archive costs.

    Args:
        db: the transactions that delete.
        rows: to be deleted.
        table: of the rows.
        columns: to be kept, the key among them.
        archive: where.
    """

    def __init__(
        self, db: Transactions, rows: Rows, table: Table, columns: Sequence[Column], archive: Archive
    ) -> None:
        self._db = db
        self._rows = rows
        self._archive = archive
        formats = [format_of(column, table.name) for column in columns]
        self._convert = [(column.name, form.read) for column, form in zip(columns, formats, strict=True)]
        self._key_at = [column.name for column in columns].index(table.key.name)
        # The last one tells how many of the others are NULL.
        self._selected = ", ".join(
            form.select.format(column=column.quoted) for form, column in zip(formats, columns, strict=True)
        )
        self._selected += ", " + " + ".join(IS_NULL.format(column=column.quoted) for column in columns)
        self._locked: dict[int, Row] = {}
        self._packer = ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._packed: Future[Packed]

    def lock(self, keys: Sequence[int]) -> list[int]:
        """Lock and read the rows of these keys that still match; return their keys, sorted."""
        rows = self._rows
        query = LOCK.format(
            columns=self._selected,
            table=rows.table,
            key=rows.key,
            keys=",".join(map(str, keys)),
            predicate=rows.predicate,
        )
        found = {row[self._key_at]: row for row in self._db.read(query, rows.values)}
        keys = sorted(found)
        self._locked = found
        self._packed = self._packer.submit(self._pack, [found[key] for key in keys])
        return keys

    def keep(self, keys: Sequence[int]) -> None:
        """Put rows that were locked into the archive."""
        packed = self._packed.result()
        if packed.rows != len(keys):
            packed = self._pack([self._locked[key] for key in keys])
        self._archive.add(packed)

    def _pack(self, rows: Sequence[Row]) -> Packed:
        return Packed(len(rows), compress([self._as_lines(rows)]))

    def _as_lines(self, rows: Sequence[Row]) -> bytes:
        records = []
        for row in rows:
            if row.count(None) != row[-1]:
                raise ArchiveError(
                    f"the row with the key {row[self._key_at]} of {self._rows.table} has a value over the "
                    "server's max_allowed_packet; raise it, or leave the column out by redact"
                )
            records.append({
                name: value if read is None or value is None else read(value)
                for (name, read), value in zip(self._convert, row, strict=False)
            })  # fmt: skip
        return ENCODER.encode_lines(records)


class ReturnedRows(RowArchive):
    """The same on MariaDB, whose DELETE returns what it deletes: no second read, and no waiting for it.

    The rows are packed as they come over the line, while the server goes on to delete.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.returning = self._selected
        self._taken: list[Packed] = []

    def lock(self, keys: Sequence[int]) -> list[int]:
        """Begin a transaction; the statement itself locks."""
        self._taken = []
        return list(keys)

    def take(self, batches: Iterable[Sequence[Row]]) -> int:
        """Take the rows that a statement deletes, and return how many; none, if it fails on the way."""
        count = 0
        gzip = compressor()
        ahead: deque[Future[bytes]] = deque()
        packed = []
        for batch in batches:
            count += len(batch)
            ahead.append(self._packer.submit(lambda rows: gzip.compress(self._as_lines(rows)), batch))
            if len(ahead) > MOST_AHEAD:
                packed.append(ahead.popleft().result())
        packed += [future.result() for future in ahead]
        self._taken.append(Packed(count, b"".join((*packed, gzip.flush()))))
        return count

    def keep(self, keys: Sequence[int]) -> None:  # noqa: ARG002  what was returned was deleted
        """Put what was taken into the archive."""
        rows = sum(taken.rows for taken in self._taken)
        if rows:
            self._archive.add(Packed(rows, b"".join(taken.data for taken in self._taken if taken.rows)))


def row_archive(
    db: Transactions, rows: Rows, table: Table, columns: Sequence[Column], archive: Archive
) -> RowArchive:
    """Return what archives rows on this server; for the arguments see `RowArchive`.

    Raises:
        TableError: the account may not read all columns.
    """

    def look() -> str:
        db.read(ALL_COLUMNS.format(table=rows.table))
        ((version,),) = db.read(VERSION)
        db.commit()
        return str(version)

    version = db.run(look, what=f"SELECT on {rows.table}, all columns", before_retry=lambda: None)
    kind = ReturnedRows if "MariaDB" in version else RowArchive
    return kind(db, rows, table, columns, archive)
