"""The tables of the database subjects: filled once, and copied for each run.

For each run, a server starts on a fresh copy of the data folder, with an empty buffer pool. Its important
settings are those of a Debian server with 1 GB of memory for InnoDB, a flush for each commit, and a binary
log. BENCH_ROWS="100000 1000000" (the default) sets the sizes of the tables.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from dev.processes import ProcessError
from dev.servers import MariaDB
from dev.sessions import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SETTINGS = (
    "--innodb-buffer-pool-size=1G",
    "--innodb-log-file-size=96M",
    "--innodb-flush-log-at-trx-commit=1",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    # Otherwise the server would read the last run's pages again at its start.
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    "--innodb-buffer-pool-load-at-startup=OFF",
    "--innodb-monitor-enable=module_purge",
)

# Rows of about 1 kB. Their ages are whole days, 0 to 999, and about half a day: so a cut-off in days
# takes the same share of the rows whenever it is computed within some hours. Every second key is free, as
# those of the policies that are still there are in IAM's table.
DAYS = 1000
SUBJECTS = ", '\",\"', ".join(f"MD5(seq + {number})" for number in range(16))
POLICY_AUDIT = f"""
    INSERT INTO policy_audit
        (id, instanceID, name, username, policyShadow, extendShadow, createdAt, updatedAt, deletedAt)
    SELECT 2 * seq, CONCAT('policy-', LPAD(seq, 12, '0')), CONCAT('name-', seq), CONCAT('user-', seq % 5000),
        CONCAT('{{{{"description":"policy ', seq, '","effect":"allow","subjects":["', {SUBJECTS},
            '"],"actions":["create","delete","update"],"resources":["resources:articles:<.*>"]}}}}'),
        '{{{{}}}}', NOW() - INTERVAL {DAYS + 1} DAY, NOW(),
        NOW() - INTERVAL FLOOR(RAND(1) * {DAYS}) DAY - INTERVAL 12 HOUR
            - INTERVAL FLOOR(RAND(2) * 3600) SECOND
    FROM seq_1_to_{{rows}}
"""

USERS = f"""
    INSERT INTO user (id, instanceID, name, nickname, password, email, loginedAt, createdAt)
    SELECT seq, CONCAT('user-', LPAD(seq, 12, '0')), CONCAT('user-', seq), 'nickname', MD5(seq),
        CONCAT('user-', seq, '@example.com'),
        NOW() - INTERVAL FLOOR(RAND(3) * {DAYS}) DAY - INTERVAL 12 HOUR, NOW() - INTERVAL {DAYS + 1} DAY
    FROM seq_1_to_{{rows}}
"""

INDEX = "ALTER TABLE policy_audit ADD INDEX deleted_at (deletedAt)"

# The deleted rows that InnoDB has not removed yet.
HISTORY = "SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'"
PURGE_SECONDS = 300


def sizes() -> list[int]:
    """Return the sizes of the tables, smallest first.

    Raises:
        ProcessError: BENCH_ROWS is not a list of numbers.
    """
    text = os.environ.get("BENCH_ROWS", "") or "100000 1000000"
    try:
        found = sorted({int(word) for word in text.split()})
    except ValueError:
        found = []
    if not found or found[0] < DAYS:
        raise ProcessError(f"BENCH_ROWS is {text!r}; expected numbers of rows, each {DAYS} or more")
    return found


class Tables:
    """A server with tables that some statements filled.

    Args:
        folder: for its data.
        statements: run once, in the database iam of include/sql/schema.sql.
        settings: more arguments for the server.
    """

    def __init__(self, folder: Path, statements: Sequence[str], settings: Sequence[str] = ()) -> None:
        self._server = MariaDB(folder, [*SETTINGS, *settings])
        self._data, self._kept = folder / "data", folder / "kept"
        with self._server as server:
            server.create_schema()
            with closing(server.connect()) as connection, connection.cursor() as cursor:
                for statement in ("SET sql_log_bin = 0", *statements, "ANALYZE TABLE policy_audit, user"):
                    cursor.execute(statement)
            wait_until_purged(server)
        self._data.rename(self._kept)

    @contextmanager
    def cold(self) -> Iterator[MariaDB]:
        """Yield the server, started on a fresh copy of the tables."""
        shutil.rmtree(self._data, ignore_errors=True)
        shutil.copytree(self._kept, self._data)
        # Data that is not yet on the disk would slow the run down.
        os.sync()
        with self._server as server:
            yield server


@cache
def policy_audit(folder: Path, rows: int, *, index: bool = False, redo: str = "") -> Tables:
    """Return a policy_audit with rows of all ages, scattered over the ids; made at the first call.

    Args:
        folder: where the tables of all subjects are.
        rows: how many.
        index: whether it has an index on deletedAt.
        redo: size of InnoDB's redo log, if not the default.
    """
    folder /= f"policy_audit-{rows}{'-index' * index}{redo and f'-{redo}'}"
    settings = [f"--innodb-log-file-size={redo}"] if redo else []
    return Tables(folder, [POLICY_AUDIT.format(rows=rows), *([INDEX] * index)], settings)


@cache
def users(folder: Path, rows: int) -> Tables:
    """Return users whose last logins are of all ages, scattered over the ids; made at the first call."""
    return Tables(folder / f"user-{rows}", [USERS.format(rows=rows)])


def older_than(share: float) -> int:
    """Return the number of days for which this share of the rows is old."""
    return round(DAYS * (1 - share))


def wait_until_purged(server: MariaDB) -> None:
    """Wait until InnoDB has removed the deleted rows, which are only marked before that.

    Raises:
        ProcessError: it takes too long.
    """
    with closing(server.connect()) as connection, connection.cursor() as cursor:

        def purged() -> bool:
            return int(value(cursor, HISTORY)) == 0

        if not wait_until(purged, PURGE_SECONDS):
            raise ProcessError(f"InnoDB has not purged after {PURGE_SECONDS} s")


def value(cursor: Any, query: str) -> Any:
    """Return the last value of a query's only row."""
    cursor.execute(query)
    return cursor.fetchone()[-1]
