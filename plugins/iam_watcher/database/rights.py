"""What an account may do with a table, by statements that change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.database.column import quoted
from iam_watcher.database.connection import open_cursor
from iam_watcher.database.server_errors import code_of
from iam_watcher.database.session import BINARY_LOG_VARIABLES, logs_statements

if TYPE_CHECKING:
    from iam_watcher.database.connection import Connection

# The server checks the account's rights, and then finds no row.
READS = "SELECT 1 FROM {table} WHERE FALSE"
DELETES = "DELETE FROM {table} WHERE FALSE"
UPDATES = "UPDATE {table} SET {column} = {column} WHERE FALSE"
# Fails on a server that does not know SKIP LOCKED.
SKIPS_LOCKED = "SELECT 1 FROM {table} WHERE FALSE FOR UPDATE SKIP LOCKED"

SYNTAX_ERROR = 1064

# What is wrong with a server for rows that several workers claim.
NO_SKIP_LOCKED = (
    "the server does not know SKIP LOCKED; expected MariaDB 10.6, MySQL 8.0.1 or later. Upgrade the server"
)
STATEMENT_BASED = (
    "the server's binlog_format is STATEMENT, in which SKIP LOCKED is not safe for replicas. Set "
    "binlog_format=ROW"
)


def refusal(connection: Connection, statement: str, table: str, column: str = "") -> tuple[int, str] | None:
    """Return the number and the text of the server's error for a statement, or None if it is allowed.

    Args:
        connection: set up for a job.
        statement: one of the constants above.
        table: its name.
        column: for `UPDATES`.
    """
    import MySQLdb

    # No values are bound, so a percent sign in a name stays as it is.
    text = statement.format(table=quoted(table), column=quoted(column)).replace("%%", "%")
    refused = None
    try:
        with open_cursor(connection) as cursor:
            cursor.execute(text)
            cursor.fetchall()
    except MySQLdb.Error as error:
        refused = code_of(error) or 0, str(error.args[-1])
    connection.rollback()
    return refused


def is_statement_based(connection: Connection) -> bool:
    """Return whether the server's binary log has statements, for which SKIP LOCKED is not safe."""
    with open_cursor(connection) as cursor:
        cursor.execute(BINARY_LOG_VARIABLES)
        found = dict(cursor.fetchall())
    connection.rollback()
    return logs_statements(found)
