"""Puts rows into an archive before the delete that removes them commits."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import ArchiveError, TableError
from iam_watcher.jobs.archive import pack
from iam_watcher.jobs.column_format import format_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from iam_watcher.jobs.archive import Archive, Packed
    from iam_watcher.jobs.catalogue import Column, Table
    from iam_watcher.jobs.rows import Rows
    from iam_watcher.jobs.transaction import Transactions

KIND = "rows"
REDACTED = ("secretKey", "password")

# The rows that are to be written: locked, so that they stay as they are read until they are.
LOCK = (
    "SELECT {columns}, {nulls} FROM {table} FORCE INDEX (PRIMARY)"
    " WHERE {key} IN ({keys}) AND ({predicate}) FOR UPDATE"
)

# A value that is longer than max_allowed_packet comes as NULL, with no more than a warning.
IS_NULL = "({column} IS NULL)"


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
        self._to_json = [form.to_json for form in formats]
        self._key_at = [column.name for column in columns].index(table.key.name)
        names = [json.dumps(column.name, ensure_ascii=False).replace("%", "%%") for column in columns]
        # json.dumps for each row would take as long as all the rest.
        self._line = "{" + ",".join(f"{name}:%s" for name in names) + "}\n"
        self._columns = ", ".join(
            form.select.format(column=column.quoted) for form, column in zip(formats, columns, strict=True)
        )
        self._nulls = " + ".join(IS_NULL.format(column=column.quoted) for column in columns)
        self._locked: dict[int, tuple[Any, ...]] = {}
        self._packer = ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._packed: Future[Packed]

    def lock(self, keys: Sequence[int]) -> list[int]:
        """Lock and read the rows of these keys that still match; return their keys, sorted."""
        rows = self._rows
        query = LOCK.format(
            columns=self._columns,
            nulls=self._nulls,
            table=rows.table,
            key=rows.key,
            keys=",".join(map(str, keys)),
            predicate=rows.predicate,
        )
        found = {row[self._key_at]: row for row in self._db.read(query, rows.values)}
        keys = sorted(found)
        self._locked = found
        self._packed = self._packer.submit(self._pack, found, keys)
        return keys

    def keep(self, keys: Sequence[int]) -> None:
        """Put rows that were locked into the archive."""
        packed = self._packed.result()
        if packed.rows != len(keys):
            packed = self._pack(self._locked, keys)
        self._archive.add(packed)

    def _pack(self, rows: Mapping[int, tuple[Any, ...]], keys: Sequence[int]) -> Packed:
        return pack([self._as_line(rows[key]) for key in keys])

    def _as_line(self, row: tuple[Any, ...]) -> bytes:
        *values, nulls = row
        if values.count(None) != nulls:
            raise ArchiveError(
                f"the row with the key {values[self._key_at]} of {self._rows.table} has a value over the "
                "server's max_allowed_packet; raise it, or leave the column out by redact"
            )
        texts = [
            "null" if value is None else to_json(value)
            for to_json, value in zip(self._to_json, values, strict=True)
        ]
        return (self._line % tuple(texts)).encode()
