"""The error numbers of MySQL, MariaDB and their client library that a job judges.

Source: MySQL's "Server Error Message Reference" and "Client Error Message Reference", and MariaDB's list of
error codes. Numbers under 2000 and from 3000 on are the server's, 2000 to 2999 the client library's.
"""

from __future__ import annotations

LOCK_WAIT_TIMEOUT = 1205  # of a row lock or a metadata lock
DEADLOCK = 1213
LOCK_TABLE_FULL = 1206
RECORD_HAS_CHANGED = 1020  # since this transaction's snapshot: MariaDB's innodb_snapshot_isolation
QUERY_KILLED = 1317  # by KILL QUERY, which a person or a tool does to a statement that takes long
REPLICATION_ROLLED_BACK = 3101  # Group Replication found a conflict at the commit
STATEMENT_TIMEOUT_MARIADB, STATEMENT_TIMEOUT_MYSQL = 1969, 3024
STATEMENT_TIMEOUTS = frozenset({STATEMENT_TIMEOUT_MARIADB, STATEMENT_TIMEOUT_MYSQL})

RETRIED = frozenset(
    {
        LOCK_WAIT_TIMEOUT,
        DEADLOCK,
        LOCK_TABLE_FULL,
        RECORD_HAS_CHANGED,
        QUERY_KILLED,
        REPLICATION_ROLLED_BACK,
        STATEMENT_TIMEOUT_MARIADB,
        STATEMENT_TIMEOUT_MYSQL,
    }
)
"""The transaction failed, and may succeed when it is tried again."""

ENDED = STATEMENT_TIMEOUTS | {QUERY_KILLED}
"""The server ended a statement that took long, and took back this statement only."""

READ_ONLY = frozenset({1290, 1792, 1836})
"""The server takes no writes: a replica, or a primary that has just become one."""

LOST = READ_ONLY | frozenset(
    {
        1047,  # a Galera node that is not ready
        1053,  # the server shuts down
        1158,
        1159,
        1160,
        1161,  # it could not read from or write to the network
        1927,  # KILL CONNECTION
        2002,
        2003,  # nobody listens
        2006,
        2013,  # the connection is gone
        2026,  # the same, when it was encrypted
        2055,
        4031,  # silent for longer than wait_timeout
    }
)
"""The connection is gone, or leads to a server that can't work now: another connection may do better."""

NOT_COMMITTED = READ_ONLY | {LOCK_WAIT_TIMEOUT, DEADLOCK, REPLICATION_ROLLED_BACK}
"""What a COMMIT ends with when the server refuses it and rolls the transaction back. (A deadlock is what a
Galera node calls a conflict with another node.)"""

DENIED = frozenset({1044, 1142, 1143, 1227})
"""A right is missing: on the database, the table or a column, or a privilege."""

REFUSED = {
    1044: "grant the account its rights on this database",
    1045: "check login and password, from which host the account may connect, and whether it must use TLS",
    1049: "create the database, or correct the schema of the connection",
    1130: "create an account that may connect from this worker's host",
    1251: "use an account with an authentication plugin that the installed MySQL client knows",
    1524: "use an account with an authentication plugin that the server has loaded",
    1698: "check the login: this account can't connect with a password",
    1820: "set a new password for the account and write it into the connection",
    1862: "set a new password for the account and write it into the connection",
    2059: "use an account with an authentication plugin that the installed MySQL client knows",
    3118: "unlock the account (ALTER USER … ACCOUNT UNLOCK)",
    3159: 'the server wants TLS: set the extra "ssl" of the connection, see docs/jobs.md',
    3955: "correct the password, then unlock the account: wrong passwords have locked it for some time",
    4151: "unlock the account (ALTER USER … ACCOUNT UNLOCK)",
}
"""Why a server refuses a connection in a way that trying again can't mend → what to do."""

UNREACHABLE = {
    1040: "the server has no connection left: wait, or raise max_connections",
    1129: "the server blocks this host after too many errors: FLUSH HOSTS",
    1203: "the account has no connection left: wait, or raise max_user_connections",
    1226: "the account has used up a limit: wait, or raise the limit",
    2002: "check that the server runs, and the host and port of the connection",
    2003: "check that the server runs, and the host and port of the connection",
    2005: "check the host of the connection",
    2026: 'check the extra "ssl" of the connection against the server\'s certificate, see docs/jobs.md',
    3032: "the server is in offline mode: wait, or let an administrator end it",
}
"""Why a server can't be reached at the moment → what to do."""

TOO_DEEP = frozenset(
    {
        1296,  # MariaDB's, which has this number for any error of a storage engine
        3008,
        6575,
    }
)
"""A chain of foreign keys with ON DELETE CASCADE is too long."""

PROTECTED = frozenset({1216, 1217, 1451, 1452}) | TOO_DEEP
"""A foreign key refuses the statement, which alone is taken back. 1217 and 1216 come in place of 1451 and
1452 if the account has no right on the other table."""

NOT_COMPARABLE = frozenset({1267, 1270, 1271, 3854})
"""Character sets or collations that don't go together; the last one is MySQL's."""

NOT_EXCHANGEABLE = frozenset({1731, 1736})
"""A partition and a table differ in a way that forbids EXCHANGE PARTITION, for instance in columns that MySQL
has added without a rebuild."""

INDEX_UNUSABLE = 1176  # it is set to be ignored (MySQL: invisible), and so can't be forced


def code_of(error: BaseException) -> int | None:
    """Return the number of an error of the driver, or None if it has none."""
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) else None


def may_be_committed(error: BaseException) -> bool:
    """Return whether a COMMIT that ended with this error may have taken place: its answer can be lost."""
    return code_of(error) not in NOT_COMMITTED
