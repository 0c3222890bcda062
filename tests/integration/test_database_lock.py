"""The database lock: a lock in the database, in the session that writes."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import MySQLdb
import pytest

from iam_watcher.database import database_lock as module
from iam_watcher.database.database_lock import DatabaseLock, database_lock_name
from iam_watcher.errors import DatabaseLockTaken, LockLost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.servers import MariaDB

pytestmark = pytest.mark.every_server

NAME = database_lock_name("iam", "clean")


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIES", 1)


def database_lock(lease: float = 60.0, verify=lambda: None) -> DatabaseLock:
    return DatabaseLock("clean", lease=lease, verify=verify)


@contextmanager
def session(mariadb: MariaDB, account: str = "watcher") -> Iterator[MySQLdb.Connection]:
    connect = mariadb.connect_as_watcher if account == "watcher" else mariadb.connect
    with closing(connect(autocommit=False)) as connection:
        yield connection


def user_of(mariadb: MariaDB) -> int | None:
    with closing(mariadb.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT IS_USED_LOCK(%s)", (NAME,))
        return cursor.fetchone()[0]


def wait_until_free(mariadb: MariaDB) -> None:
    deadline = time.monotonic() + 15
    while user_of(mariadb) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("key", ["clean", "iam-watcher:" + "x" * 250, "a/b c"])
def test_a_name_fits_into_mysql(key: str) -> None:
    assert len(database_lock_name("iam", key)) <= 64


def test_the_same_key_in_two_databases_is_two_database_locks() -> None:
    assert (
        len(
            {
                database_lock_name("iam", "clean"),
                database_lock_name("staging", "clean"),
                database_lock_name("iam", "task"),
            }
        )
        == 3
    )


def test_it_is_the_sessions_and_survives_a_commit(iam_schema: MariaDB) -> None:
    with session(iam_schema) as connection:
        database_lock().take(connection)
        connection.commit()
        database_lock().take(connection)
        assert user_of(iam_schema) == connection.thread_id()
    wait_until_free(iam_schema)


def test_the_server_ends_a_session_that_is_silent_for_a_lease(iam_schema: MariaDB) -> None:
    """As one whose client was stopped, or vanished."""
    with session(iam_schema) as connection:
        database_lock(lease=1).take(connection)
        wait_until_free(iam_schema)
        with pytest.raises(MySQLdb.OperationalError):
            connection.cursor().execute("DELETE FROM policy_audit")


def test_a_session_that_ends_by_itself_is_waited_for(iam_schema: MariaDB) -> None:
    with session(iam_schema) as mine:
        other = iam_schema.connect_as_watcher()
        database_lock().take(other)
        threading.Timer(0.3, other.close).start()
        database_lock(verify=lambda: pytest.fail("nobody had to be ended")).take(mine)
        assert user_of(iam_schema) == mine.thread_id()


def test_a_session_that_outlived_its_lease_is_ended_and_named(iam_schema: MariaDB, caplog) -> None:
    with session(iam_schema) as old, session(iam_schema) as new:
        database_lock().take(old)
        database_lock().take(new)
        assert user_of(iam_schema) == new.thread_id()
        with pytest.raises(MySQLdb.OperationalError):
            old.cursor().execute("DELETE FROM policy_audit")
    assert f"connection {old.thread_id() if old.open else ''}".strip() in caplog.text
    assert "iam_watcher@127.0.0.1" in caplog.text
    assert "command Sleep" in caplog.text


def test_another_task_of_the_same_run_is_waited_for(iam_schema: MariaDB) -> None:
    asked = []
    with session(iam_schema) as mine:
        other = iam_schema.connect_as_watcher()
        database_lock().take(other)

        def others_at_work() -> bool:
            asked.append(user_of(iam_schema))
            if len(asked) == 2:
                other.close()
            return True

        DatabaseLock("clean", lease=60, verify=lambda: None, others_at_work=others_at_work).take(mine)
        assert user_of(iam_schema) == mine.thread_id()
    assert len(asked) >= 2
    assert None not in asked


@pytest.mark.parametrize("has_it", [True, False])
def test_a_lock_that_another_session_takes_first(iam_schema: MariaDB, monkeypatch, has_it: bool) -> None:
    monkeypatch.setattr(module, "_taken_within", lambda *_: False)
    with session(iam_schema) as old, session(iam_schema) as new:
        if has_it:
            old.cursor().execute("SELECT GET_LOCK(%s, 0)", (NAME,))
        ended = f"connection {old.thread_id()} was ended, but " if has_it else ""
        with pytest.raises(DatabaseLockTaken) as taken:
            database_lock().take(new)
    assert taken.value.facts == (
        f"'clean': {ended}another session has it now. The next try of the task tries again"
    )


def test_who_lost_the_lease_ends_no_one(iam_schema: MariaDB) -> None:
    def lost() -> None:
        raise LockLost

    with session(iam_schema) as old, session(iam_schema) as new:
        database_lock().take(old)
        with pytest.raises(LockLost):
            database_lock(verify=lost).take(new)
        assert user_of(iam_schema) == old.thread_id()


def test_another_accounts_session_is_left_and_named(iam_schema: MariaDB) -> None:
    with session(iam_schema, "admin") as old, session(iam_schema) as new:
        database_lock().take(old)
        with pytest.raises(DatabaseLockTaken, match="may not end it"):
            database_lock().take(new)
        assert user_of(iam_schema) == old.thread_id()
