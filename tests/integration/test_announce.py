from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.errors import AnnouncementError
from iam_watcher.jobs.announce import ENTRY_IS_OLD_AFTER, PENDING_KEY, SECRET_CHANGED, announcing
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from tests.integration import partitioned
from tests.integration.conftest import numbers
from tests.integration.test_drop_partitions import interrupted

CHANNEL = "iam.cluster.notifications"


@pytest.fixture
def heard(redis_client):
    """A function that returns what was published since the last call."""
    with redis_client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(CHANNEL)
        while subscription.get_message(timeout=5) is not None:
            pass

        def messages():
            # Our own message comes after everything that was published before it.
            redis_client.publish(CHANNEL, "end")
            found = []
            while (data := subscription.get_message(timeout=5)["data"]) != b"end":
                found.append(json.loads(data))
            return found

        yield messages


@pytest.fixture
def expired(iam):
    iam.run("INSERT INTO user (name, nickname, password, email) VALUES ('u', 'u', '', '')")
    iam.run(
        "INSERT INTO secret (name, username, secretID, secretKey, expires)"
        f" SELECT seq, 'u', seq, '', 1600000000 FROM {numbers(10)}"
    )
    return iam


def purge(announce=SECRET_CHANGED, **options):
    return PurgeRowsOperator(
        task_id="purge",
        table="secret",
        age_column="expires",
        age_unit="unix_seconds",
        grace_days=0,
        announce=announce,
        **options,
    )


def test_deleted_secrets_are_announced_once(expired, perform, heard, redis_client):
    perform(purge())
    assert heard() == [{"command": "SecretChanged"}]
    perform(purge())
    assert heard() == []
    assert redis_client.keys() == []


def test_a_dry_run_announces_nothing(expired, perform, heard):
    perform(purge(dry_run=True))
    assert heard() == []


def test_a_table_without_an_announcement_needs_no_redis(expired, perform, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", "redis://127.0.0.1:1")
    assert perform(purge(announce=None))["changed"] == 10


SAID = r"^A message .* SecretChanged on iam\.cluster\.notifications: "


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("redis://127.0.0.1:1", AnnouncementError, SAID + "iam_redis did not answer"),
        ("redis://127.0.0.1:1?cluster=true", AnnouncementError, SAID + r"127\.0\.0\.1:1 did not answer"),
        (None, AnnouncementError, SAID + "The connection 'iam_redis' is not defined. Create it"),
        # A retry can't help.
        ("redis://127.0.0.1:1/x", AirflowFailException, "'iam_redis' has as its database"),
    ],
)
def test_nothing_is_deleted_that_could_not_be_announced(expired, perform, monkeypatch, uri, error, message):
    if uri is None:
        monkeypatch.delenv("AIRFLOW_CONN_IAM_REDIS")
    else:
        monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", uri)
    with pytest.raises(error, match=message):
        perform(purge())
    assert expired.value("SELECT COUNT(*) FROM secret") == 10


def test_what_failed_to_be_announced_is_announced_by_the_next_run(expired, perform, redis_client, heard):
    redis_client.execute_command("ACL", "SETUSER", "default", "-publish")
    try:
        with pytest.raises(
            AnnouncementError, match=r"iam_redis refused .*: NOPERM .* rights that docs/lock.md"
        ):
            perform(purge())
    finally:
        redis_client.execute_command("ACL", "SETUSER", "default", "+publish")
    assert expired.value("SELECT COUNT(*) FROM secret") == 0
    assert heard() == []
    perform(purge())
    assert heard() == [{"command": "SecretChanged"}]


@pytest.mark.every_server
@pytest.mark.parametrize("earlier", [False, True])
def test_rows_that_go_with_their_partition_are_announced(scratch, perform, heard, monkeypatch, earlier):
    """Also those of a partition that an earlier run has left."""
    partitioned.create(scratch, bounds={"p1": "'2001-01-01'", "later": "MAXVALUE"})
    scratch.run("INSERT INTO t (id, day) VALUES (1, '2000-05-05')")
    if earlier:
        interrupted(monkeypatch, perform, "drop")
    assert perform(partitioned.purge(announce=SECRET_CHANGED))["changed"] == 1
    assert heard() == [{"command": "SecretChanged"}]


def fail_after_a_mark():
    with announcing(SECRET_CHANGED, "run") as mark:
        mark()
        raise ZeroDivisionError


def test_work_that_fails_is_announced_all_the_same(redis_client, heard):
    with pytest.raises(ZeroDivisionError):
        fail_after_a_mark()
    assert heard() == [{"command": "SecretChanged"}]
    assert redis_client.keys() == []


def test_a_run_leaves_the_mark_of_another_that_may_still_commit(redis_client, heard):
    """Else nobody would publish for a run that commits after our message and is then killed."""
    with announcing(SECRET_CHANGED, "alive") as mark:
        mark()
        with announcing(SECRET_CHANGED, "another"):
            assert heard() == [{"command": "SecretChanged"}]
        # Here the first run commits, and is killed.
        with announcing(SECRET_CHANGED, "next"):
            assert heard() == [{"command": "SecretChanged"}]
    assert heard() == [{"command": "SecretChanged"}]
    assert redis_client.keys() == []


def test_a_killed_run_is_published_for_until_its_mark_is_old(redis_client, heard):
    key = PENDING_KEY.format(channel=CHANNEL, command="SecretChanged")
    age = ENTRY_IS_OLD_AFTER.total_seconds()
    redis_client.zadd(key, {"old": time.time() - age - 1, "fresh": time.time() - age + 60})
    for _ in range(2):
        with announcing(SECRET_CHANGED, "next"):
            assert heard() == [{"command": "SecretChanged"}]
        assert redis_client.zrange(key, 0, -1) == [b"fresh"]


KILLED_AFTER_ITS_FIRST_COMMIT = """
    import os, signal
    from iam_watcher.database import transactions as transaction
    from iam_watcher.walk import pace
    from iam_watcher.jobs.announce import SECRET_CHANGED
    from iam_watcher.jobs.purge_rows import PurgeRowsOperator
    from iam_watcher.walk.walk import Walk

    write = Walk._write

    def and_die(walk, *arguments):
        write(walk, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    Walk._write = and_die

    from tests.integration.conftest import TaskInstance

    PurgeRowsOperator(
        task_id="purge", table="secret", age_column="expires", age_unit="unix_seconds", grace_days=0,
        announce=SECRET_CHANGED,
    ).execute({"ti": TaskInstance("killed")})
"""


def test_a_run_that_is_killed_after_a_commit_is_announced_by_the_next(expired, perform, heard):
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED_AFTER_ITS_FIRST_COMMIT)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert expired.value("SELECT COUNT(*) FROM secret") == 0
    assert heard() == []
    report = perform(purge())
    assert report["changed"] == 0
    assert heard() == [{"command": "SecretChanged"}]
