"""Puts archived rows back: the way back from a purge."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.archive import reader as archive_reader
from iam_watcher.archive import writer as archive
from iam_watcher.archive.column_formats import format_of, format_of_type
from iam_watcher.archive.row_archive import KIND
from iam_watcher.archive.row_inserter import FOREIGN_KEY, Put, RowInserter
from iam_watcher.database.catalogue import read_table
from iam_watcher.errors import ArchiveDamaged, JobArgumentError, TableError
from iam_watcher.jobs.database_operator import DatabaseOperator
from iam_watcher.jobs.table_job.run_report import left_alone
from iam_watcher.log_lines import fact_lines, get_logger
from iam_watcher.walk.pace import ChunkSize

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from airflow.sdk import Context

    from iam_watcher.archive.reader import Row, Written
    from iam_watcher.archive.row_inserter import Batch
    from iam_watcher.database.catalogue import Column, Table
    from iam_watcher.database.transactions import Transactions

    Tries = Sequence[tuple[Iterator[Row], list[Column]]]

logger = get_logger(__name__)

ROWS_BETWEEN_SAFE_POINTS = 1_000
MOST_EXAMPLES = 5
MOST_ORPHANS = 10_000  # rows that are kept to be tried again


@dataclass
class Restored:
    """The result of a restore.

    Attributes:
        table: that was written into.
        archive: URL of the folder.
        dry_run: nothing was written; `restored` says what would have been, as far as that is known
            without trying.
        rows: in the archive; one that is in two parts, after a crash, counts twice.
        complete: whether every try of the archived run ended in order. If not, its last part could be
            missing without being missed.
        restored: rows that were put back.
        altered: column → restored rows in which the table has another value than the archive: a BEFORE
            INSERT trigger made it, or the column was changed meanwhile.
        unconfirmed: rows whose commit got no answer, and that exist now: it took place, or someone else
            inserted them meanwhile.
        skipped: reason → rows that were not. `exists`: a row of that key is there. Refused by the server:
            `unique_key` (another row has a value that must be unique), `foreign_key` (the row that it
            refers to is gone), `check`, `trigger`, `does_not_fit` (a column was changed meanwhile).
        lost: columns that the archive does not have; they get their default.
        examples: `{"key", "why"}` of a few rows that were refused.
    """

    table: str
    archive: str
    dry_run: bool
    rows: int = 0
    complete: bool = True
    restored: int = 0
    altered: Counter[str] = field(default_factory=Counter)
    unconfirmed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def take(self, put: Put) -> None:
        """Take over what a transaction has done."""
        self.restored += len(put.inserted)
        self.unconfirmed += len(put.unconfirmed)
        self.altered += put.altered
        self.skipped["exists"] += len(put.there)
        self.skipped.update(why for _, why in put.refused)
        room = MOST_EXAMPLES - len(self.examples)
        self.examples += [{"key": key, "why": why} for key, why in put.refused[:room]]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            **asdict(self),
            "altered": dict(sorted(self.altered.items())),
            "skipped": dict(sorted((+self.skipped).items())),
        }

    def as_lines(self) -> list[str]:
        """Return it as short log lines: a sentence, then facts."""
        would = "Dry run: {} would be" if self.dry_run else "{} were"
        rows = would.format(f"{self.restored:,} of {self.rows:,} rows of {self.table}")
        facts = {name: value for name, value in self.as_dict().items() if name != "examples"}
        return [f"{rows} restored{left_alone(+self.skipped)}", *fact_lines("restored", facts, self.examples)]


class RestoreRowsOperator(DatabaseOperator):
    """Puts the rows of an archive back into their table.

    The archive is verified before the first row is written. A row whose key is there is left as it is, so a
    second restore changes nothing. What the archive does not have (redacted columns) gets its default; if
    a column has none, nothing is restored. Each row that was inserted is read again and compared.

    :param path: URL of the folder that the purge's report names, or its part behind `archive`. (templated)
    :param tables: names of the tables that may be written into.
    :param archive: the location below which `path` must lie; default: `[iam_watcher] archive`. (templated)
    :param dry_run: verify and count, write nothing. (templated)
    :param pace: "fast" (transactions of 0.1 s), "polite" (25 ms, and as long a rest) or a `Pace`.
    :param throttle: when the restore waits for the server.
    :param mysql_conn_id: Airflow connection of the database. Its account needs INSERT on the table.
    """

    template_fields: Sequence[str] = ("path", "archive", "is_dry_run")

    def __init__(
        self,
        *,
        path: str,
        tables: Collection[str],
        archive: str | None = None,
        dry_run: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.tables = tables
        self.archive = archive
        self.is_dry_run = dry_run
        arguments.check_literal(arguments.text, "path", path)
        arguments.listed_names("tables", tables)
        arguments.check_literal(arguments.location, "archive", archive)
        arguments.check_literal(arguments.flag, "dry_run", dry_run)

    def perform(self, context: Context) -> dict[str, Any]:  # noqa: ARG002  of the base
        """Verify, then restore; return the `Restored` as a dictionary."""
        dry_run = arguments.flag("dry_run", self.is_dry_run)
        location = archive.location_or_configured(self.archive)
        url = arguments.below("path", self.path, location)
        logger.info("Verifying the archive %s", url)
        found = archive_reader.find(url, kind=KIND, below=location)
        names = {str(written.manifest["table"]) for written in found}
        if len(names) != 1 or not names <= set(self.tables):
            raise JobArgumentError(
                f"{url} has rows of {', '.join(sorted(names))}; expected one of {', '.join(self.tables)}, "
                "as the DAG file allows"
            )
        rows = sum(archive_reader.verify([written], self._checking(written)) for written in found)
        logger.info("event=verified archive=%s rows=%d", url, rows)
        (name,) = names
        restored = Restored(name, url, dry_run, rows, all(written.complete for written in found))
        with self.transactions(locked=not dry_run) as (_, db), _told(restored):
            table = read_table(db, name)
            columns = [_columns(table, written.manifest, restored) for written in found]
            restoring = RowInserter(db, table, dry_run=dry_run)
            try:
                tries = [(written.rows(), kept) for written, kept in zip(found, columns, strict=True)]
                self._restore(db, restoring, tries, restored)
            finally:
                restored.unconfirmed += len(restoring.unanswered)
        return restored.as_dict()

    def _restore(self, db: Transactions, restoring: RowInserter, tries: Tries, restored: Restored) -> None:
        """Restore batch by batch, as the throttle and the pace allow.

        A row may refer to a row of the same table that comes later: such rows are tried again until that
        helps no more.
        """
        size = ChunkSize(self.paced.target)
        what = f"INSERT on {restored.table} from {restored.archive}"
        orphans: list[Batch] = []

        def restore(batch: Batch) -> None:
            throttler.wait()
            began = time.monotonic()
            put = restoring.put(batch, what)
            seconds = time.monotonic() - began
            if sum(len(one.rows) for one in orphans) < MOST_ORPHANS and not batch.is_long:
                orphans.append(restoring.orphans(batch, put))
            restored.take(put)
            size.wrote(len(batch.rows), seconds)
            db.sleep(self.paced.rest(seconds))

        with self.throttling(db, restored.table) as throttler:
            try:
                for rows, columns in tries:
                    for batch in restoring.batches(rows, columns, size):
                        restore(batch)
                before = -1
                while restored.restored > before and any(one.rows for one in orphans):
                    before = restored.restored
                    again, orphans[:] = [one for one in reversed(orphans) if one.rows], []
                    for batch in again:
                        restore(batch)
            finally:
                restored.take(Put(refused=[(key, FOREIGN_KEY) for one in orphans for key in one.rows]))

    def _checking(self, written: Written) -> Callable[[Row], None]:
        """Return what checks a row of an archive, and listens now and then whether to stop."""
        formats = {name: format_of_type(data_type) for name, data_type in _kept(written).items()}
        key, rows = written.manifest["key"], count()

        def check(row: Row) -> None:
            if next(rows) % ROWS_BETWEEN_SAFE_POINTS == 0:
                self._safe_point()
            if row.keys() != formats.keys() or not isinstance(row[key], int):
                raise ArchiveDamaged(
                    f"{written.folder.url} has a row with {', '.join(row) or 'nothing'}; expected "
                    f"{', '.join(formats)}, as its manifest has them, and a whole number as {key}"
                )
            for name, form in formats.items():
                if form is not None and row[name] is not None:
                    form.bind(row[name])

        return check


@contextmanager
def _told(restored: Restored) -> Iterator[None]:
    try:
        yield
    finally:
        if restored.altered:
            logger.warning(
                "Restored rows of %s differ from the archive, because of a BEFORE INSERT trigger or a "
                "changed column: %s",
                restored.table,
                ", ".join(f"{name} ({rows} rows)" for name, rows in sorted(restored.altered.items())),
            )
        for line in restored.as_lines():
            logger.info("%s", line)


def _columns(table: Table, manifest: Mapping[str, Any], restored: Restored) -> list[Column]:
    """Return the columns to be written.

    Raises:
        TableError: the archived rows don't fit into the table any more, or a column that can't be empty
            was left out of the archive.
    """
    archived: Mapping[str, str] = manifest["columns"]
    if manifest["key"] != table.key.name:
        raise TableError(
            f"{table.name} has the primary key {table.key.name}; the archive has {manifest['key']}"
        )
    columns = [table.column(name) for name in archived]
    for column in columns:
        was, form = format_of_type(archived[column.name]), format_of(column, table.name)
        if column.generated or was is None or was.name != form.name:
            now = "computed from others" if column.generated else column.data_type
            raise TableError(
                f"column {column.name!r} of {table.name} is {now}; in the archive it is "
                f"{archived[column.name]}. Restore into a table as it was"
            )
    absent = [c for c in table.columns.values() if c.name not in archived and not c.generated]
    needed = [column.name for column in absent if not (column.nullable or column.has_default)]
    if needed:
        raise TableError(
            f"{table.name} can't be restored: {', '.join(needed)} must not be empty, and the archive does "
            f"not have it (left out: {', '.join(manifest.get('redacted', ())) or 'nothing'})"
        )
    restored.lost = [column.name for column in absent]
    return columns


def _kept(written: Written) -> Mapping[str, str]:
    """Return column → data type.

    Raises:
        ArchiveDamaged: the key is not among them.
    """
    columns: Mapping[str, str] = written.manifest.get("columns", {})
    if written.manifest["key"] not in columns:
        raise ArchiveDamaged(
            f"{written.folder.url} has the columns {', '.join(columns) or '(none)'}; expected "
            f"{written.manifest['key']}, the primary key, among them"
        )
    return columns
