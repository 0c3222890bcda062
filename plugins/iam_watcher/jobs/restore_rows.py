"""Puts archived rows back: the way back from a purge."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import JobArgumentError, TableError
from iam_watcher.jobs import archive, arguments
from iam_watcher.jobs.catalogue import read_table
from iam_watcher.jobs.column_format import format_of, format_of_type
from iam_watcher.jobs.operator import DatabaseOperator
from iam_watcher.jobs.row_archive import KIND
from iam_watcher.jobs.server_errors import code_of
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from airflow.sdk import Context

    from iam_watcher.jobs.archive import Row
    from iam_watcher.jobs.catalogue import Column, Table
    from iam_watcher.jobs.transaction import Transactions

logger = get_logger(__name__)

# A 0 in an AUTO_INCREMENT column is to stay a 0.
ZERO_STAYS = "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',NO_AUTO_VALUE_ON_ZERO')"

# Which of these rows are there.
THERE = "SELECT {key} FROM {table} WHERE {key} IN ({keys})"

INSERT = "INSERT INTO {table} ({columns}) VALUES {rows}"

REFUSED = {
    1062: "unique_key",
    1216: "foreign_key",
    1452: "foreign_key",
    3819: "check",
    4025: "check",
    1048: "does_not_fit",
    1264: "does_not_fit",
    1265: "does_not_fit",
    1292: "does_not_fit",
    1366: "does_not_fit",
    1406: "does_not_fit",
}
"""Error number → why the server refuses a row. It has then taken back the statement, not the transaction."""

MOST_ROWS, MOST_BYTES = 500, 1_000_000  # of one statement
MOST_EXAMPLES = 5


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
        skipped: reason → rows that were not. `exists`: a row of that key is there. Refused by the server:
            `unique_key` (another row has a value that must be unique), `foreign_key` (the row that it
            refers to is gone), `check`, `does_not_fit` (a column was changed meanwhile).
        lost: columns that the archive does not have; they get their default.
        examples: `{"key", "why"}` of a few rows that were refused.
    """

    table: str
    archive: str
    dry_run: bool
    rows: int = 0
    complete: bool = True
    restored: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**asdict(self), "skipped": dict(sorted(self.skipped.items()))}


class RestoreRowsOperator(DatabaseOperator):
    """Puts the rows of an archive back into their table.

    All checksums are verified before the first row is written. A row whose key is there is left as it is,
    so a second restore changes nothing. What the archive does not have (redacted columns) gets its
    default; if a column has none, nothing is restored.

    :param path: URL of the folder that the purge's report names, or its part behind `archive`. (templated)
    :param tables: names of the tables that may be written into.
    :param archive: the location below which `path` must lie; default: `[iam_watcher] archive`. (templated)
    :param dry_run: verify and count, write nothing. (templated)
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
        arguments.names("tables", tables)
        arguments.check_literal(arguments.location, "archive", archive)
        arguments.check_literal(arguments.flag, "dry_run", dry_run)

    def perform(self, context: Context) -> dict[str, Any]:  # noqa: ARG002  of the base
        """Verify, then restore; return the `Restored` as a dictionary."""
        dry_run = arguments.flag("dry_run", self.is_dry_run)
        url = arguments.below("path", self.path, archive.location_or_configured(self.archive))
        found = archive.find(url, kind=KIND)
        names = {str(written.manifest.get("table")) for written in found}
        if len(names) != 1 or not names <= set(self.tables):
            raise JobArgumentError(
                f"{url} has rows of {', '.join(sorted(names))}; expected one of {', '.join(self.tables)}, "
                "as the DAG file allows"
            )
        rows = archive.verify(found)
        logger.info("event=verified archive=%s rows=%d", url, rows)
        (name,) = names
        restored = Restored(name, url, dry_run, rows, all(written.complete for written in found))
        with self.transactions(fenced=not dry_run) as (_, db), _told(restored):
            table = read_table(db, name)
            for written in found:
                columns = _columns(table, written.manifest, restored)
                for part in written.newest_first():
                    for batch in _batches(part):
                        self._restore(db, table, columns, batch, restored)
        return restored.as_dict()

    def _restore(
        self, db: Transactions, table: Table, columns: list[Column], rows: list[Row], restored: Restored
    ) -> None:
        """Put a batch of rows back, in one transaction."""

        def batch() -> tuple[int, list[tuple[Any, str]]]:
            keys = [row[table.key.name] for row in rows]
            query = THERE.format(
                key=table.key.quoted, table=table.quoted, keys=",".join(str(int(key)) for key in keys)
            )
            there = {key for (key,) in db.read(query)}
            missing = [row for row in rows if row[table.key.name] not in there]
            refused: list[tuple[Any, str]] = []
            if missing and not restored.dry_run:
                db.change(ZERO_STAYS)
                refused = _insert(db, table, columns, missing)
            db.commit()
            return len(missing) - len(refused), refused

        what = f"INSERT on {table.name} from {restored.archive}"
        put, refused = db.run(batch, what=what, before_retry=lambda: None)
        restored.restored += put
        restored.skipped["exists"] += len(rows) - put - len(refused)
        restored.skipped.update(why for _, why in refused)
        room = MOST_EXAMPLES - len(restored.examples)
        restored.examples += [{"key": key, "why": why} for key, why in refused[:room]]


@contextmanager
def _told(restored: Restored) -> Iterator[None]:
    try:
        yield
    finally:
        restored.skipped = +restored.skipped
        logger.info("event=restored %s", " ".join(f"{k}={v!r}" for k, v in restored.as_dict().items()))


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


def _batches(rows: list[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        length = sum(len(str(value)) for value in row.values())
        if batch and (len(batch) == MOST_ROWS or size + length > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch


def _insert(db: Transactions, table: Table, columns: list[Column], rows: list[Row]) -> list[tuple[Any, str]]:
    """Insert rows; if the server refuses one, find it by halving. Return the keys of those, and why."""
    texts, values = [], {}
    for number, row in enumerate(rows):
        inserts = []
        for place, column in enumerate(columns):
            value, form = row[column.name], format_of(column, table.name)
            name = f"v{number}_{place}"
            values[name] = None if value is None else form.from_json(value)
            placeholder = f"%({name})s"
            inserts.append(placeholder if value is None else form.insert.format(value=placeholder))
        texts.append(f"({', '.join(inserts)})")
    query = INSERT.format(
        table=table.quoted, columns=", ".join(column.quoted for column in columns), rows=", ".join(texts)
    )
    try:
        db.change(query, values)
    except db.error as error:
        why = REFUSED.get(code_of(error) or 0)
        if why is None:
            raise
        if len(rows) == 1:
            return [(rows[0][table.key.name], why)]
        half = len(rows) // 2
        return _insert(db, table, columns, rows[:half]) + _insert(db, table, columns, rows[half:])
    return []
