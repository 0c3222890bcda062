"""What the original iam-watcher does wrong, shown on its own logic first, and that ours does it right.

The original's two jobs are written here from what is known of them: one reads the newest 1,000 active
users and writes each of them back whole, the other is one DELETE.

Each fault is shown on the original's jobs and on ours, which all tests share: hence the length.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta

import MySQLdb
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from iam_watcher.database.server_errors import LOCK_WAIT_TIMEOUT
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk.walk import Walk

LONG_AGO = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(days=400)
NEVER = datetime(1, 1, 1)  # noqa: DTZ001  the original's zero time: a NULL login is read as this


def original_disable(iam, days=180, *, between=lambda: None):
    """Disable users as the original does; `between` happens between its read and its writes."""
    if days == 0:
        return
    columns = iam.column("SHOW COLUMNS FROM user")
    users = iam.rows("SELECT * FROM user WHERE status = 1 ORDER BY id DESC LIMIT 1000")
    between()
    now = datetime.now(UTC).replace(tzinfo=None)
    for values in users:
        user = dict(zip(columns, values, strict=True))
        if (now - (user["loginedAt"] or NEVER)).days <= days:
            continue
        user["status"] = 0
        sets = ", ".join(f"`{column}` = %s" for column in columns)
        if not iam.run(f"UPDATE user SET {sets} WHERE id = %s", [*user.values(), user["id"]]):
            # Its library inserts what it can't update.
            iam.run(f"INSERT INTO user SET {sets}", list(user.values()))


def original_purge(connection, days=180):
    """Purge policy_audit as the original does."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM policy_audit WHERE deletedAt < NOW() - INTERVAL %s DAY", [days])
        return cursor.rowcount


def our_disable(days=180, *, between=None, **options):
    class WithSomethingBetween(DisableInactiveUsersOperator):
        def job(self):
            job = super().job()
            job.writing = lambda context: nullcontext(between or (lambda: None))
            return job

    return WithSomethingBetween(
        task_id="disable", max_inactive_days=days, **{"max_share": 1, "undo_location": "none", **options}
    )


def our_purge(days=180):
    return PurgeRowsOperator(
        task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=days
    )


@pytest.fixture
def users(iam):
    """A function that makes the table hold exactly these users: id → columns; inactive unless said."""

    def users(rows):
        iam.run("DELETE FROM user")
        defaults = {"password": "old", "loginedAt": LONG_AGO, "createdAt": LONG_AGO, "isAdmin": 0}
        iam.run_many(
            "INSERT INTO user (id, name, nickname, password, email, loginedAt, createdAt, isAdmin)"
            " VALUES (%(id)s, %(name)s, '', %(password)s, '', %(loginedAt)s, %(createdAt)s, %(isAdmin)s)",
            [{**defaults, "id": key, "name": f"user-{key}", **row} for key, row in rows.items()],
        )

    return users


def disabled(iam):
    return iam.column("SELECT id FROM user WHERE status = 0 ORDER BY id")


def test_only_the_newest_1000_users_were_looked_at(iam, users, perform):
    everyone = {key: {} for key in range(1, 1502)}
    users(everyone)
    original_disable(iam)
    assert len(disabled(iam)) == 1000
    users(everyone)
    perform(our_disable())
    assert len(disabled(iam)) == 1501


def test_a_login_made_meanwhile_was_lost_and_its_user_disabled(iam, users, perform):
    def login():
        iam.run("UPDATE user SET loginedAt = UTC_TIMESTAMP() WHERE id = 2")

    state = "SELECT status, loginedAt > UTC_TIMESTAMP() - INTERVAL 1 DAY FROM user WHERE id = 2"
    users({1: {}, 2: {}})
    original_disable(iam, between=login)
    assert iam.rows(state) == [(0, 0)]
    users({1: {}, 2: {}})
    perform(our_disable(between=login))
    assert iam.rows(state) == [(1, 1)]
    assert disabled(iam) == [1]


def test_a_password_changed_meanwhile_was_reverted(iam, users, perform):
    def change():
        iam.run("UPDATE user SET password = 'new' WHERE id = 1")

    users({1: {}})
    original_disable(iam, between=change)
    assert iam.column("SELECT password FROM user") == ["old"]
    users({1: {}})
    perform(our_disable(between=change))
    assert iam.rows("SELECT password, status FROM user") == [("new", 0)]


def test_a_user_deleted_meanwhile_was_resurrected(iam, users, perform):
    def delete():
        iam.run("DELETE FROM user WHERE id = 1")

    users({1: {}, 2: {}})
    original_disable(iam, between=delete)
    assert iam.column("SELECT id FROM user") == [1, 2]
    users({1: {}, 2: {}})
    perform(our_disable(between=delete))
    assert iam.column("SELECT id FROM user") == [2]


def test_who_never_logged_in_was_disabled_at_once(iam, users, perform):
    new = {1: {"loginedAt": None, "createdAt": datetime.now(UTC).replace(tzinfo=None)}}
    users(new)
    original_disable(iam)
    assert disabled(iam) == [1]
    users(new)
    perform(our_disable())
    assert disabled(iam) == []


def test_administrators_and_service_accounts_were_disabled(iam, users, perform):
    special = {1: {"isAdmin": 1}, 2: {"name": "svc-backup"}}
    users(special)
    original_disable(iam)
    assert disabled(iam) == [1, 2]
    users(special)
    perform(our_disable(exempt_names=["svc-*"]))
    assert disabled(iam) == []


def test_negative_days_disabled_everyone(iam, users, perform):
    a_minute_ago = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=1)
    someone = {1: {"loginedAt": a_minute_ago}}
    users(someone)
    original_disable(iam, days=-1)
    assert disabled(iam) == [1]
    users(someone)
    with pytest.raises(JobArgumentError):
        our_disable(days=-1)
    rendered = our_disable(days="{{ params.days }}")
    rendered.max_inactive_days = -1
    with pytest.raises(AirflowFailException):
        perform(rendered)
    assert disabled(iam) == []


def test_a_wrong_clock_or_setting_disabled_nearly_everyone(iam, users, perform):
    everyone = {key: {} for key in range(1, 11)}
    users(everyone)
    original_disable(iam)
    assert len(disabled(iam)) == 10
    users(everyone)
    with pytest.raises(AirflowFailException, match="The safety limit stopped the run"):
        perform(our_disable(max_share=0.5))
    assert disabled(iam) == []


@pytest.fixture
def audit(iam):
    """A function that makes policy_audit hold exactly these rows: id → days ago (None: a zero date)."""

    def audit(rows):
        iam.run("DELETE FROM policy_audit")
        iam.run_many(
            "INSERT INTO policy_audit (id, name, username, deletedAt) VALUES (%s, 'p', 'u',"
            " COALESCE(UTC_TIMESTAMP() - INTERVAL %s DAY, '0000-00-00'))",
            list(rows.items()),
        )

    return audit


def kept(iam):
    return iam.column("SELECT id FROM policy_audit ORDER BY id")


@pytest.mark.parametrize("days", [0, -1])
def test_zero_or_negative_days_emptied_the_audit_table(iam, audit, perform, days):
    audit({1: 1, 2: 400, 3: None})
    original_purge(iam.connection, days)
    assert kept(iam) == []
    audit({1: 1, 2: 400, 3: None})
    rendered = our_purge("{{ params.days }}")
    rendered.older_than_days = days
    with pytest.raises(AirflowFailException if days else AirflowSkipException):
        perform(rendered)
    assert kept(iam) == [1, 2, 3]


def test_a_zero_date_was_taken_for_an_old_one(iam, audit, perform):
    audit({1: 1, 2: 400, 3: None})
    original_purge(iam.connection)
    assert kept(iam) == [1]
    audit({1: 1, 2: 400, 3: None})
    assert perform(our_purge())["skipped"] == {"zero_date": 1}
    assert kept(iam) == [1, 3]


def insert_waits(mariadb):
    """Return whether an insert into policy_audit has to wait for someone."""
    with closing(mariadb.connect(init_command="SET innodb_lock_wait_timeout = 1")) as other:
        try:
            other.cursor().execute("INSERT INTO policy_audit (id, name, username) VALUES (1500, 'p', 'u')")
        except MySQLdb.OperationalError as error:
            if error.args[0] != LOCK_WAIT_TIMEOUT:
                raise
            return True
        other.cursor().execute("DELETE FROM policy_audit WHERE id = 1500")
        return False


def test_the_purge_was_one_delete_that_others_wait_for(iam, audit, mariadb, perform, monkeypatch):
    """An insert waits for the whole DELETE; in ours it passes even in the middle of a chunk."""
    rows = {key: 400 if key % 2 else 1 for key in (*range(1, 1400), *range(1600, 3000))}
    audit(rows)
    with closing(mariadb.connect(autocommit=False)) as connection:
        assert original_purge(connection) == 1400
        assert insert_waits(mariadb)
        connection.rollback()
    chunks, waits = [], []
    write = Walk._write

    def observed(walk, change, asked):
        # The row in the middle of the chunk's range: deleted, and not committed yet.
        with monkeypatch.context() as patch:
            patch.setattr(walk._db, "commit", lambda: None)
            written = write(walk, change, asked)
        chunks.append(asked)
        waits.append(insert_waits(mariadb))
        walk._db.commit()
        return written

    monkeypatch.setattr(Walk, "_write", observed)
    assert perform(our_purge())["changed"] == 1400
    assert not any(waits)
    assert len(chunks) > 1
    assert max(chunks) <= 1000


KILLED_IN_THE_MIDDLE = """
    import os, sys
    from iam_watcher.jobs.purge_rows import PurgeRowsOperator
    from iam_watcher.walk.walk import Walk

    write = Walk._write

    def stop_before_the_second_chunk(walk, *arguments):
        if walk.done.chunks:
            print("one chunk is done", flush=True)
            sys.stdin.read()
        return write(walk, *arguments)

    Walk._write = stop_before_the_second_chunk

    from tests.integration.conftest import TaskInstance

    PurgeRowsOperator(
        task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=180
    ).execute({"ti": TaskInstance("killed")})
"""


def test_a_crash_lost_all_work_and_blocked_until_its_rollback_ended(iam, audit, mariadb, perform):
    rows = dict.fromkeys([*range(1, 1400), *range(1600, 3000)], 400)
    audit(rows)
    with closing(mariadb.connect(autocommit=False)) as connection:
        original_purge(connection)
        killed = connection.thread_id()
        iam.run(f"KILL {killed}")
        with pytest.raises(MySQLdb.OperationalError):
            connection.commit()
    # The server drops the connection from its list when the rollback has ended.
    while iam.value("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = %s", [killed]):
        pass
    assert len(kept(iam)) == len(rows)

    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED_IN_THE_MIDDLE)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        for line in process.stdout:
            if line.startswith("one chunk is done"):
                break
        else:
            pytest.fail("the process ended before its second chunk")
        process.send_signal(signal.SIGKILL)
    left = len(kept(iam))
    assert 0 < left < len(rows)
    assert not insert_waits(mariadb)
    assert perform(our_purge())["changed"] == left
