"""The database session of a job: isolation, time zone, time limits, and one "now" for the whole run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from iam_watcher.database.connection import open_cursor
from iam_watcher.errors import ClockError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.database.connection import Connection

# The same on every server, whatever its own settings and its init_connect say: what a job reads and writes
# must not depend on them. Numbers, not DEFAULT, which is the server's own setting.
# The largest max_join_size turns sql_big_selects on.
# MySQL would refuse to compare a key with a date that no calendar has, such as 31 February.
# A wait for a lock is short, because the job can't stop during the wait. The statement is tried again.
SETTINGS = (
    "SET SESSION sql_select_limit = 18446744073709551615, max_join_size = 18446744073709551615,"
    " sql_safe_updates = 0, sql_auto_is_null = 0,"
    " foreign_key_checks = 1, unique_checks = 1, group_concat_max_len = 1048576, sql_quote_show_create = 1,"
    " autocommit = 0, completion_type = 0, time_zone = '+00:00',"
    " sql_mode = 'STRICT_TRANS_TABLES,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION',"
    " innodb_lock_wait_timeout = 1, lock_wait_timeout = 1,"
    " net_read_timeout = 30, net_write_timeout = 60, wait_timeout = 60"
)

# Also for what the server itself says, such as its errors.
NAMES = "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci"

# What only some servers know.
MORE_SETTINGS = {
    # A statement ends before the heartbeat of a live worker (renewal.HEARTBEAT_TTL) does: the server finishes
    # it also for a client that was killed. Seconds; MySQL knows a limit for SELECT only, in milliseconds.
    "max_statement_time": 5,
    "max_execution_time": 5000,
    "check_constraint_checks": 1,
    # A transaction is open while an archive is stored, which takes as long as the store needs.
    "idle_transaction_timeout": 0,
    "idle_readonly_transaction_timeout": 0,
    "idle_write_transaction_timeout": 0,
    # Long IN lists stay lists of keys: as a subquery, or as a scan of the table, they would lock more.
    "in_predicate_conversion_threshold": 0,
    "optimizer_max_sel_args": 0,
    "optimizer_max_sel_arg_weight": 0,
    "range_optimizer_max_mem_size": 0,
    # The catalogue tells what is there now, and a primary key that MySQL has added.
    "information_schema_stats_expiry": 0,
    "show_gipk_in_create_table_and_information_schema": 1,
    # Rows as they are now, where the server keeps older versions of them.
    "system_versioning_asof": "DEFAULT",
    # A pattern as the job writes it.
    "default_regex_flags": "''",
    "old_mode": "''",
}

# Which of those this server knows.
KNOWN = "SHOW SESSION VARIABLES WHERE Variable_name IN ({names})"
BINARY_LOG = ("log_bin", "binlog_format")
BINARY_LOG_VARIABLES = KNOWN.format(names=str(BINARY_LOG)[1:-1])

# The server ends a session that is silent for so long.
SILENCE = "SET SESSION wait_timeout = %(seconds)s"

# Under READ COMMITTED a statement keeps no lock on rows it does not change, and none on gaps.
ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL {level}, READ WRITE"

NOW = "SELECT NOW(6)"

LARGEST_CLOCK_DIFFERENCE = timedelta(seconds=60)


def set_up(connection: Connection) -> None:
    """Make a new connection fit for a job.

    Under a statement-based binary log InnoDB refuses writes in READ COMMITTED (error 1665): there the
    session stays in REPEATABLE READ, and chunks lock the gaps between their rows as well.
    """
    with open_cursor(connection) as cursor:
        cursor.execute(SETTINGS)
        cursor.execute(NAMES)
        names = ", ".join(f"'{name}'" for name in (*MORE_SETTINGS, *BINARY_LOG))
        cursor.execute(KNOWN.format(names=names))
        known = dict(cursor.fetchall())
        more = [f"{name} = {value}" for name, value in MORE_SETTINGS.items() if name in known]
        cursor.execute(f"SET SESSION {', '.join(more)}")
        level = "REPEATABLE READ" if logs_statements(known) else "READ COMMITTED"
        cursor.execute(ISOLATION.format(level=level))
    connection.commit()


def logs_statements(variables: Mapping[str, str]) -> bool:
    """Return whether the server's binary log has statements, and no rows, by its variables BINARY_LOG."""
    return variables["log_bin"] == "ON" and variables.get("binlog_format") == "STATEMENT"


def read_now(connection: Connection) -> datetime:
    """Return the database's time, after `set_up`.

    Raises:
        ClockError: this worker's clock says something else. One of the two is wrong, and an age that is
            computed from a wrong clock can be any age.
    """
    now, worker = clocks(connection)
    if abs(now - worker) > LARGEST_CLOCK_DIFFERENCE:
        raise ClockError(
            f"database {now.isoformat(timespec='seconds')}, worker {worker.isoformat(timespec='seconds')}; "
            f"expected at most {LARGEST_CLOCK_DIFFERENCE.total_seconds():.0f} s between them. "
            "No row was changed. Correct the clock that is wrong, then run again"
        )
    return now


def clocks(connection: Connection) -> tuple[datetime, datetime]:
    """Return the database's time and this worker's at the same moment, after `set_up`."""
    before = datetime.now(UTC)
    with open_cursor(connection) as cursor:
        cursor.execute(NOW)
        now: datetime = cursor.fetchone()[0].replace(tzinfo=UTC)
    connection.commit()
    return now, before + (datetime.now(UTC) - before) / 2
