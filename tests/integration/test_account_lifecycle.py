"""The undo record has every disabled user before the commit, and each of them can be re-enabled.

Both jobs and the undo record between them are needed for each test: hence the length.
"""

from __future__ import annotations

import multiprocessing
import os
from contextlib import closing
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException

import iam_watcher.database.hook  # noqa: F401  else each worker would import it when its time runs already
from iam_watcher.accounts.disable_recorder import DisableRecorder
from iam_watcher.archive import reader as archive_reader
from iam_watcher.archive import writer as archive
from iam_watcher.database import transactions as transaction
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import ArchiveError
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.reenable_users import ReenableUsersOperator
from iam_watcher.walk import walk
from iam_watcher.walk.pace import ChunkSize
from tests.integration.conftest import TaskInstance
from tests.integration.test_announce import heard
from tests.integration.test_disable_users import LATELY, LONG_AGO, enabled, user

__all__ = ["heard"]

NOW = "UTC_TIMESTAMP()"
SECRET_CHANGED = {"command": "SecretChanged"}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.integration.test_account_lifecycle"])


@pytest.fixture
def location(tmp_path):
    return f"file://{tmp_path}/reports"


def disable(location, **options):
    return DisableInactiveUsersOperator(
        **{
            "task_id": "disable",
            "max_inactive_days": 180,
            "max_share": 1,
            "undo_location": location,
            **options,
        }
    )


def enable(location, report, **options):
    return ReenableUsersOperator(task_id="enable", location=location, undo_record=report, **options)


def recorded(url):
    """Return what an undo record says, by name."""
    return {
        line["name"]: line
        for written in archive_reader.find(url, kind="disabled_users")
        for line in written.rows()
    }


def secret(iam, name, owner, expires):
    iam.run(
        "INSERT INTO secret (name, username, secretID, secretKey, expires)"
        f" VALUES (%s, %s, %s, 'not-a-secret', {expires})",
        [name, owner, name],
    )


def later(iam):
    """Wait until the server's clock shows the next second: updatedAt has whole seconds."""
    iam.run("DO SLEEP(1.0 - MOD(NOW(6), 1) + 0.01)")


# The report


def test_the_report_says_who_and_why(iam, perform, location):
    user(iam, "inactive")
    user(iam, "never", logined="NULL")
    user(iam, "active", logined=LATELY)
    report = perform(disable(location))
    lines = recorded(report["undo_record"])
    assert set(lines) == {"inactive", "never"}
    for name, line in lines.items():
        row = iam.rows("SELECT id, CAST(updatedAt AS CHAR) FROM user WHERE name = %s", [name])[0]
        assert (line["id"], line["updatedAt"]) == row
        assert line["secrets"] == []
    assert lines["inactive"]["why"].startswith(f"last login {lines['inactive']['loginedAt']} before ")
    assert lines["never"]["why"].startswith(f"no login, and created {lines['never']['createdAt']} before ")
    assert lines["never"]["loginedAt"] is None
    assert b"'e'" not in Path(next(Path(location[7:]).rglob("*.json"))).read_bytes()


def test_the_configured_location_is_the_default(iam, perform, location, monkeypatch):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", location)
    user(iam, "inactive")
    report = perform(disable(None))
    assert report["undo_record"].startswith(f"{location}/user/dag/")
    assert set(recorded(report["undo_record"])) == {"inactive"}


def test_without_a_location_nobody_is_disabled(iam, perform):
    user(iam, "inactive")
    with pytest.raises(
        AirflowFailException, match=r"undo_location is not set and \[iam_watcher\] archive is empty"
    ):
        perform(disable(None))
    assert enabled(iam) == {"inactive"}
    assert perform(disable(None, dry_run=True))["matched"] == 1


def test_with_the_word_none_the_names_are_in_the_log(iam, perform, caplog, monkeypatch, location):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", location)
    names = [f"inactive-{number}" for number in range(6)]
    for name in names:
        user(iam, name)
    with caplog.at_level("INFO"):
        assert perform(disable("none"))["undo_record"] is None
    assert enabled(iam) == set()
    lines = [r.getMessage() for r in caplog.records if "without an undo record" in r.getMessage()]
    assert len(lines) == 2
    assert all(any(repr(name) in line for line in lines) for name in names)


def test_a_report_that_cannot_be_written_disables_nobody(iam, perform, tmp_path):
    user(iam, "inactive")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError):
        perform(disable(f"file://{tmp_path}/file"))
    assert enabled(iam) == {"inactive"}


def killed_before_the_commit(location, connections, reached):
    os.environ.update(connections)  # the fork server may be older than the connection to Redis
    record = DisableRecorder.record

    def and_stop(self, keys):
        record(self, keys)
        reached.send("recorded")
        reached.recv()

    DisableRecorder.record = and_stop
    disable(location, on_disable="expire_secrets").execute({"ti": TaskInstance("run")})


@pytest.fixture
def _killed(iam, location, redis_client, path_for_forks):
    """A run that disables two users and is killed between its report and its commit."""
    for name in ("one", "two"):
        user(iam, name)
        secret(iam, f"of-{name}", name, 0)
    connections = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_")}
    ours, theirs = FORKS.Pipe()
    worker = FORKS.Process(target=killed_before_the_commit, args=(location, connections, theirs))
    worker.start()
    theirs.close()
    ours.recv()
    worker.kill()
    worker.join()
    # The server rolls back when it sees that the client is gone.
    iam.run("UPDATE user SET nickname = nickname WHERE name = 'one'")
    assert enabled(iam) == {"one", "two"}
    assert set(iam.column("SELECT expires FROM secret")) == {0}


@pytest.mark.usefixtures("_killed")
def test_a_run_that_is_killed_before_its_commit_has_recorded_too_many_at_most(iam, location, perform):
    (run,) = Path(location.removeprefix("file://"), "user", "dag").iterdir()
    assert set(recorded(f"file://{run}")) == {"one", "two"}
    later(iam)
    iam.run(f"UPDATE user SET loginedAt = {NOW} WHERE name = 'two'")
    report = perform(disable(location, on_disable="expire_secrets"), TaskInstance("run", try_number=2))
    assert report["undo_record"] == f"file://{run}"
    assert (report["changed"], report["also"]) == (1, {"secrets_expired": 1})
    back = perform(enable(location, report["undo_record"]))
    assert (back["enabled"], back["skipped"]) == (1, {"enabled_already": 1})
    assert enabled(iam) == {"one", "two"}
    assert set(iam.column("SELECT expires FROM secret")) == {0}


# Secrets


@pytest.mark.usefixtures("redis_client")
def test_a_run_that_fails_halfway_reports_the_secrets_of_its_commits(iam, perform, location, monkeypatch):
    for name in ("one", "two", "three"):
        user(iam, name)
        secret(iam, f"of-{name}", name, 0)
    record, calls = DisableRecorder.record, []

    def fail_before_the_second_commit(self, keys):
        record(self, keys)
        calls.append(keys)
        if len(calls) == 2:
            raise ArchiveError("made by the test")

    monkeypatch.setattr(DisableRecorder, "record", fail_before_the_second_commit)
    monkeypatch.setattr(walk, "ChunkSize", lambda target: ChunkSize(target, rows=1))
    run = TaskInstance("run")
    with pytest.raises(ArchiveError, match="made by the test"):
        perform(disable(location, on_disable="expire_secrets"), run)
    report = run.xcom["return_value"]
    assert (report["changed"], report["also"]) == (1, {"secrets_expired": 1})
    assert sum(expires > 0 for expires in expiries(iam).values()) == 1


@pytest.fixture
def with_secrets(iam):
    user(iam, "inactive")
    user(iam, "active", logined=LATELY)
    secret(iam, "never-expires", "inactive", 0)
    secret(iam, "expires-later", "inactive", "UNIX_TIMESTAMP() + 1000000")
    secret(iam, "expired", "inactive", 1)
    secret(iam, "of-active", "active", 0)
    return iam


def expiries(iam):
    return dict(iam.rows("SELECT name, expires FROM secret"))


def test_secrets_go_on_working_unless_asked_for(with_secrets, perform, location, heard):
    before = expiries(with_secrets)
    report = perform(disable(location))
    assert expiries(with_secrets) == before
    assert report["also"] == {}
    assert heard() == []


def test_secrets_expire_with_their_user(with_secrets, perform, location, heard):
    before = expiries(with_secrets)
    report = perform(disable(location, on_disable="expire_secrets"))
    now = with_secrets.value("SELECT UNIX_TIMESTAMP()")
    after = expiries(with_secrets)
    assert {name for name in before if before[name] != after[name]} == {"never-expires", "expires-later"}
    assert now - 60 < after["never-expires"] == after["expires-later"] <= now
    assert report["also"] == {"secrets_expired": 2}
    assert [(s["expires"], s["expired"]) for s in recorded(report["undo_record"])["inactive"]["secrets"]] == [
        (0, after["never-expires"]),
        (before["expires-later"], after["never-expires"]),
    ]
    assert heard() == [SECRET_CHANGED]


def test_others_need_not_wait_for_a_run(iam, perform, location, redis_client, monkeypatch):
    """In a small table the server would rather look at everyone, under lock."""
    for number in range(30):
        user(iam, f"user-{number}", logined=LONG_AGO if number % 3 else LATELY)
        secret(iam, number, f"user-{number}", 0)
    iam.run("ANALYZE TABLE user, secret")
    add = archive.Archive.add

    def while_others_work(written, packed):
        iam.run("SET innodb_lock_wait_timeout = 0")
        for key in iam.column("SELECT id FROM user WHERE status = 1 AND MOD(id, 3) = 1"):
            iam.run(f"UPDATE user SET loginedAt = {NOW} WHERE id = %s", [key])
            iam.run("UPDATE secret SET expires = 1 WHERE id = %s", [key])
            secret(iam, f"another-{key}", f"user-{key - 1}", 0)
        add(written, packed)

    monkeypatch.setattr(archive.Archive, "add", while_others_work)
    monkeypatch.setattr(transaction, "TRIES", 1)
    assert perform(disable(location, on_disable="expire_secrets"))["changed"] == 20
    assert iam.value("SELECT COUNT(*) FROM secret WHERE name LIKE 'another-%'") == 10


@pytest.mark.every_server
@pytest.mark.parametrize("secrets", [0, 1])
def test_a_lock_on_the_secret_of_another_user_holds_nothing_up(
    iam, mariadb, perform, location, redis_client, monkeypatch, secrets
):
    for number in range(8):
        user(iam, f"user-{number}")
        for _ in range(secrets):
            secret(iam, number, f"user-{number}", 0)
    user(iam, "active", logined=LATELY)
    secret(iam, "another", "active", 0)
    iam.run("ANALYZE TABLE user, secret")
    monkeypatch.setattr(transaction, "TRIES", 1)
    with closing(mariadb.connect(autocommit=False)) as connection:
        connection.cursor().execute("SELECT * FROM secret WHERE username = 'active' FOR UPDATE")
        report = perform(disable(location, on_disable="expire_secrets"))
    assert (report["changed"], report["also"]) == (8, {"secrets_expired": 8 * secrets})


@pytest.mark.every_server
@pytest.mark.parametrize("change", ["username = 'active'", "expires = 1"])
def test_a_secret_that_changes_before_it_is_locked_is_left(
    with_secrets, perform, location, redis_client, monkeypatch, change
):
    read = Transactions.read

    def changed_first(db, query, values=None):
        if "FROM `secret`" in query and "FOR UPDATE" in query:
            with_secrets.run(f"UPDATE secret SET {change} WHERE name = 'never-expires'")
        return read(db, query, values)

    monkeypatch.setattr(Transactions, "read", changed_first)
    report = perform(disable(location, on_disable="expire_secrets"))
    assert report["also"] == {"secrets_expired": 1}
    left = "expires = 0 AND username = 'active'" if "username" in change else "expires = 1"
    assert with_secrets.column(f"SELECT name FROM secret WHERE {left}").count("never-expires") == 1


@pytest.mark.parametrize("on_disable", ["expire_secrets", "keep"])
def test_what_the_server_changes_with_the_secrets_is_named_before_the_first_write(
    with_secrets, mariadb, perform, location, redis_client, caplog, monkeypatch, on_disable
):
    monkeypatch.setenv("AIRFLOW_CONN_IAM_MYSQL", mariadb.airflow_admin_uri)
    with_secrets.run("CREATE TRIGGER tells AFTER UPDATE ON secret FOR EACH ROW SET @seen = NEW.id")
    with_secrets.run("ALTER TABLE secret ADD changed datetime ON UPDATE CURRENT_TIMESTAMP")
    try:
        report = perform(disable(location, on_disable=on_disable, dry_run=True))
    finally:
        with_secrets.run("DROP TRIGGER tells")
        with_secrets.run("ALTER TABLE secret DROP changed")
    expires = on_disable == "expire_secrets"
    assert ("The UPDATE on secret changes more than these rows" in caplog.text) is expires
    assert report["side_effects"] == ["trigger tells"] * expires
    assert ("sets changed of secret, a DATETIME" in caplog.text) is expires


def test_secrets_need_a_place_for_their_old_values(with_secrets, perform, redis_client):
    for dry_run in (True, False):
        with pytest.raises(
            AirflowFailException, match="needs an undo record, but there is no location for one"
        ):
            perform(disable(None, on_disable="expire_secrets", dry_run=dry_run))
    assert enabled(with_secrets) == {"inactive", "active"}


def test_a_missing_right_is_found_before_the_first_write(
    with_secrets, mariadb, perform, location, redis_client
):
    with_secrets.run(f"REVOKE UPDATE (expires) ON iam.secret FROM '{mariadb.user}'")
    with_secrets.run("DELETE FROM secret")  # the first users may have none
    with pytest.raises(AirflowFailException, match=r"UPDATE command denied.*secret"):
        perform(disable(location, on_disable="expire_secrets"))
    assert enabled(with_secrets) == {"inactive", "active"}


# Limits


def test_new_accounts_have_their_time(iam, perform, location):
    """Such as one that was copied from another system, with the last login it had there."""
    user(iam, "new", created=f"{NOW} - INTERVAL 29 DAY")
    user(iam, "old", created=f"{NOW} - INTERVAL 31 DAY")
    user(iam, "zero", created="'0000-00-00'")
    user(iam, "admin", created=NOW, admin=1)
    assert perform(disable(location, min_age_days=30, dry_run=True))["eligible"] == 2
    report = perform(disable(location, min_age_days="30"))
    assert enabled(iam) == {"new", "admin"}
    assert report["skipped"] == {"admin": 1, "new_account": 1}


def test_a_run_disables_as_many_as_it_may(iam, run_dag, location):
    from airflow.sdk import DAG

    for number in range(5):
        user(iam, f"user-{number}")
    with DAG("limited", schedule=None) as dag:
        disable(location, max_rows="2")
    for left in (3, 1, 0):
        (ti,) = run_dag(dag).get_task_instances()
        assert len(enabled(iam)) == left
        assert len(recorded(ti.xcom_pull(task_ids="disable")["undo_record"])) == min(
            2, left + 2 if left else 1
        )


@pytest.mark.usefixtures("_settings_of_a_server", "redis_client")
def test_the_servers_own_settings_change_nothing(iam, perform, location):
    """Neither who is disabled, nor what is recorded, nor what comes back."""
    for hour in range(11, -12, -1):
        ago = f"INTERVAL {hour} HOUR - INTERVAL 30 MINUTE"
        user(iam, f"login {hour}", logined=f"{NOW} - INTERVAL 180 DAY - {ago}")
        user(iam, f"creation {hour}", logined="NULL", created=f"{NOW} - INTERVAL 180 DAY - {ago}")
        user(iam, f"new {hour}", created=f"{NOW} - INTERVAL 30 DAY - {ago}")
        secret(iam, hour, f"login {abs(hour)}", f"UNIX_TIMESTAMP() + {hour * 3600 + 1800}")
    user(iam, "100%_'\\-1")
    everyone, secrets = enabled(iam), expiries(iam)
    report = perform(
        disable(location, on_disable="expire_secrets", min_age_days=30, exempt_names=["100%_'\\-*"])
    )
    inactive = {f"{kind} {hour}" for kind in ("login", "creation", "new") for hour in range(12)}
    assert everyone - enabled(iam) == inactive
    assert report["also"] == {"secrets_expired": 12}
    columns = ("loginedAt", "createdAt", "updatedAt")
    texts = ", ".join(f"CAST({column} AS CHAR)" for column in columns)
    assert {
        (name, *(line[column] for column in columns))
        for name, line in recorded(report["undo_record"]).items()
    } == set(iam.rows(f"SELECT name, {texts} FROM user WHERE status = 0"))
    assert perform(enable(location, report["undo_record"]))["enabled"] == 36
    assert (enabled(iam), expiries(iam)) == (everyone, secrets)
