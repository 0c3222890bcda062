from __future__ import annotations

from contextlib import closing

from iam_watcher.jobs.session import set_up


def setting(connection, name):
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"SELECT @@SESSION.{name}")
        return cursor.fetchone()[0]


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
