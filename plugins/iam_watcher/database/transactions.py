"""Short transactions that are tried again when the database's answer says that this can help.

It knows nothing of Airflow, and of the database only the Python DB-API (PEP 249, paramstyle "pyformat")
and the error numbers of `server_errors`.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from iam_watcher.database.connection import open_cursor
from iam_watcher.database.server_errors import DENIED, LOST, READ_ONLY, RETRIED, code_of
from iam_watcher.errors import ConnectionRefused, DatabaseUnavailable, TableError, WalkError
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from iam_watcher.database.connection import Connection

logger = get_logger(__name__)

TRIES = 15  # with 0.2 s to 5 s between: about a minute, besides the time-outs themselves
LONGEST_WAIT = 5.0  # seconds between two tries
LONGEST_SLEEP = 0.5  # seconds between two calls of the safe point while it sleeps
PING_EVERY = 3.0  # seconds: a session that is silent for a lease (10 s or more) is ended, see `database_lock`

PING = "SELECT 1"
SAVEPOINT, TO_SAVEPOINT = "SAVEPOINT kept_locks", "ROLLBACK TO SAVEPOINT kept_locks"

Result = TypeVar("Result")


def _go_on() -> None:
    """Be a safe point at which nothing stops."""


class Transactions:
    """Transactions on one connection, one after the other.

    Args:
        connection: autocommit off, and the session as `database.session` sets it up.
        safe_point: called before each transaction, while waiting and in each `sleep`; what it raises goes to
            the caller.
        committing: called before changes are committed. The caller has counted them at the next safe point.
        reconnect: returns a new connection for one that was lost, set up in the same way; without it a
            lost connection is an error like any other.
        tries: of a transaction, at most.

    Attributes:
        retries: how often a transaction was tried again.
        error: the base of the driver's errors.
    """

    def __init__(
        self,
        connection: Connection,
        safe_point: Callable[[], None] = _go_on,
        *,
        committing: Callable[[], None] = lambda: None,
        reconnect: Callable[[], Connection] | None = None,
        tries: int | None = None,
    ) -> None:
        self.retries = 0
        self.error = connection.Error
        self._connection = connection
        self._safe_point = safe_point
        self._committing = committing
        self._reconnect = reconnect
        self._tries = TRIES if tries is None else tries
        self._changes = self._lost = False
        self._set_up: dict[str, Mapping[str, object]] = {}
        self._spoke_at = time.monotonic()

    def read(self, query: str, values: Mapping[str, object] | None = None) -> Any:
        """Return all rows of a query."""
        with open_cursor(self._connection) as cursor:
            cursor.execute(query, values or {})
            return cursor.fetchall()

    def change(self, query: str, values: Mapping[str, object] | None = None) -> int:
        """Run a statement that writes, and return how many rows it changed."""
        self._changes = True
        with open_cursor(self._connection) as cursor:
            cursor.execute(query, values or {})
            return int(cursor.rowcount)

    def set_up(self, statement: str, values: Mapping[str, object]) -> None:
        """Run a statement that sets a variable of the session, now and in each session after it."""
        self._set_up[statement] = values
        with open_cursor(self._connection) as cursor:
            cursor.execute(statement, values)

    def commit(self) -> None:
        """Commit what was done since the last commit."""
        if self._changes:
            self._committing()
            self._changes = False
        self._connection.commit()
        self._spoke_at = time.monotonic()

    def close(self) -> None:
        """Close the connection."""
        with suppress(self.error):
            self._connection.close()

    @contextmanager
    def without_safe_point(self) -> Iterator[None]:
        """Don't stop within the block: what it writes must be written also when the work has to stop."""
        kept, self._safe_point = self._safe_point, _go_on
        try:
            yield
        finally:
            self._safe_point = kept

    def abandon(self) -> None:
        """End the session, in whatever state it is; the next transaction has another one."""
        self.close()
        self._lost = True

    def ping(self) -> bool:
        """Keep the session alive within a transaction; return False if the connection is lost."""
        try:
            self.read(PING)
        except self.error:
            return False
        self._spoke_at = time.monotonic()
        return True

    def run(
        self,
        work: Callable[[], Result],
        *,
        what: str,
        before_retry: Callable[[], None] = lambda: None,
        keep_locks: int = 0,
    ) -> Result:
        """Return what `work` returns; it ends with its own commit and may be called several times.

        Args:
            work: one transaction.
            what: names it in messages.
            before_retry: called before `work` is tried again, unless the locks were kept.
            keep_locks: `work` continues a transaction that holds row locks. In so many tries, an error that
                the server answers by taking back one statement doesn't end these locks.

        Raises:
            ConnectionRefused: the connection was lost, and the server refuses another one.
            TableError: the account lacks a right.
            WalkError: all tries failed, or it failed in a way that trying again can't mend.
        """
        tries = 0
        while True:
            tries += 1
            self._safe_point()
            try:
                self._begin_try(keep_locks=tries <= keep_locks)
                return work()
            except ConnectionRefused:
                raise
            except (self.error, DatabaseUnavailable) as error:
                code = code_of(error)
                lost = code in LOST or isinstance(error, DatabaseUnavailable)
                self._lost |= lost
                kept = self._undo_try(keep_locks=tries <= keep_locks and code in RETRIED)
                if code in DENIED:
                    raise TableError(f"{what}: {error}; grant the connection's account this right") from error
                if tries == self._tries or not (code in RETRIED or (lost and self._reconnect)):
                    advice = "; let the connection lead to the primary" if code in READ_ONLY else ""
                    raise WalkError(f"{what}, try {tries} of {self._tries}: {error}{advice}") from error
                if not kept:
                    before_retry()
                self.retries += 1
                logger.warning("event=retry what=%r try=%d error=%r", what, tries, error)
                # A sleep of this class may commit, which would end the locks.
                (time.sleep if kept else self.sleep)(min(0.1 * 2**tries, LONGEST_WAIT))
            except BaseException:
                # What the caller does next, such as closing an archive, may take long: not under locks.
                try:
                    self._connection.rollback()
                except self.error:
                    self.abandon()  # An answer is still on its way: only the end of the session rolls back.
                raise

    def _begin_try(self, *, keep_locks: bool) -> None:
        """Reconnect if the connection is lost, or mark the place to which `_undo_try` goes back."""
        if self._lost and self._reconnect:
            self.close()
            self._connection = self._reconnect()
            self._lost = False
            for statement, values in self._set_up.items():
                self.set_up(statement, values)
        if keep_locks:
            self._execute(SAVEPOINT)

    def _undo_try(self, *, keep_locks: bool) -> bool:
        """Undo a try; return whether the transaction goes on with the locks that it had before.

        After some errors, such as a deadlock, the server has ended the transaction: no savepoint is left.
        """
        if keep_locks:
            with suppress(self.error):
                self._execute(TO_SAVEPOINT)
                return True
        with suppress(self.error):
            self._connection.rollback()
        return False

    def _execute(self, statement: str) -> None:
        with open_cursor(self._connection) as cursor:
            cursor.execute(statement)

    def sleep(self, seconds: float) -> None:
        """Sleep between two transactions; call the safe point meanwhile, and keep the session alive."""
        end = time.monotonic() + seconds
        self._safe_point()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LONGEST_SLEEP))
            self._safe_point()
            if time.monotonic() - self._spoke_at > PING_EVERY:
                with suppress(self.error):  # A connection that is lost is the next transaction's business.
                    self.read(PING)
                    self.commit()
