"""Takes a partition out of a table, as a table of its own, and drops both when its rows are done.

The steps, each of which leaves every row somewhere:
1. CREATE the detached table, empty. Its comment names the partition.
2. EXCHANGE: the detached table has the rows, and the partition is empty. Nobody else writes to the detached
   table, so its rows can be checked and archived in peace. New rows still find their partition.
3. DROP the detached table, when all of its rows are checked and archived. Or EXCHANGE back.
4. DROP PARTITION, if the partition is still empty: under a lock, so that no row comes between.
After a crash the next run finds the detached table by its name and goes on there. All steps are in one class,
so that one reader can check that none of them loses a row: hence the length.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import TYPE_CHECKING, TypeVar

from iam_watcher.database.catalogue import DEFINITION
from iam_watcher.database.column import quoted
from iam_watcher.database.partitions import read_partitions
from iam_watcher.database.server_errors import NOT_EXCHANGEABLE, code_of
from iam_watcher.database.table_lock import explained
from iam_watcher.errors import TableError, WalkError
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from iam_watcher.database.table_lock import TableLock
    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

FIND = (
    "SELECT TABLE_COMMENT FROM information_schema.TABLES"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s"
)
HAS_ROWS = "SELECT 1 FROM {rows} LIMIT 1"

# MariaDB's limit of 5 s for a statement is not for these: they end as a whole or not at all.
WHOLE = "/*M! SET STATEMENT max_statement_time = 0 FOR */ "
EXCHANGE = WHOLE + "ALTER TABLE {table} EXCHANGE PARTITION {partition} WITH TABLE {detached}"
DROP_PARTITION = WHOLE + "ALTER TABLE {table} DROP PARTITION {partition}"
DROP = WHOLE + "DROP TABLE {detached}"

# Otherwise the server may know the rows of the table from before the exchange, and read all of them for each
# chunk.
ANALYZE = "ANALYZE NO_WRITE_TO_BINLOG TABLE {detached}"

# Between the sessions of two jobs that work on the partitions of one table.
MINE = "SELECT COALESCE(IS_USED_LOCK(%(name)s) = CONNECTION_ID(), 0)"
TAKE, RELEASE = "SELECT GET_LOCK(%(name)s, 5)", "DO RELEASE_LOCK(%(name)s)"

COMMENT = (
    "iam-watcher {token}: the rows of partition {partition} of {table}; the next purge goes on with them"
)
_COMMENT = re.compile(
    r"iam-watcher ([0-9a-f]{32}): the rows of partition (.*) of .*; the next purge .*", re.DOTALL
)

# As SHOW CREATE TABLE has it: within names and texts, a new line is written as \n.
_PARTITION_BY = re.compile(r"\n ?(?:/\*!\d+ )?PARTITION BY ")
_CHECK_NAME = re.compile(r"^  CONSTRAINT `(?:[^`]|``)*` CHECK ", re.MULTILINE)

MOST_NAME = 40  # characters of 64

Result = TypeVar("Result")


def detached_name(table: str) -> str:
    """Return the name of the table that the partitions of a table are detached as."""
    return f"{table[:MOST_NAME]}_detached_{hashlib.sha256(table.encode()).hexdigest()[:8]}"


def left_behind(db: Transactions, table: str) -> str | None:
    """Return the partition whose rows a run has left detached; None if there are no such rows."""
    found = db.read(FIND, {"table": detached_name(table)})
    db.commit()
    match = _COMMENT.fullmatch(found[0][0]) if found else None
    return match[2] if match else None


class DetachedTable:
    """The table that a partition's rows are detached as; there is one for each partitioned table.

    Args:
        db: the transactions.
        database: the name of the database.
        table: name of the partitioned table.
        locks: locks both.

    Attributes:
        name: of the detached table.
    """

    def __init__(self, db: Transactions, database: str, table: str, locks: TableLock) -> None:
        self.name = detached_name(table)
        self._db = db
        self._table = table
        self._locks = locks
        digest = hashlib.sha256(f"{database}\0{table}".encode()).hexdigest()
        self._lock = {"name": f"iam-watcher:partitions:{digest[:32]}"}
        self._token: str | None = None
        self._names = {"table": quoted(table), "detached": quoted(self.name)}

    @property
    def quoted(self) -> str:
        """Its name for an SQL text."""
        return quoted(self.name)

    def find(self) -> str | None:
        """Return the partition whose rows an earlier run has left here; None if there is no detached table.

        Raises:
            TableError: another table has this name.
            WalkError: another session works on partitions of the table.
        """
        found = self._run(self._read_comment, "a look for a detached partition", any_token=True)
        if found is None:
            return None
        self._token, partition = found
        return partition

    @property
    def has_rows(self) -> bool:
        """Whether a row is in it."""
        return self._run(lambda: self._any(self.quoted), f"a look for rows of {self.name}")

    def create(self, partition: str) -> None:
        """Create it, empty, for a partition."""
        self._token = token = uuid.uuid4().hex
        comment = COMMENT.format(token=token, partition=partition, table=self._table)

        def create() -> None:
            found = self._read_comment()
            if found is not None and found[0] == token:
                return  # A try whose answer was lost has made it.
            ((_, shown, *_),) = self._db.read(DEFINITION.format(table=quoted(self._table)))
            body = _CHECK_NAME.sub("  CHECK ", shown.partition(" (\n")[2])
            body = _PARTITION_BY.split(body)[0].replace("%", "%%")
            self._db.change(f"CREATE TABLE {self.quoted} (\n{body} COMMENT=%(comment)s", {"comment": comment})

        self._run(create, f"CREATE TABLE {self.name}", any_token=True)

    def exchange(self, partition: str) -> bool:
        """Exchange it, which is empty, for the rows of a partition; return False if the server can't."""

        def exchange() -> bool:
            with self._locks.hold(self._both):
                try:
                    if not self._any(self.quoted):  # else a try whose answer was lost has done it
                        self._alter(EXCHANGE, partition)
                    self._db.read(ANALYZE.format(**self._names))
                except self._db.error as error:
                    if code_of(error) not in NOT_EXCHANGEABLE:
                        raise
                    logger.warning(
                        "The partition %s of %s can't be dropped as a whole; its rows are deleted one by "
                        "one. ALTER TABLE … REBUILD PARTITION may help. error=%r",
                        partition,
                        self._table,
                        error,
                    )
                    return False
            return True

        return self._run(exchange, f"EXCHANGE PARTITION {partition} of {self._table}")

    def reattach(self, partition: str) -> None:
        """Exchange its rows for the partition, which must be empty, and drop it.

        Raises:
            TableError: the partition is gone, or has new rows.
        """

        def reattach() -> None:
            there = partition in read_partitions(self._db, self._table).by_name
            with self._locks.hold(self._both):
                if not self._any(self.quoted):
                    return  # A try whose answer was lost has moved the rows into the partition.
                if not there or self._any(self._rows_of(partition)):
                    raise TableError(
                        f"{self.name} has rows of the partition {partition} of {self._table} that are not to "
                        "be deleted, and the job can't move them into the partition: it is gone, or has new "
                        f"rows. Copy the rows of {self.name} into {self._table}, then drop {self.name}"
                    )
                self._alter(EXCHANGE, partition)

        self._run(reattach, f"EXCHANGE PARTITION {partition} of {self._table}, back")
        self.drop_empty()

    def drop(self) -> None:
        """Drop it with its rows."""

        def drop() -> None:
            if self._read_comment() is not None:  # else a try whose answer was lost has dropped it
                self._check_token()
                self._db.change(DROP.format(**self._names))

        self._run(drop, f"DROP TABLE {self.name}", any_token=True)
        self._token = None

    def drop_empty(self) -> None:
        """Drop it, if no row is in it."""
        if not self.has_rows:
            self.drop()

    def drop_partition(self, partition: str) -> bool:
        """Drop a partition, if no row is in it, and return whether it is gone."""

        def drop() -> bool:
            if partition not in read_partitions(self._db, self._table).by_name:
                return True
            with self._locks.hold(f"{quoted(self._table)} WRITE"):
                if self._any(self._rows_of(partition)):
                    return False
                self._alter(DROP_PARTITION, partition)
            return True

        return self._run(drop, f"DROP PARTITION {partition} of {self._table}", any_token=True)

    def release(self) -> None:
        """Let other sessions work on the partitions."""

        def release() -> None:
            self._db.read(RELEASE, self._lock)
            self._db.commit()

        self._db.run(release, what="a release of the lock on the partitions")

    @property
    def _both(self) -> str:
        return "{table} WRITE, {detached} WRITE".format(**self._names)

    def _run(self, work: Callable[[], Result], what: str, *, any_token: bool = False) -> Result:
        """Return what `work` returns, while no other session works on the partitions."""

        def alone() -> Result:
            ((mine,),) = self._db.read(MINE, self._lock)
            if not mine:
                # At the beginning, or after the session was lost: another may have worked meanwhile.
                ((taken,),) = self._db.read(TAKE, self._lock)
                if taken != 1:
                    raise WalkError(f"another session works on partitions of {self._table}; run again later")
            if not any_token:
                self._check_token()
            result = work()
            self._db.commit()
            return result

        try:
            return self._db.run(alone, what=what)
        except WalkError as error:
            raise explained(error) from error

    def _check_token(self) -> None:
        found = self._read_comment()
        if found is None or found[0] != self._token:
            raise WalkError(f"another session has worked on {self.name} meanwhile; run again")

    def _read_comment(self) -> tuple[str, str] | None:
        """Return the token and the partition of the detached table; None if there is no such table."""
        found = self._db.read(FIND, {"table": self.name})
        if not found:
            return None
        match = _COMMENT.fullmatch(found[0][0])
        if match is None:
            raise TableError(
                f"there is a table {self.name}, which drop_partitions needs for rows of {self._table}, and "
                f"its comment is not the job's: {found[0][0]!r}. Rename this table"
            )
        return match[1], match[2]

    def _rows_of(self, partition: str) -> str:
        return f"{quoted(self._table)} PARTITION ({quoted(partition)})"

    def _any(self, rows: str) -> bool:
        return bool(self._db.read(HAS_ROWS.format(rows=rows)))

    def _alter(self, statement: str, partition: str) -> None:
        self._db.change(statement.format(partition=quoted(partition), **self._names))
