"""Locks tables for a moment, without letting the statements of others wait for long.

A statement that needs a table for itself waits until the transactions that use the table have ended.
Meanwhile every new statement on the table waits behind it. So `LOCK TABLES` is the only statement that waits
here: a second connection ends it after WAIT, and it is tried again later. It can be ended at any time: it
changes nothing. Statements such as ALTER TABLE then run under its lock and wait for nobody.
"""

from __future__ import annotations

import threading
import uuid
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from iam_watcher.database.connection import open_cursor
from iam_watcher.database.server_errors import LOCK_WAIT_TIMEOUT, QUERY_KILLED, code_of
from iam_watcher.database.transactions import PING
from iam_watcher.errors import WalkError
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iam_watcher.database.connection import Connection
    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

WAIT = 0.1  # seconds

# The tag tells the statement from all others, also on another server that a proxy may lead to.
LOCK = "LOCK TABLES {tables} /* iam-watcher {tag} */"
OWN_ID = "SELECT CONNECTION_ID()"
SESSIONS = "SHOW FULL PROCESSLIST"
WAITS = "metadata lock"  # in the column State
END = "KILL QUERY %(id)s"

# InnoDB would hold a lock of its own on the tables until the end of the transaction that LOCK TABLES begins,
# and MariaDB's ALTER TABLE would wait for this lock.
BEGIN, LEAVE = "SET autocommit = 1", "SET autocommit = 0"
UNLOCK = "UNLOCK TABLES"


class TableLock:
    """Locks tables within a transaction.

    Args:
        db: the transactions.
        connect: returns another connection to the same server, by the same account.
    """

    def __init__(self, db: Transactions, connect: Callable[[], Connection]) -> None:
        self._db = db
        self._connect = connect

    @contextmanager
    def hold(self, tables: str) -> Iterator[None]:
        """Lock tables, such as "`a` WRITE, `b` WRITE"; within the block each statement commits at once.

        If others use the tables for longer than WAIT, it raises an error of the driver. `Transactions.run`
        tries again then.
        """
        db = self._db
        try:
            db.change(BEGIN)
            self._lock(tables)
            yield
        except BaseException:
            try:
                self._leave()
            except db.error:
                db.abandon()  # Nothing goes on with a session that commits by itself.
            raise
        self._leave()

    def _leave(self) -> None:
        db = self._db
        db.change(UNLOCK)
        db.change(LEAVE)
        db.commit()

    def _lock(self, tables: str) -> None:
        db = self._db
        statement = LOCK.format(tables=tables, tag=uuid.uuid4().hex)
        ((own,),) = db.read(OWN_ID)
        with closing(self._connect()) as other:
            ended = threading.Event()
            timer = threading.Timer(WAIT, _end, (other, own, statement.replace("%%", "%"), ended))
            timer.start()
            try:
                db.change(statement)
            finally:
                timer.cancel()
                timer.join()
        if ended.is_set():
            # It came too late: it ends the next statement, on some servers.
            with suppress(db.error):
                db.read(PING)


def _end(connection: Connection, session: int, statement: str, ended: threading.Event) -> None:
    """End a statement that still waits; called in another thread."""
    try:
        with open_cursor(connection) as cursor:
            cursor.execute(SESSIONS)
            waiting = {int(row[0]): row[7] for row in cursor.fetchall() if WAITS in (row[6] or "")}
            if waiting.get(session) == statement:
                ended.set()
                cursor.execute(END, {"id": session})
    except connection.Error as error:
        # The server ends it after lock_wait_timeout, which is 1 s.
        logger.warning("event=lock_not_ended session=%d error=%r", session, error)


def explained(error: WalkError) -> WalkError:
    """Return an error of `Transactions.run`, with the reason if others used a table for too long."""
    cause = error.__cause__
    if cause is None or code_of(cause) not in {LOCK_WAIT_TIMEOUT, QUERY_KILLED}:
        return error
    return WalkError(
        f"{error.facts}. Others use the table in transactions that last longer than {WAIT:g} s. The job does "
        "not wait longer, because their next statements would wait behind it"
    )
