"""The table of rows in a state, and the programs that process its rows: ours, and two loops.

The first loop selects a row, updates it to `work` and then to `normal`, each in a transaction of its own. The
second one locks a row with SKIP LOCKED and updates it in the same transaction.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from bench import walking
from iam_watcher.database.session import set_up
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.process_rows import ProcessRowsOperator
from iam_watcher.walk.claim import find_states
from iam_watcher.walk.claim.claims import Claims
from iam_watcher.walk.claim.outcome import Processed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from dev.servers import MariaDB

CONNECTION = "bench_rows"
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

COLUMNS = {"attempts_column": "attempts", "retry_at_column": "retry_at", "error_column": "error"}


def fill(server: MariaDB, rows: int) -> None:
    """Create the table with so many pending rows."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(CREATE)
        cursor.execute(FILL.format(rows=rows))
        connection.commit()
        cursor.execute("ANALYZE TABLE orders")
        cursor.fetchall()


def process(
    server: MariaDB,
    function: Callable[[Any], None] = lambda _: None,
    *,
    max_rows: int | None = None,
    time_budget: timedelta | None = None,
) -> None:
    """Process the rows by our operator."""
    operator = ProcessRowsOperator(
        task_id="process",
        mysql_conn_id=CONNECTION,
        python_callable=function,
        table="orders",
        state_column="status",
        claim="pending",
        done="normal",
        failed="failed",
        working="work",
        **COLUMNS,  # type: ignore[arg-type]
        batch=BATCH,
        max_rows=max_rows,
        time_budget=time_budget,
    )
    walking.perform(server, operator, as_admin=True)


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
        names = find_states.Names(
            table="orders",
            state_column="status",
            pending="pending",
            done="normal",
            failed="failed",
            working=None,
            columns=COLUMNS,
            read=None,
            age_column=None,
            claimant="",
            claim_timeout=60.0,
            max_attempts=5,
            backoff=10.0,
        )
        Claims(db, find_states.find(db, names), Processed()).claim(BATCH)
        ((me,),) = db.read("SELECT CONNECTION_ID()")
        with other.cursor() as cursor:
            cursor.execute(
                "SELECT trx_rows_locked FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = %s",
                [me],
            )
            return int(cursor.fetchone()[0])
