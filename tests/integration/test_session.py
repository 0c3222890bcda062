from __future__ import annotations

from contextlib import closing

import pytest

from dev.servers import MariaDB
from iam_watcher.jobs.rows import Rows
from iam_watcher.jobs.session import set_up
from iam_watcher.jobs.transaction import Transactions
from iam_watcher.jobs.walk import Walk


@pytest.fixture(scope="module")
def binlog_server(tmp_path_factory):
    with MariaDB(tmp_path_factory.mktemp("binlog"), ["--log-bin=binlog", "--server-id=1"]) as server:
        server.create_schema()
        yield server


def setting(connection, name):
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"SELECT @@SESSION.{name}")
        return cursor.fetchone()[0]


@pytest.mark.parametrize(
    ("binlog_format", "isolation"),
    [("STATEMENT", "REPEATABLE-READ"), ("MIXED", "READ-COMMITTED"), ("ROW", "READ-COMMITTED")],
)
def test_every_binlog_format_works(binlog_server, binlog_format, isolation):
    with closing(binlog_server.connect()) as admin, closing(admin.cursor()) as cursor:
        cursor.execute("SET GLOBAL binlog_format = %s", [binlog_format])
        cursor.execute("DELETE FROM policy_audit")
        cursor.execute("INSERT INTO policy_audit (id, name, username) SELECT seq, '', '' FROM seq_1_to_500")
        with closing(binlog_server.connect(autocommit=False)) as connection:
            set_up(connection)
            assert setting(connection, "tx_isolation") == isolation
            rows = Rows(
                "`policy_audit`", "`id`", "`id` % 2 = 0".replace("%", "%%"), "DELETE FROM `policy_audit`"
            )
            assert Walk(Transactions(connection), rows).write().changed == 250


def test_the_session_is_the_same_whatever_the_server_says(mariadb):
    with closing(mariadb.connect(init_command="SET time_zone = '+08:00', sql_mode = 'ANSI'")) as connection:
        set_up(connection)
        assert setting(connection, "time_zone") == "+00:00"
        assert setting(connection, "sql_mode") == "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"
        assert setting(connection, "autocommit") == 0
        assert setting(connection, "innodb_lock_wait_timeout") == 1
        assert setting(connection, "max_statement_time") == 5


def test_a_statement_ends_before_the_mark_of_its_dead_worker(mariadb):
    """Otherwise a retry could begin while the server still works for the worker that was killed."""
    from iam_watcher.lock.keepalive import BUSY_TTL

    with closing(mariadb.connect()) as connection:
        set_up(connection)
        assert setting(connection, "max_statement_time") < BUSY_TTL
