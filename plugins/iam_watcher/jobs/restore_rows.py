"""Restores archived rows: it undoes a purge.

The tables of an archive are restored in one run, which counts what it did in all of them: hence the length.
"""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.archive import reader as archive_reader
from iam_watcher.archive.circle_inserter import CircleInserter, connected, insert_circles
from iam_watcher.archive.column_formats import format_of_type
from iam_watcher.archive.format import ArchiveKind
from iam_watcher.archive.manifest import archived_types, columns_to_write, hashed, key_names, set_to
from iam_watcher.archive.replaced_rows import ReplacedRows
from iam_watcher.archive.row_inserter import FOREIGN_KEY, REPLACED, UNIQUE_KEY, Put, RowInserter
from iam_watcher.archive.row_updater import RowUpdater
from iam_watcher.database.catalogue import read_table
from iam_watcher.database.column import INTEGERS
from iam_watcher.errors import ArchiveDamaged, JobArgumentError, TableError
from iam_watcher.jobs.restore_report import RestoreReport
from iam_watcher.jobs.table_job.side_effects import warn_of_triggers
from iam_watcher.jobs.undo_operator import UndoOperator
from iam_watcher.log_lines import get_logger
from iam_watcher.walk.pace import ChunkSize

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from airflow.sdk import Context

    from iam_watcher.archive.reader import ArchivedTry, Row
    from iam_watcher.archive.row_comparison import Batch
    from iam_watcher.archive.row_inserter import Tries
    from iam_watcher.archive.row_keys import RowKey
    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

ROWS_BETWEEN_SAFE_POINTS = 1_000
MOST_ORPHANS = 10_000  # rows that are kept to be tried again
OUSTED = (UNIQUE_KEY, REPLACED)  # refused because of another row


class RestoreRowsOperator(UndoOperator):
    """Restores the rows of an archive into their table: deleted rows, or the old values of changed rows.

    The job verifies the archive before it writes the first row. It restores a deleted row only if no row of
    the table has its key. It restores the old values of a changed row only if the row is as the run left it.
    So a second restore changes nothing. A column that the archive does not have (see `redact`) gets its
    default; if such a column has no default, the job restores nothing. The job reads each restored row again
    and compares it with the archive. Rows of child tables that were deleted with the rows are restored after
    them, except where another row now has the key or a unique value of their parent. The database account
    needs INSERT on each table, or UPDATE on the changed columns. It needs both for rows that refer to each
    other in a circle.

    It also takes the arguments of `UndoOperator`: `location`, `from_database`; and of `DatabaseOperator`:
    `mysql_conn_id`, `pace`, `throttle`, `dry_run`.

    :param path: URL of the folder of the archive, as the run report of the purge names it, or the part of the
        URL that follows `location`. (templated)
    :param tables: names of the tables into which the job may write, also the child tables.
    """

    template_fields: Sequence[str] = ("path", *UndoOperator.template_fields)

    def __init__(self, *, path: str, tables: Collection[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.tables = tables
        arguments.check_literal(arguments.text, "path", path)
        arguments.listed_names("tables", tables)

    def perform(self, context: Context) -> dict[str, Any]:
        """Verify the archive, then restore its rows; return the run report as a dictionary."""
        dry_run = arguments.flag("dry_run", self.is_dry_run)
        url, location = self.below_location("path", self.path)
        logger.info("Verifying the archive %s", url)
        found = archive_reader.find(
            url, kind=(ArchiveKind.DELETED_ROWS, ArchiveKind.CHANGED_ROWS), below=location
        )
        names = {str(written.manifest["table"]) for written in found}
        below: dict[str, list[ArchivedTry]] = {}
        for written in found:
            for table, child in archive_reader.find_children(written, below=location).items():
                below.setdefault(table, []).append(child)
        if len(names) != 1 or not {*names, *below} <= set(self.tables):
            raise JobArgumentError(
                f"{url} has rows of {', '.join([*sorted(names), *below])}; expected "
                f"{'those of' if below else 'one of'} {', '.join(self.tables)}, as the DAG file allows"
            )
        (name,) = names
        tables = {name: found, **{table: below[table] for table in _in_order(found) if table in below}}
        rows = {
            table: sum(archive_reader.verify([written], self._checking(written)) for written in tries)
            for table, tries in tables.items()
        }
        logger.info("event=verified archive=%s rows=%d", url, sum(rows.values()))
        complete = all(written.complete for tries in tables.values() for written in tries)
        top, *others = (
            RestoreReport(table, dry_run, archive=url, rows=rows[table], complete=complete)
            for table in tables
        )
        with top.reported(context), self.transactions(locked=not dry_run) as (_, db):
            try:
                replaced = (
                    ReplacedRows(db, tables, [written.manifest for written in found]) if others else None
                )
                # All of them before the first row is written.
                todo = [
                    (restored, self._looked_at(db, tries, restored, replaced))
                    for restored, tries in zip([top, *others], tables.values(), strict=True)
                ]
                waiting: list[tuple[RestoreReport, list[Batch]]] = []
                try:
                    for restored, each in todo:
                        waiting.append((restored, []))
                        for restoring, tries in each:
                            try:
                                changed = self._restore(db, restoring, tries, restored, waiting[-1][1])
                            finally:
                                restored.unconfirmed += len(restoring.unanswered)
                            if replaced is not None and changed:
                                missing = restoring.missing(changed, tries, ChunkSize(self.paced.target))
                                replaced.add(restored.table, changed, missing)
                    if not isinstance(todo[0][1][0][0], RowUpdater):
                        self._restore_circles(db, waiting)
                finally:
                    for restored, batches in waiting:
                        refused = [(key, FOREIGN_KEY) for batch in batches for key in batch.rows]
                        restored.take(Put(refused=refused))
                        _warn_of_altered(restored)
            finally:
                top.retries = db.retries
                top.children = {one.table: one.as_dict() for one in others}
                if left_out := "; ".join(filter(None, (one.refused() for one in [top, *others]))):
                    logger.warning("The restore leaves rows of the archive out. %s", left_out)
        return top.as_dict()

    def _looked_at(
        self,
        db: Transactions,
        found: Sequence[ArchivedTry],
        restored: RestoreReport,
        replaced: ReplacedRows | None,
    ) -> list[tuple[RowInserter, Tries]]:
        """Compare the archive with its table; return what restores the tries into it."""
        table, dry_run = read_table(db, restored.table), restored.dry_run
        self.check_databases(restored.archive, [written.manifest for written in found], table.database)
        columns = []
        for written in found:
            to_write, restored.lost = columns_to_write(table, written.manifest)
            columns.append(to_write)
        tries = list(zip(found, columns, strict=True))
        inserts = found[0].manifest["kind"] == ArchiveKind.DELETED_ROWS
        warn_of_triggers(db, table.name, "INSERT" if inserts else "UPDATE")
        if inserts:
            return [(RowInserter(db, table, dry_run=dry_run, replaced=replaced), tries)]
        # Each try set its own time: only its own rows are as it left them.
        updaters = [
            RowUpdater(db, table, set_to(written), hashed(written), dry_run=dry_run) for written in found
        ]
        return [(updater, [rows]) for updater, rows in zip(updaters, tries, strict=True)]

    def _restore_circles(
        self, db: Transactions, waiting: Sequence[tuple[RestoreReport, list[Batch]]]
    ) -> None:
        """Restore rows that wait for each other, such as an order that refers to its last line."""
        left = [(restored, batches) for restored, batches in waiting if batches]
        names = [restored.table for restored, _ in waiting]
        tables = [
            CircleInserter(db, read_table(db, restored.table), batches, names) for restored, batches in left
        ]
        if not any(one.later for one in tables):
            return  # What they refer to is gone.
        what = f"INSERT on {', '.join(one.table.name for one in tables)} from {left[0][0].archive}"
        with self.throttling(db, tables[0].table.name) as throttler:
            for part in connected(tables):
                throttler.wait()
                began = time.monotonic()
                try:
                    done = insert_circles(db, part, what)
                except TableError as error:  # They are counted as rows without what they refer to.
                    logger.warning(
                        "Rows that may refer to each other in a circle were not restored: %s", error
                    )
                    return
                finally:
                    for (restored, _), table in zip(left, part, strict=True):
                        restored.unconfirmed += len(table.unanswered)
                for (restored, batches), table, put in zip(left, part, done, strict=True):
                    restored.take(put)
                    keys = {key for key, _ in table.rows()}
                    batches[:] = [batch.without(keys) for batch in batches]
                db.sleep(self.paced.rest(time.monotonic() - began))

    def _restore(
        self,
        db: Transactions,
        restoring: RowInserter,
        tries: Tries,
        restored: RestoreReport,
        waiting: list[Batch],
    ) -> set[RowKey]:
        """Restore batch by batch, as the throttle and the pace allow.

        A row may refer to a row of the same table that comes later: such rows are tried again until that
        helps no more. Those that wait for rows of other tables are added to `waiting`.

        Returns:
            the keys of the rows whose place another row may have.
        """
        displaced: set[RowKey] = set()
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
            displaced.update(put.unlike, (key for key, why in put.refused if why in OUSTED))
            size.wrote(len(batch.rows), seconds)
            db.sleep(self.paced.rest(seconds))

        with self.throttling(db, restored.table) as throttler:
            try:
                for written, columns in tries:
                    for batch in restoring.batches(written.rows(), columns, size):
                        restore(batch)
                before = -1
                while restored.restored > before and any(one.rows for one in orphans):
                    before = restored.restored
                    again, orphans[:] = [one for one in reversed(orphans) if one.rows], []
                    for batch in again:
                        restore(batch)
            finally:
                waiting += [one for one in orphans if one.rows]
        return displaced

    def _checking(self, written: ArchivedTry) -> Callable[[Row], None]:
        """Return what checks a row of an archive, and reaches a safe point now and then."""
        kept, key, rows = archived_types(written), key_names(written.manifest), count()
        formats = {name: format_of_type(data_type) for name, data_type in kept.items()}
        integers = [name for name in key if kept[name] in INTEGERS]
        needed = " and ".join(
            f"a {'whole number' if name in integers else 'value'} as {name}" for name in key
        )

        def check(row: Row) -> None:
            if next(rows) % ROWS_BETWEEN_SAFE_POINTS == 0:
                self._safe_point()
            fits = row.keys() == formats.keys() and None not in [row[name] for name in key]
            if not fits or not all(isinstance(row[name], int) for name in integers):
                raise ArchiveDamaged(
                    f"{written.folder.url} has a row with {', '.join(row) or 'nothing'}; expected "
                    f"{', '.join(formats)}, as its manifest has them, and {needed}"
                )
            for name, form in formats.items():
                if form is not None and row[name] is not None:
                    form.bind(row[name])

        return check


def _in_order(found: Sequence[ArchivedTry]) -> list[str]:
    """Return the child tables in an order in which their rows can be restored: the one of the last try."""
    return list(dict.fromkeys(table for written in found for table in written.manifest.get("children", [])))


def _warn_of_altered(restored: RestoreReport) -> None:
    if restored.altered:
        logger.warning(
            "Restored rows of %s differ from the archive, because of a BEFORE INSERT trigger or a "
            "changed column: %s",
            restored.table,
            ", ".join(f"{name} ({rows} rows)" for name, rows in sorted(restored.altered.items())),
        )
