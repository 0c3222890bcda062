"""The database session of a job: isolation, time zone, time limits, and one "now" for the whole run."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from iam_watcher.errors import ClockError

if TYPE_CHECKING:
    from iam_watcher.jobs.transaction import Connection

# What kind of server this is, and what its binary log can take.
SERVER = "SELECT VERSION(), @@GLOBAL.log_bin, @@SESSION.binlog_format"

# The same on every server: what a job writes must not depend on how the server is set up. A wait for a
# lock is short, because a job that is told to stop can't hear it meanwhile; it is tried again.
SETTINGS = (
    "SET SESSION autocommit = 0, time_zone = '+00:00', innodb_lock_wait_timeout = 1,"
    " sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'"
)

# Under READ COMMITTED a statement keeps no lock on rows it does not change, and none on gaps.
ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL {level}"

# A statement ends before the mark of a live worker (keepalive.BUSY_TTL) does: the server finishes it
# also for a client that was killed. Long IN lists stay lists: as a subquery they would lock more.
SETTINGS_MARIADB = "SET SESSION max_statement_time = 5, in_predicate_conversion_threshold = 0"

# MySQL knows a limit for SELECT only; milliseconds.
SETTINGS_MYSQL = "SET SESSION max_execution_time = 5000"

NOW = "SELECT NOW(6)"

LARGEST_CLOCK_DIFFERENCE = timedelta(seconds=60)


def set_up(connection: Connection) -> None:
    """Make a new connection fit for a job.

    Under a statement-based binary log InnoDB refuses writes in READ COMMITTED (error 1665): there the
    session stays in REPEATABLE READ, and chunks lock the gaps between their rows as well.
    """
    with closing(connection.cursor()) as cursor:
        cursor.execute(SERVER)
        version, binlog, binlog_format = cursor.fetchone()
        statement_based = bool(binlog) and binlog_format == "STATEMENT"
        cursor.execute(SETTINGS)
        cursor.execute(ISOLATION.format(level="REPEATABLE READ" if statement_based else "READ COMMITTED"))
        cursor.execute(SETTINGS_MARIADB if "MariaDB" in version else SETTINGS_MYSQL)
    connection.commit()


def read_now(connection: Connection) -> datetime:
    """Return the database's time, after `set_up`.

    Raises:
        ClockError: this worker's clock says something else. One of the two is wrong, and an age that is
            computed from a wrong clock can be any age.
    """
    before = datetime.now(UTC)
    with closing(connection.cursor()) as cursor:
        cursor.execute(NOW)
        now: datetime = cursor.fetchone()[0].replace(tzinfo=UTC)
    connection.commit()
    worker = before + (datetime.now(UTC) - before) / 2
    if abs(now - worker) > LARGEST_CLOCK_DIFFERENCE:
        raise ClockError(
            f"database {now.isoformat(timespec='seconds')}, worker {worker.isoformat(timespec='seconds')}; "
            f"expected at most {LARGEST_CLOCK_DIFFERENCE.total_seconds():.0f} s between them. "
            "Nothing was written; set the wrong one right"
        )
    return now
