"""Users are re-enabled: those that a run disabled and that are unchanged since, with their secrets.

Each reason to leave a user disabled is a test on the same undo record: hence the length.
"""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.accounts import user_enabler
from iam_watcher.archive.reader import ArchivedTry
from iam_watcher.database import transactions
from iam_watcher.database.throttle import Throttle
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import WalkError
from iam_watcher.jobs.table_job.disable_users_job import DisableUsersJob
from iam_watcher.walk.pace import Pace
from tests.integration.account_shapes import DJANGO
from tests.integration.account_shapes import enable as enable_accounts
from tests.integration.conftest import TaskInstance, numbers
from tests.integration.test_account_lifecycle import (
    SECRET_CHANGED,
    disable,
    enable,
    expiries,
    later,
    location,
    recorded,
    secret,
    with_secrets,
)
from tests.integration.test_announce import heard
from tests.integration.test_disable_users import LONG_AGO, enabled, user
from tests.integration.test_mysql_connection import account, connection

__all__ = ["account", "connection", "heard", "location", "with_secrets"]


pytestmark = pytest.mark.every_server


def test_re_enabling_is_exact(with_secrets, perform, location, heard):
    before = expiries(with_secrets)
    user(with_secrets, "disabled-before", status=0)
    report = perform(disable(location, on_disable="expire_secrets"))
    heard()
    back = perform(enable(location, report["undo_record"]))
    assert enabled(with_secrets) == {"inactive", "active"}
    assert expiries(with_secrets) == before
    assert (back["listed"], back["enabled"], back["secrets_restored"]) == (1, 1, 2)
    assert heard() == [SECRET_CHANGED]
    assert with_secrets.value(
        "SELECT loginedAt > UTC_TIMESTAMP() - INTERVAL 60 SECOND FROM user WHERE name = 'inactive'"
    )
    assert perform(disable(location))["changed"] == 0, "the clock of inactivity began anew"


def test_an_account_without_the_right_to_change_is_refused_at_the_start(
    iam, perform, location, connection, account
):
    user(iam, "inactive")
    report = perform(disable(location))
    account("GRANT SELECT ON iam.user TO spoilt")
    connection(account="spoilt:secret-word")
    with pytest.raises(AirflowFailException, match="UPDATE on user, without rows"):
        perform(enable(location, report["undo_record"], mysql_conn_id="other"))


def test_triggers_that_re_enabling_runs_are_named_in_a_warning(
    with_secrets, mariadb, perform, location, redis_client, caplog, monkeypatch
):
    """If the account may see them."""
    monkeypatch.setenv("AIRFLOW_CONN_IAM_MYSQL", mariadb.airflow_admin_uri)
    report = perform(disable(location, on_disable="expire_secrets"))
    for table, name, event in (
        ("user", "logs", "UPDATE"),
        ("user", "adds", "INSERT"),
        ("secret", "tells", "UPDATE"),
    ):
        with_secrets.run(f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW SET @seen = NEW.id")
    try:
        perform(enable(location, report["undo_record"]))
    finally:
        for name in ("logs", "adds", "tells"):
            with_secrets.run(f"DROP TRIGGER {name}")
    assert "An UPDATE of user runs the trigger logs, which may change more than these rows" in caplog.text
    assert "An UPDATE of secret runs the trigger tells" in caplog.text
    assert "adds" not in caplog.text


def test_re_enabling_twice_changes_nothing(with_secrets, perform, location, redis_client):
    report = perform(disable(location, on_disable="expire_secrets"))
    perform(enable(location, report["undo_record"]))
    later(with_secrets)
    before = with_secrets.rows("SELECT * FROM user"), with_secrets.rows("SELECT * FROM secret")
    back = perform(enable(location, report["undo_record"]))
    assert (back["enabled"], back["secrets_restored"], back["skipped"]) == (0, 0, {"enabled_already": 1})
    assert (with_secrets.rows("SELECT * FROM user"), with_secrets.rows("SELECT * FROM secret")) == before


def test_who_was_changed_since_is_left(iam, perform, location):
    for name in ("same", "mail", "gone", "again", "other-state"):
        user(iam, name)
    report = perform(disable(location), TaskInstance("first"))
    later(iam)
    iam.run("UPDATE user SET email = 'new' WHERE name = 'mail'")
    iam.run("UPDATE user SET status = 2 WHERE name = 'other-state'")
    iam.run("DELETE FROM user WHERE name = 'gone'")
    perform(enable(location, None, names=["again"]))
    iam.run(f"UPDATE user SET loginedAt = {LONG_AGO} WHERE name = 'again'")
    second = perform(disable(location), TaskInstance("second"))
    assert set(recorded(second["undo_record"])) == {"again"}
    back = perform(enable(location, report["undo_record"]))
    assert enabled(iam) == {"same"}
    assert back["skipped"] == {"changed_since": 3, "gone": 1}
    assert {(one["name"], one["why"]) for one in back["examples"]} == {
        ("mail", "changed_since"),
        ("again", "changed_since"),
        ("other-state", "changed_since"),
        ("gone", "gone"),
    }


def test_secrets_that_were_changed_since_are_left(with_secrets, perform, location, redis_client):
    report = perform(disable(location, on_disable="expire_secrets"))
    with_secrets.run("UPDATE secret SET expires = 5 WHERE name = 'never-expires'")
    with_secrets.run("DELETE FROM secret WHERE name = 'expires-later'")
    back = perform(enable(location, report["undo_record"]))
    assert (back["enabled"], back["secrets_restored"]) == (1, 0)
    assert back["secrets_left"] == {"changed_since": 1, "gone": 1}
    assert expiries(with_secrets)["never-expires"] == 5


def test_a_dry_run_changes_nothing(with_secrets, perform, location, heard):
    report = perform(disable(location, on_disable="expire_secrets"))
    heard()
    before = with_secrets.rows("SELECT * FROM user"), with_secrets.rows("SELECT * FROM secret")
    back = perform(enable(location, report["undo_record"], dry_run="True"))
    assert (back["enabled"], back["secrets_restored"]) == (1, 2)
    assert (with_secrets.rows("SELECT * FROM user"), with_secrets.rows("SELECT * FROM secret")) == before
    assert heard() == []


def test_some_of_a_run_can_be_picked(iam, perform, location):
    for name in ("one", "two", "three"):
        user(iam, name)
    report = perform(disable(location))
    back = perform(enable(location, report["undo_record"], names="['one', 'nobody']"))
    assert enabled(iam) == {"one"}
    assert (back["listed"], back["enabled"], back["skipped"]) == (2, 1, {"not_in_record": 1})


def test_names_of_a_report_are_compared_as_the_database_compares_them(iam, perform, location):
    for name in ("Müller", "other"):
        user(iam, name)
    report = perform(disable(location))
    back = perform(enable(location, report["undo_record"], names=["MULLER", "Müller", "nobody"]))
    assert enabled(iam) == {"Müller"}
    assert (back["listed"], back["enabled"]) == (3, 1)
    assert back["skipped"] == {"named_twice": 1, "not_in_record": 1}


def within_the_same_second(iam, change):
    """Change the user `inactive` so that updatedAt stays what the run made of it."""
    iam.run("SET timestamp = (SELECT UNIX_TIMESTAMP(updatedAt) FROM user WHERE name = 'inactive')")
    try:
        iam.run(f"UPDATE user SET {change} WHERE name = 'inactive'")
    finally:
        iam.run("SET timestamp = DEFAULT")


@pytest.mark.parametrize("change", ["email = 'new'", "isAdmin = 1", "status = 2", "createdAt = '2001-01-01'"])
def test_a_change_within_the_second_of_the_disabling_is_noticed(iam, perform, location, change):
    user(iam, "inactive")
    report = perform(disable(location))
    within_the_same_second(iam, change)
    assert perform(enable(location, report["undo_record"]))["skipped"] == {"changed_since": 1}
    assert enabled(iam) == set()


@pytest.fixture
def _without_checksums(monkeypatch):
    """Undo records as they were before they had checksums."""
    facts = DisableUsersJob.archive_facts
    monkeypatch.setattr(
        DisableUsersJob,
        "archive_facts",
        lambda job, plan: {k: v for k, v in facts(job, plan).items() if k != "checksum_of"},
    )


@pytest.mark.usefixtures("_without_checksums")
def test_a_record_without_checksums_still_works(iam, perform, location, caplog):
    user(iam, "inactive")
    report = perform(disable(location))
    within_the_same_second(iam, "status = 2")
    assert perform(enable(location, report["undo_record"]))["skipped"] == {"changed_since": 1}
    within_the_same_second(iam, "status = 0")
    assert perform(enable(location, report["undo_record"]))["enabled"] == 1
    assert "The undo record has no checksums" in caplog.text


@pytest.mark.usefixtures("_without_checksums")
@pytest.mark.parametrize(
    "change",
    [
        "name = 'other', updatedAt = updatedAt",
        "loginedAt = '2026-01-01', updatedAt = updatedAt",
        "updatedAt = updatedAt + INTERVAL 1 SECOND",
    ],
)
def test_without_checksums_name_login_and_time_of_change_are_compared(iam, perform, location, change):
    user(iam, "inactive")
    report = perform(disable(location))
    iam.run(f"UPDATE user SET {change}")
    assert perform(enable(location, report["undo_record"]))["skipped"] == {"changed_since": 1}


def test_a_table_that_lost_a_column_since_is_compared_without_checksums(iam, perform, location, caplog):
    user(iam, "inactive")
    iam.run("ALTER TABLE user ADD COLUMN extra INT NOT NULL DEFAULT 1")
    report = perform(disable(location))
    iam.run("ALTER TABLE user DROP COLUMN email")
    assert perform(enable(location, report["undo_record"]))["enabled"] == 1
    assert "had other columns then" in caplog.text


@pytest.mark.parametrize("column", ["id", "updatedAt", "secrets"])
def test_a_damaged_record_is_an_error(iam, perform, location, column, monkeypatch):
    user(iam, "inactive")
    report = perform(disable(location))
    rows = ArchivedTry.rows
    monkeypatch.setattr(
        ArchivedTry, "rows", lambda written: ({**line, column: [{}]} for line in rows(written))
    )
    with pytest.raises(AirflowFailException, match=r"(Expected|missing).*expected the undo record of a run"):
        perform(enable(location, report["undo_record"]))
    assert enabled(iam) == set()


# What others do at the same time


def before_the_write(monkeypatch, do):
    """Call `do` after the users and their secrets were read, and before they are written."""
    change = Transactions.change

    def and_then(db, query, values=None):
        if "`loginedAt` = %(login)s WHERE `id`" in query:
            do()
        return change(db, query, values)

    monkeypatch.setattr(Transactions, "change", and_then)


def test_users_and_secrets_are_locked_while_they_are_compared(
    with_secrets, perform, location, redis_client, monkeypatch
):
    report = perform(disable(location, on_disable="expire_secrets"))
    refused = []

    def others():
        with_secrets.run("SET innodb_lock_wait_timeout = 0")
        for statement in ("UPDATE user SET email = 'new'", "UPDATE secret SET expires = 7"):
            try:
                with_secrets.run(statement)
            except with_secrets.connection.Error as error:
                refused.append(error.args[0])

    before_the_write(monkeypatch, others)
    perform(enable(location, report["undo_record"]))
    assert refused == [1205, 1205]


def test_a_lock_on_the_secret_of_another_user_holds_nothing_up(
    iam, mariadb, perform, location, redis_client, monkeypatch
):
    """In a small table the server would rather look at all secrets, under lock."""
    for number in range(8):
        user(iam, f"user-{number}")
        secret(iam, number, f"user-{number}", 0)
    user(iam, "active", logined="UTC_TIMESTAMP()")
    secret(iam, "another", "active", 0)
    report = perform(disable(location, on_disable="expire_secrets"))
    iam.run("ANALYZE TABLE user, secret")
    monkeypatch.setattr(transactions, "TRIES", 1)
    with closing(mariadb.connect(autocommit=False)) as connection:
        connection.cursor().execute("SELECT * FROM secret WHERE username = 'active' FOR UPDATE")
        assert perform(enable(location, report["undo_record"]))["secrets_restored"] == 8


@pytest.fixture
def without_index(scratch):
    """The users `one`, `two` and `three`, who are disabled, in a table without an index on the name."""
    scratch.run(DJANGO.create.replace(" UNIQUE", ""))
    for name in ("one", "two", "three"):
        DJANGO.add(scratch, name, is_active=0)
    return scratch


def test_a_lock_on_another_user_holds_nothing_up(without_index, mariadb, perform, location, monkeypatch):
    monkeypatch.setattr(transactions, "TRIES", 1)
    with closing(mariadb.connect("scratch", autocommit=False)) as connection:
        connection.cursor().execute("SELECT * FROM auth_user WHERE id = 2 FOR UPDATE")
        back = perform(enable_accounts(DJANGO, location, None, names=["ONE", "three", "nobody"]))
    assert (back["enabled"], back["skipped"]) == (2, {"gone": 1})
    assert DJANGO.of(without_index, 1) == {"one", "three"}


def test_who_gets_another_name_meanwhile_is_not_enabled(without_index, perform, location, monkeypatch):
    read = Transactions.read

    def renamed_first(db, query, values=None):
        if "FOR UPDATE" in query:
            without_index.run("UPDATE auth_user SET username = 'four' WHERE id = 2")
        return read(db, query, values)

    monkeypatch.setattr(Transactions, "read", renamed_first)
    back = perform(enable_accounts(DJANGO, location, None, names=["one", "two"]))
    assert (back["enabled"], back["skipped"]) == (1, {"gone": 1})
    assert DJANGO.of(without_index, 1) == {"one"}


def test_a_user_who_is_not_disabled_any_more_is_not_written(iam, perform, location, monkeypatch):
    """The statement says so again, should the lock not hold."""
    user(iam, "inactive")
    report = perform(disable(location))
    monkeypatch.setattr(user_enabler, "LOCK", "")
    before_the_write(monkeypatch, lambda: iam.run("UPDATE user SET status = 2"))
    with pytest.raises(WalkError, match=r"0 of 1 users of user were enabled"):
        perform(enable(location, report["undo_record"]))
    assert iam.rows("SELECT status, loginedAt < NOW() - INTERVAL 1 DAY FROM user") == [(2, 1)]


@pytest.mark.parametrize("took_place", [True, False])
def test_a_commit_without_an_answer_is_reported(iam, perform, location, monkeypatch, took_place):
    user(iam, "inactive")
    report = perform(disable(location))
    commit, to_lose = Transactions.commit, []
    before_the_write(monkeypatch, lambda: to_lose or to_lose.extend(("the first", "no other")))

    def and_lose_the_answer(db):
        if "the first" not in to_lose:
            return commit(db)
        to_lose.remove("the first")
        if took_place:
            commit(db)
        raise db.error(2013, "Lost connection")

    monkeypatch.setattr(Transactions, "commit", and_lose_the_answer)
    back = perform(enable(location, report["undo_record"]))
    assert enabled(iam) == {"inactive"}
    assert (back["enabled"], back["unconfirmed"]) == ((0, 1) if took_place else (1, 0))
    assert back["skipped"] == {}


def test_names_alone_will_do(iam, perform, location):
    user(iam, "disabled", status=0)
    user(iam, "Müller", status=0)
    user(iam, "usable")
    user(iam, "in-another-state", status=2)
    names = ["DISABLED", "Muller", "Müller", "usable", "nobody", "in-another-state"]
    back = perform(enable(location, "", names=names))
    assert enabled(iam) == {"disabled", "Müller", "usable"}
    assert (back["undo_record"], back["listed"], back["enabled"]) == (None, 6, 2)
    assert back["skipped"] == {"changed_since": 1, "enabled_already": 1, "gone": 1, "named_twice": 1}


def test_many_users_come_back_in_batches(iam, perform, location):
    iam.run(
        "INSERT INTO user (name, nickname, password, email, loginedAt)"
        f" SELECT seq, '', '', '', {LONG_AGO} FROM {numbers(1700)}"
    )
    report = perform(disable(location, pace=Pace(0.002, 0.5)))
    assert perform(enable(location, report["undo_record"]))["enabled"] == 1700
    assert iam.value("SELECT COUNT(*) FROM user WHERE status = 0") == 0


@pytest.mark.parametrize("undo_record", ["", None, "None", "file:///elsewhere", "../x"])
def test_without_a_record_or_names_nobody_is_enabled(iam, perform, location, undo_record):
    user(iam, "disabled", status=0)
    with pytest.raises(AirflowFailException, match=r"neither undo_record nor names|expected a folder below"):
        perform(enable(location, undo_record))
    assert enabled(iam) == set()


def test_a_link_that_leads_out_of_the_location_is_refused(iam, perform, location, tmp_path):
    user(iam, "inactive")
    folder = Path(perform(disable(location))["undo_record"].removeprefix("file://"))
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AirflowFailException, match="is a link that leads out of"):
        perform(enable(location, f"file://{folder}"))


def test_an_archive_of_rows_is_no_report(iam, perform, location):
    from tests.integration.test_archive import fill, purge

    fill(iam, 1)
    with pytest.raises(AirflowFailException, match="has 'rows'; expected 'disabled_users'"):
        perform(enable(location, perform(purge(location))["archive"]))


@pytest.mark.parametrize("options", [{}, {"from_database": "other"}, {"from_database": "elsewhere"}])
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_record_of_another_database_enables_nobody(iam, elsewhere, perform, location, options, dry_run):
    user(iam, "inactive")
    report = perform(disable(location))
    iam.run(f"CREATE TABLE {elsewhere}.user LIKE user")
    iam.run(f"INSERT INTO {elsewhere}.user SELECT * FROM user")
    options = {"mysql_conn_id": elsewhere, "dry_run": dry_run, **options}
    there = enable(location, report["undo_record"], **options)
    expected = r"is of a run in the database 'iam'; expected .* set from_database='iam'"
    with pytest.raises(AirflowFailException, match=expected):
        perform(there)
    assert iam.column(f"SELECT status FROM {elsewhere}.user") == [0]
    named = enable(location, report["undo_record"], **{**options, "from_database": "iam"})
    assert perform(named)["enabled"] == 1
    assert iam.column(f"SELECT status FROM {elsewhere}.user") == [int(not dry_run)]
    assert enabled(iam) == set()


@pytest.mark.parametrize("rendered", ["", None, "None"])
def test_a_database_that_a_template_leaves_empty_is_that_of_the_connection(iam, perform, location, rendered):
    user(iam, "inactive")
    report = perform(disable(location))
    operator = enable(location, report["undo_record"], from_database="{{ params.database }}")
    operator.from_database = rendered
    assert perform(operator)["enabled"] == 1


def test_a_missing_right_to_enable_is_an_error(iam, mariadb, perform, location):
    user(iam, "inactive")
    report = perform(disable(location))
    iam.run(f"REVOKE UPDATE (loginedAt) ON iam.user FROM '{mariadb.user}'")
    with pytest.raises(AirflowFailException, match=r"UPDATE command denied.*grant"):
        perform(enable(location, report["undo_record"]))
    assert enabled(iam) == set()


def test_a_missing_right_to_restore_secrets_is_found_before_the_first_write(
    with_secrets, mariadb, perform, location, redis_client
):
    report = perform(disable(location, on_disable="expire_secrets"))
    with_secrets.run(f"REVOKE UPDATE (expires) ON iam.secret FROM '{mariadb.user}'")
    with pytest.raises(AirflowFailException, match=r"without rows.*UPDATE command denied.*secret"):
        perform(enable(location, report["undo_record"]))
    assert "inactive" not in enabled(with_secrets)


# Load


def test_the_server_is_waited_for(iam, perform, location):
    user(iam, "inactive")
    report = perform(disable(location))
    busy = Throttle(max_threads_running=0, patience=timedelta(microseconds=1))
    ti = TaskInstance("throttled")
    with pytest.raises(WalkError, match=r"threads are running, more than 0"):
        perform(enable(location, report["undo_record"], throttle=busy), ti)
    assert "threads are running, more than 0" in ti.xcom["return_value"]["error"]
    assert enabled(iam) == set()


def test_the_job_rests_as_its_pace_says(iam, perform, location, monkeypatch):
    user(iam, "inactive")
    report = perform(disable(location))
    sleeps, sleep = [], Transactions.sleep

    def noted(db, seconds):
        sleeps.append(seconds)
        sleep(db, 0)

    monkeypatch.setattr(Transactions, "sleep", noted)
    clock = SimpleNamespace(monotonic=iter([100.0, 103.0]).__next__)
    monkeypatch.setattr("iam_watcher.jobs.reenable_users.time", clock)
    perform(enable(location, report["undo_record"], pace="polite"))
    assert sleeps == [3.0]
