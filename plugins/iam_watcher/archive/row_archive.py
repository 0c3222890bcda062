"""Puts rows into an archive before the delete that removes them commits."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from msgspec.json import Encoder

from iam_watcher.archive.column_formats import format_of
from iam_watcher.archive.refusals import NO_REFUSAL, refusals
from iam_watcher.archive.writer import Packed
from iam_watcher.database.catalogue import hidden_columns
from iam_watcher.database.checks import VERSION
from iam_watcher.errors import ArchiveError, TableError
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from iam_watcher.archive.refusals import Refusals
    from iam_watcher.archive.writer import Archive, PartBuffer
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.key import KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.row_change import RowChange

    Row = tuple[Any, ...]
    Convert = Sequence[tuple[str, Callable[[bytes], Any] | None]]

logger = get_logger(__name__)

# Reads the rows that are to be written, and locks them, so that nobody changes them before the write.
LOCK = (
    "SELECT {columns}, {selected} FROM {table} FORCE INDEX ({index})"
    " WHERE {keys} AND ({predicate}) FOR UPDATE"
)

REHEARSAL = "SELECT {refusal} FROM {table} WHERE FALSE"

WHY = {
    "archive_too_large": "{name} has values of max_allowed_packet or more; raise it, or redact the column",
    "archive_json_type": "{name} has JSON values of SQL types such as DECIMAL, DATETIME or BLOB",
    "archive_check": "they break the CHECK constraint {name}, so the server would refuse them",
}

# A value that is longer than max_allowed_packet comes as NULL, with no more than a warning.
IS_NULL = "({column} IS NULL)"


# Fails if the account may not read each column: those that it may not read are hidden from it.
ALL_COLUMNS = "SELECT * FROM {table} WHERE FALSE"

ENCODER = Encoder()  # the standard library's would take as long as all the rest


def kept_columns(table: Table, redact: Collection[str]) -> list[Column]:
    """Return the columns that an archive of this table has.

    Args:
        table: to be archived.
        redact: names of columns to leave out, upper and lower case alike.

    Raises:
        TableError: a column of the key is among them or is generated, or the type of another is unknown.
    """
    left_out = {name.lower() for name in redact}
    for name in table.key.names:
        if name.lower() in left_out:
            raise TableError(f"redact names {name!r}, of the key of {table.name}; keep it")
        if table.columns[name].generated:
            raise TableError(
                f"{name!r}, of the key of {table.name}, is computed from other columns; an archive can't "
                "restore such rows. Set archive=None to delete them without one"
            )
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
        refusals: which rows stay because the archive could not bring them back.

    Attributes:
        refused: reason → rows of the last `lock` that stay.
    """

    def __init__(  # noqa: PLR0917  row_archive makes them
        self,
        db: Transactions,
        rows: RowChange,
        table: Table,
        columns: Sequence[Column],
        archive: Archive | PartBuffer,
        refusals: Refusals,
    ) -> None:
        self.refused = Counter[str]()
        self._db = db
        self._rows = rows
        self._archive = archive
        self._refusals = refusals
        self._warned: set[int] = set()
        formats = [format_of(column, table.name) for column in columns]
        careful = [form.reading(column) for column, form in zip(columns, formats, strict=True)]
        quick = [bytes.decode if form.is_utf8 else read for form, read in zip(formats, careful, strict=True)]
        names = [column.name for column in columns]
        self._quick, self._careful = (
            list(zip(names, quick, strict=True)),
            list(zip(names, careful, strict=True)),
        )
        # Behind the columns: why the row must stay, how many of them are NULL, the key as the walk has it.
        self._refusal_at = len(names)
        self._selected = ", ".join((
            *(form.selected(column) for form, column in zip(formats, columns, strict=True)),
            refusals.sql or str(NO_REFUSAL),
            " + ".join(IS_NULL.format(column=column.quoted) for column in columns),
        ))  # fmt: skip
        self._locked: dict[KeyValue, Row] = {}
        self._packer = ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._packed: Future[Packed]

    @property
    def refusal(self) -> str | None:
        """SQL for the rows that an archive could not bring back; None if there can be none."""
        sql = self._refusals.sql
        return None if sql is None else f"({sql}) <> {NO_REFUSAL}"

    def lock(self, keys: Sequence[KeyValue]) -> list[KeyValue]:
        """Lock and read the rows of these keys that still match; return those to be deleted, in order."""
        rows, key = self._rows, self._rows.key
        query = LOCK.format(
            columns=self._selected,
            selected=key.selected,
            table=rows.table,
            index=key.index,
            keys=key.among(keys),
            predicate=rows.predicate,
        )
        at = self._refusal_at
        found = {key.take(row[at + 2 :]): row for row in self._db.read(query, rows.values)}
        self._refuse((key, row[at]) for key, row in found.items())
        # If the text of a key was changed meanwhile, such as to capitals, it is another key here. Its row is
        # left for the next run.
        keys = [key for key in keys if key in found and found[key][at] == NO_REFUSAL]
        self._locked = found
        self._packed = self._packer.submit(self._pack, [found[key] for key in keys])
        return keys

    def record(self, keys: Sequence[KeyValue]) -> None:
        """Put rows that were locked into the archive."""
        packed = self._packed.result()
        if packed.rows != len(keys):
            packed = self._pack([self._locked[key] for key in keys])
        self._archive.add(packed)

    def _refuse(self, found: Iterable[tuple[KeyValue, int]]) -> None:
        """Count the rows that must stay, given by key and number of the reason; say so once a reason."""
        self.refused = Counter()
        for key, number in found:
            if number == NO_REFUSAL:
                continue
            reason, name = self._refusals.reasons[number]
            self.refused[reason] += 1
            if number not in self._warned:
                self._warned.add(number)
                logger.warning(
                    "Rows of %s stay as they are, because an archive can't restore them: %s. The first has "
                    "the key %s. skipped=%s",
                    self._rows.table,
                    WHY[reason].format(name=name),
                    self._rows.key.shown(key),
                    reason,
                )

    def _key_of(self, row: Row) -> Any:
        key = self._rows.key
        return key.shown(key.take(row[self._refusal_at + 2 :]))

    def _pack(self, rows: Sequence[Row]) -> Packed:
        return Packed.of(len(rows), [self._as_lines(rows)])

    def _as_lines(self, rows: Sequence[Row]) -> bytes:
        for row in rows:
            if row.count(None) != row[self._refusal_at + 1]:
                raise ArchiveError(
                    f"the row with the key {self._key_of(row)} of {self._rows.table} has a value that the "
                    "server gives as NULL because it is over max_allowed_packet; raise that, or name the "
                    "column in redact"
                )
        try:
            records = [_record(row, self._quick) for row in rows]
        except UnicodeDecodeError:
            records = [_record(row, self._careful) for row in rows]
        return ENCODER.encode_lines(records)


def _record(row: Row, convert: Convert) -> dict[str, Any]:
    return {
        name: value if read is None or value is None else read(value)
        for (name, read), value in zip(convert, row, strict=False)
    }


def row_archive(
    db: Transactions, rows: RowChange, table: Table, columns: Sequence[Column], archive: Archive | PartBuffer
) -> RowArchive:
    """Return what archives rows; for the arguments see `RowArchive`.

    Raises:
        TableError: the account may not read all columns.
    """

    def look() -> Refusals:
        db.read(ALL_COLUMNS.format(table=rows.table))
        if hidden := hidden_columns(db, table):
            raise TableError(
                f"the account may not read {', '.join(hidden)} of {table.name}, so the archive would "
                "not have it; grant SELECT on the whole table"
            )
        ((version,),) = db.read(VERSION)
        why = refusals(db, table, columns, is_mariadb="MariaDB" in version)
        if why.sql is not None:
            db.read(REHEARSAL.format(refusal=why.sql, table=rows.table))
        db.commit()
        return why

    why = db.run(look, what=f"SELECT on {rows.table}, all columns")
    return RowArchive(db, rows, table, columns, archive, why)
