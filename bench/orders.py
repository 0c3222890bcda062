"""The table of rows in a state, and the programs that process its rows: ours, and two loops.

The first loop selects a row, updates it to `work` and then to `normal`, each in a transaction of its own. The
second one locks a row with SKIP LOCKED and updates it in the same transaction.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from iam_watcher.database.session import set_up
from iam_watcher.database.transactions import Transactions
from iam_watcher.walk.claim import find_states, first_look
from iam_watcher.walk.claim.claims import Claims
from iam_watcher.walk.claim.function import caller
from iam_watcher.walk.claim.outcome import Processed
from iam_watcher.walk.claim.processing import Processing
from iam_watcher.walk.claim.renewal import Renewal
from iam_watcher.walk.pace import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.servers import MariaDB

BATCH = 500

CREATE = """
CREATE OR REPLACE TABLE orders (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, payload VARCHAR(200) NOT NULL DEFAULT '',
  status ENUM('pending', 'work', 'normal', 'failed') NOT NULL DEFAULT 'pending',
  claimed_at DATETIME(6) NULL, claimed_by VARCHAR(255) NULL,
  attempts INT UNSIGNED NOT NULL DEFAULT 0, retry_at DATETIME(6) NULL, error TEXT NULL,
  KEY due (status, retry_at)
) ENGINE = InnoDB
"""
FILL = "INSERT INTO orders (payload) SELECT REPEAT('x', 200) FROM seq_1_to_{rows}"

NAMES = find_states.Names(
    table="orders",
    state_column="status",
    pending="pending",
    done="normal",
    failed="failed",
    working="work",
    columns={
        "claimed_at_column": "claimed_at",
        "claimed_by_column": "claimed_by",
        "attempts_column": "attempts",
        "retry_at_column": "retry_at",
        "error_column": "error",
    },
    read=None,
    age_column=None,
    claimant="",
    claim_timeout=60.0,
    max_attempts=5,
    backoff=10.0,
)


def fill(server: MariaDB, rows: int) -> None:
    """Create the table with so many pending rows."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(CREATE)
        cursor.execute(FILL.format(rows=rows))
        connection.commit()
        cursor.execute("ANALYZE TABLE orders")
        cursor.fetchall()


def process(
    server: MariaDB, limits: Limits | None = None, function: Callable[[Any], None] = lambda _: None
) -> None:
    """Process the rows as an operator does."""

    def connect() -> Any:
        connection = server.connect()
        set_up(connection)
        return connection

    with ExitStack() as stack:
        db = stack.enter_context(closing(Transactions(connect(), reconnect=connect)))
        states = find_states.find(db, _names())
        first_look.check(db, states)
        renewal = stack.enter_context(Renewal(states, connect))
        Processing(
            db,
            states,
            caller(function, "row"),
            renewal=renewal,
            batch=BATCH,
            limits=limits or Limits(),
            stop_after=None,
        ).run()


def three_transactions(server: MariaDB) -> None:
    """Process the rows by the first loop."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit(True)
        while True:
            cursor.execute("SELECT id FROM orders WHERE status = 'pending' ORDER BY id LIMIT 1")
            found = cursor.fetchone()
            if found is None:
                return
            cursor.execute("UPDATE orders SET status = 'work' WHERE id = %s AND status = 'pending'", found)
            cursor.execute("UPDATE orders SET status = 'normal' WHERE id = %s", found)


def one_transaction(server: MariaDB) -> None:
    """Process the rows by the second loop."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.autocommit(False)
        while True:
            cursor.execute("SELECT id FROM orders WHERE status = 'pending' LIMIT 1 FOR UPDATE SKIP LOCKED")
            found = cursor.fetchone()
            if found is None:
                return
            cursor.execute("UPDATE orders SET status = 'normal' WHERE id = %s", found)
            connection.commit()


def rows_locked(server: MariaDB) -> int:
    """Return how many rows a claim locks that holds its locks."""
    with closing(server.connect()) as connection, closing(server.connect()) as other:
        set_up(connection)
        db = Transactions(connection)
        columns = {n: c for n, c in NAMES.columns.items() if not n.startswith("claimed")}
        names = find_states.Names(**{**vars(NAMES), "working": None, "columns": columns})
        Claims(db, find_states.find(db, names), Processed()).claim(BATCH)
        ((me,),) = db.read("SELECT CONNECTION_ID()")
        with other.cursor() as cursor:
            cursor.execute(
                "SELECT trx_rows_locked FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = %s",
                [me],
            )
            return int(cursor.fetchone()[0])


def _names() -> find_states.Names:
    return find_states.Names(**{**vars(NAMES), "claimant": os.urandom(16).hex()})
