"""Throttles a walk while the server is busy: one check, made about once a second, as gh-ost does it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from iam_watcher import arguments
from iam_watcher.database.connection import open_cursor
from iam_watcher.errors import DatabaseUnavailable, JobArgumentError, WalkError, shown_at_the_call
from iam_watcher.log_lines import WAITING_EVERY, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from iam_watcher.database.connection import Connection
    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

ASK_EVERY = 1.0  # seconds between two questions to the server

THREADS_RUNNING = "SHOW GLOBAL STATUS LIKE 'Threads_running'"
REPLICA_STATUS = "SHOW REPLICA STATUS"


@shown_at_the_call
@dataclass(frozen=True)
class Throttle:
    """When a job waits because the server is busy.

    Attributes:
        max_threads_running: the job waits while the server has more running threads, its own thread included.
            None: no limit.
        replica_conn_ids: ids of the Airflow connections of replicas. Their accounts need the right
            REPLICA MONITOR (MySQL: REPLICATION CLIENT).
        max_replica_lag: the job waits while a replica lags by more than this time, does not replicate, or
            does not answer.
        patience: if the job has to wait for longer than this time without a break, it fails and is retried.
    """

    max_threads_running: int | None = None
    replica_conn_ids: tuple[str, ...] = ()
    max_replica_lag: timedelta = timedelta(seconds=10)
    patience: timedelta = timedelta(minutes=10)

    def __post_init__(self) -> None:
        if self.max_threads_running is not None and (
            type(self.max_threads_running) is not int or self.max_threads_running < 0
        ):
            raise JobArgumentError(
                f"max_threads_running is {self.max_threads_running!r}; expected a whole number of 0 or more, "
                "or None"
            )
        if not isinstance(self.replica_conn_ids, (list, tuple)):
            raise JobArgumentError(
                f"replica_conn_ids is {arguments.unless_secret(self.replica_conn_ids)}; "
                "expected a tuple of connection ids"
            )
        for conn_id in self.replica_conn_ids:
            arguments.connection_id("replica_conn_ids", conn_id)
        arguments.instance("max_replica_lag", self.max_replica_lag, timedelta, "a timedelta")
        if self.max_replica_lag != Throttle.max_replica_lag and not self.replica_conn_ids:
            raise JobArgumentError(
                f"max_replica_lag is {self.max_replica_lag!r}, but replica_conn_ids is empty; expected the "
                "ids of the replicas' connections"
            )
        arguments.duration("patience", self.patience)


class ThrottleCheck:
    """Returns why a walk has to wait, or None. `close` closes the connections to replicas.

    Args:
        throttle: the limits.
        db: transactions on the server that is written to.
        connect: returns a new connection for a replica's connection id.
    """

    def __init__(self, throttle: Throttle, db: Transactions, connect: Callable[[str], Connection]) -> None:
        self._throttle = throttle
        self._db = db
        self._connect = connect
        self._replicas: dict[str, Connection] = {}

    def __call__(self) -> str | None:
        """Return why the walk has to wait, or None."""
        return self._threads() or next(filter(None, map(self._lag, self._throttle.replica_conn_ids)), None)

    def close(self) -> None:
        """Close the connections to the replicas."""
        for conn_id in list(self._replicas):
            self._forget(conn_id)

    def _threads(self) -> str | None:
        limit = self._throttle.max_threads_running
        if limit is None:
            return None
        ((_, running),) = self._db.run(lambda: self._db.read(THREADS_RUNNING), what="Threads_running")
        return f"{running} threads are running, more than {limit}" if int(running) > limit else None

    def _lag(self, conn_id: str) -> str | None:
        try:
            if conn_id not in self._replicas:
                self._replicas[conn_id] = self._connect(conn_id)
            with open_cursor(self._replicas[conn_id]) as cursor:
                cursor.execute(REPLICA_STATUS)
                rows, columns = cursor.fetchall(), [column[0] for column in cursor.description or ()]
        except (self._db.error, DatabaseUnavailable) as error:
            self._forget(conn_id)
            return f"replica {conn_id} can't be asked: {error}"
        # Seconds_Behind_Master on MariaDB, Seconds_Behind_Source on MySQL; NULL while a thread is stopped.
        # A replica of several sources has a row for each.
        lags = [
            value
            for row in rows
            for name, value in zip(columns, row, strict=True)
            if name.startswith("Seconds_Behind_")
        ]
        if not lags or None in lags:
            return f"{conn_id} is not replicating"
        behind = max(lags)
        limit = self._throttle.max_replica_lag.total_seconds()
        return f"replica {conn_id} is {behind} s behind, more than {limit:g}" if behind > limit else None

    def _forget(self, conn_id: str) -> None:
        connection = self._replicas.pop(conn_id, None)
        if connection is not None:
            with suppress(self._db.error):
                connection.close()


class Throttler:
    """Makes a walk wait while there is a reason to.

    Args:
        db: the transactions to wait between.
        what: is throttled, for messages.
        why: returns the reason to wait, or None; asked about once a second.
        patience: seconds to wait without a break.
    """

    def __init__(
        self, db: Transactions, what: str, why: Callable[[], str | None], *, patience: float
    ) -> None:
        self._db = db
        self._what = what
        self._why = why
        self._patience = patience
        self._ask_at = 0.0

    def wait(self, at_most: float | None = None, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Return when there is no reason to wait any more, or after so many seconds.

        Args:
            at_most: seconds; None for as long as the patience lasts.
            meanwhile: called once a second.

        Raises:
            WalkError: the patience is over.
        """
        began = log_at = time.monotonic()
        if began < self._ask_at:
            return
        while why := self._why():
            now = time.monotonic()
            waited = now - began
            if at_most is not None and waited >= at_most:
                return
            if waited > self._patience:
                raise WalkError(
                    f"{self._what} was throttled for {waited:.0f} s: {why}. Find out what keeps the server "
                    "busy, or raise the limit or the patience of the Throttle"
                )
            if now >= log_at:
                log_at = now + WAITING_EVERY
                logger.info("event=throttled table=%s waited=%.0f why=%r", self._what, waited, why)
            meanwhile()
            self._db.sleep(ASK_EVERY)
        self._ask_at = time.monotonic() + ASK_EVERY
