"""The database lock: an advisory lock (GET_LOCK) of the session that writes.

A lease in Redis is a promise about time, and a process can be stopped for longer than any lease. So a
table job also takes GET_LOCK, which lives and dies with its session: whatever Redis says, a second writer
can't begin while the session of the first one lives. If the holder of the lease finds the database lock
taken, it waits a moment, then ends the session that has it. If another task of the same run is alive, that
task may have the database lock, so the holder waits: table jobs of one run in one database run in turn.
The session's `wait_timeout` is the lease, so that one whose client vanished is gone after the same time.

It is a promise of one server: nodes of a Galera cluster don't share it. Source: MySQL Reference Manual,
"Locking Functions"; MariaDB documents the same functions.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from iam_watcher.database.connection import open_cursor
from iam_watcher.database.server_errors import code_of
from iam_watcher.database.session import SILENCE
from iam_watcher.errors import DatabaseLockTaken
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from iam_watcher.database.connection import Connection

logger = get_logger(__name__)

DATABASE = "SELECT DATABASE()"

# Takes the database lock, waiting for up to a second (a statement may take five).
TAKE = "SELECT GET_LOCK(%(name)s, 1)"

# The connection that has the database lock, as far as this account may see it.
WHO = (
    "SELECT IS_USED_LOCK(%(name)s), p.USER, p.HOST, p.COMMAND, p.TIME"
    " FROM (SELECT IS_USED_LOCK(%(name)s) AS id) AS used"
    " LEFT JOIN information_schema.PROCESSLIST AS p ON p.ID = used.id"
)

END = "KILL CONNECTION %(id)s"

TRIES = 5  # of a second each, before the other session is ended, and again after that
KILL_DENIED = (1095, 1227)  # not the owner of that connection; a privilege is missing
GONE = 1094  # no such connection: it ended by itself


def database_lock_name(database: str, key: str) -> str:
    """Return the name of the database lock for a lock key, at most 64 characters (MySQL's limit)."""
    return "iam-watcher:" + hashlib.sha256(f"{database}\0{key}".encode()).hexdigest()[:48]


class DatabaseLock:
    """Takes the database lock in a session that is going to write.

    Args:
        key: of the lock that the session writes under.
        lease: seconds of silence after which the server ends the session.
        verify: raises if the lease is not ours at this moment; asked before another session is ended.
        others_at_work: whether other tasks of our own run are alive; one of them may have the database lock.
    """

    def __init__(
        self,
        key: str,
        *,
        lease: float,
        verify: Callable[[], None],
        others_at_work: Callable[[], bool] = lambda: False,
    ) -> None:
        self.key = key
        self._lease = lease
        self._verify = verify
        self._others_at_work = others_at_work

    def take(self, connection: Connection) -> None:
        """Take the database lock, if need be from a session that outlived its lease.

        Raises:
            DatabaseLockTaken: another session has it. This account may not end it, or it took the database
                lock first when that was free.
            LockError: what `verify` raises.
        """
        name = database_lock_name(_ask(connection, DATABASE, {})[0], self.key)
        # A session that is silent for longer than the lease ends, and its database lock with it.
        _ask(connection, SILENCE, {"seconds": max(1, int(self._lease))})
        while not _taken_within(connection, name):
            self._verify()
            if not self._others_at_work():
                break
            logger.info("event=database_lock_waits lock=%s why='another task of this run has it'", self.key)
        else:
            return
        other, user, host, command, seconds = _ask(connection, WHO, {"name": name})
        ended = ""
        if other is not None:
            who = f"connection {other} of {user}@{host}, command {command} for {seconds} s"
            self._end(connection, int(other), who)
            logger.warning("event=database_lock_freed lock=%s ended=%r", self.key, who)
            ended = f"connection {other} was ended, but "
        if not _taken_within(connection, name):
            raise DatabaseLockTaken(
                f"{self.key!r}: {ended}another session has it now. The next try of the task tries again"
            )

    def _end(self, connection: Connection, other: int, who: str) -> None:
        try:
            _ask(connection, END, {"id": other})
        except connection.Error as error:
            code = code_of(error)
            if code in KILL_DENIED:
                raise DatabaseLockTaken(
                    f"{self.key!r}: {who} has it and outlived its lease, and this account may not end it "
                    f"({error}); end it yourself, or use the same account everywhere"
                ) from error
            if code != GONE:
                raise


def _taken_within(connection: Connection, name: str) -> bool:
    for _ in range(TRIES):
        (taken,) = _ask(connection, TAKE, {"name": name})
        if taken == 1:
            return True
    return False


def _ask(connection: Connection, statement: str, values: dict[str, object]) -> Any:
    """Run a statement and return its first row, or None if it has none."""
    with open_cursor(connection) as cursor:
        cursor.execute(statement, values)
        row = cursor.fetchone() if cursor.description else None
    connection.commit()
    return row
