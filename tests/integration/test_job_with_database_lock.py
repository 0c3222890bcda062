"""A table job under a Watcher's lock: its database lock, and what it does when another took over.

All tests need two runs and a look at the database between them: hence the length.
"""

from __future__ import annotations

from contextlib import closing, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import MySQLdb
import pytest

from iam_watcher import Lock, Watcher
from iam_watcher.database import database_lock as module
from iam_watcher.database.database_lock import DatabaseLock, database_lock_name
from iam_watcher.errors import LockLost, LockUnavailable
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.lock import current, renewal
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.renewal import LeaseRenewer
from tests.integration.conftest import numbers
from tests.integration.test_guard import grant_of

if TYPE_CHECKING:
    from redis import Redis as Client

    from dev.servers import MariaDB, Redis

BRIEF = Lock("clean", wait=timedelta(0))
AT_ONCE = {"retries": 1, "retry_delay": timedelta(0)}
ROWS = 12_000


@pytest.fixture
def old_rows(iam_schema: MariaDB) -> MariaDB:
    with closing(iam_schema.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO policy_audit (id, name, username, policyShadow, extendShadow, deletedAt)"
            f" SELECT seq, 'old', 'someone', '{{}}', '{{}}', NOW() - INTERVAL 400 DAY FROM {numbers(ROWS)}"
        )
    return iam_schema


def left(server: MariaDB) -> int:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM policy_audit")
        return cursor.fetchone()[0]


def watcher_of(dag_id: str, lock: Lock = BRIEF, **arguments: Any) -> Watcher:
    with Watcher(dag_id, schedule=None, lock=lock) as dag:
        PurgeRowsOperator(
            task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=180, **arguments
        )
    return dag


def state(run, task_id: str = "purge") -> str:
    (ti,) = [ti for ti in run.get_task_instances() if ti.task_id == task_id]
    return str(ti.state)


def tries(run, task_id: str = "purge") -> int:
    (ti,) = [ti for ti in run.get_task_instances() if ti.task_id == task_id]
    return ti.try_number


def in_mid_work(monkeypatch: pytest.MonkeyPatch, what) -> None:
    """Call `what` once, between the first chunk and the second."""
    from iam_watcher.walk.walk import Walk

    original, calls = Walk._next_transaction, []

    def chunk(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            what()
        return original(self, *arguments)

    monkeypatch.setattr(Walk, "_next_transaction", chunk)


def database_lock_holder(server: MariaDB) -> int | None:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT IS_USED_LOCK(%s)", (database_lock_name("iam", "clean"),))
        return cursor.fetchone()[0]


def test_it_writes_behind_its_database_lock(
    run_dag, redis_client: Client, old_rows: MariaDB, monkeypatch
) -> None:
    seen = []
    in_mid_work(monkeypatch, lambda: seen.append(database_lock_holder(old_rows)))
    assert state(run_dag(watcher_of("database_lock_taken"))) == "success"
    assert seen != [None]
    assert len(seen) == 1
    assert left(old_rows) == 0
    assert database_lock_holder(old_rows) is None


def test_without_a_database_lock_where_a_proxy_shares_sessions(
    run_dag, redis_client: Client, old_rows: MariaDB, monkeypatch
) -> None:
    seen = []
    in_mid_work(monkeypatch, lambda: seen.append(database_lock_holder(old_rows)))
    lock = Lock("clean", wait=timedelta(0), database_lock=False)
    assert state(run_dag(watcher_of("database_lock_off", lock=lock))) == "success"
    assert seen == [None]


def test_a_session_that_is_ended_is_replaced_and_the_job_goes_on(
    run_dag, redis_client: Client, old_rows: MariaDB, monkeypatch
) -> None:
    def end_session() -> None:
        with closing(old_rows.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("KILL CONNECTION %s", (database_lock_holder(old_rows),))

    in_mid_work(monkeypatch, end_session)
    assert state(run_dag(watcher_of("database_lock_killed"))) == "success"
    assert left(old_rows) == 0


def test_whose_session_was_ended_by_a_new_holder_stops_as_lost(
    run_dag, redis_client: Client, old_rows: MariaDB, monkeypatch
) -> None:
    rows = []

    def take_over() -> None:
        redis_client.set("clean", "x7Qy", px=60_000)
        with closing(old_rows.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("KILL CONNECTION %s", (database_lock_holder(old_rows),))
        rows.append(left(old_rows))

    in_mid_work(monkeypatch, take_over)
    run = run_dag(watcher_of("database_lock_lost"))
    assert (state(run), tries(run)) == ("failed", 1)
    assert left(old_rows) == rows[0] > 0
    assert redis_client.get("clean") == b"x7Qy"


@pytest.mark.parametrize("on_busy", ["skip", "fail"])
def test_a_database_lock_of_another_account_fails_the_work(
    run_dag, redis_client: Client, old_rows: MariaDB, monkeypatch, on_busy: str
) -> None:
    """Skipped, it would make a green run that did nothing."""
    monkeypatch.setattr(module, "TRIES", 1)
    lock = Lock("clean", wait=timedelta(0), on_busy=on_busy)
    with closing(old_rows.connect(autocommit=False)) as connection:
        DatabaseLock("clean", lease=60, verify=lambda: None).take(connection)
        run = run_dag(watcher_of(f"database_lock_foreign_{on_busy}", lock=lock, **AT_ONCE))
    assert (state(run), str(run.state), tries(run)) == ("failed", "failed", 2)
    assert left(old_rows) == ROWS


@pytest.mark.parametrize("fails", [False, True], ids=["connects again", "is tried again"])
def test_work_that_has_begun_and_finds_its_database_lock_taken_is_no_green_run(
    run_dag, redis_client: Client, old_rows: MariaDB, monkeypatch, fails: bool
) -> None:
    monkeypatch.setattr(module, "TRIES", 1)
    with closing(old_rows.connect(autocommit=False)) as connection:

        def take_over() -> None:
            with closing(old_rows.connect()) as other, other.cursor() as cursor:
                cursor.execute("KILL CONNECTION %s", (database_lock_holder(old_rows),))
            DatabaseLock("clean", lease=60, verify=lambda: None).take(connection)
            if fails:
                raise RuntimeError("the worker is out of memory")

        in_mid_work(monkeypatch, take_over)
        run = run_dag(watcher_of(f"database_lock_begun_{fails}".lower(), **AT_ONCE))
    assert (state(run), str(run.state)) == ("failed", "failed")
    assert 0 < left(old_rows) < ROWS


def test_a_lost_lock_fails_the_job_without_a_retry(
    run_dag, redis_client: Client, old_rows: MariaDB, monkeypatch
) -> None:
    def lose() -> None:
        redis_client.set("clean", "x7Qy", px=60_000)
        with pytest.raises(LockLost, match="another run acquired it"):
            current.verify(lambda: None)
        current._renewer.lease._valid_until = 0.0  # as if the lease were over

    in_mid_work(monkeypatch, lose)
    run = run_dag(watcher_of("database_lock_lost_lease"))
    assert (state(run), tries(run)) == ("failed", 1)
    assert 0 < left(old_rows) < ROWS


def test_a_redis_that_refuses_for_too_long_fails_the_try_and_a_retry_does_the_rest(
    run_dag, redis_client: Client, old_rows: MariaDB, monkeypatch
) -> None:
    from iam_watcher.lock import current, renewal

    seen = []

    def demote() -> None:
        redis_client.replicaof("127.0.0.1", "1")
        alive = current._renewer
        alive.try_renew()
        alive.lease._valid_until = 0.0  # as if it had asked until the lease was over

    def promote(context: Any) -> None:
        redis_client.replicaof("NO", "ONE")
        seen.append((str(context["exception"]), left(old_rows)))

    monkeypatch.setattr(
        renewal, "HEARTBEAT_TTL", 0.5
    )  # The retry waits for the mark, which could not be removed.
    in_mid_work(monkeypatch, demote)
    try:
        run = run_dag(watcher_of("database_lock_redis_away", on_retry_callback=promote, **AT_ONCE))
    finally:
        redis_client.replicaof("NO", "ONE")
    ((error, rows),) = seen
    assert "refused 'clean': READONLY" in error
    assert 0 < rows < ROWS
    assert (state(run), tries(run), left(old_rows)) == ("success", 2, 0)


def test_a_session_that_ends_while_redis_blinks_is_replaced_and_the_job_goes_on(
    run_dag, redis_client: Client, redis_server: Redis, old_rows: MariaDB, monkeypatch
) -> None:
    from iam_watcher.lock import renewal

    asked = []
    renew = renewal.LeaseRenewer.renew

    def renew_and_come_back(alive: renewal.LeaseRenewer) -> None:
        try:
            renew(alive)
        except LockUnavailable as error:
            asked.append(error)
            redis_server.resume()
            raise

    def end_session_and_blink() -> None:
        with closing(old_rows.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("KILL CONNECTION %s", (database_lock_holder(old_rows),))
        redis_server.pause()

    monkeypatch.setattr(renewal.LeaseRenewer, "renew", renew_and_come_back)
    in_mid_work(monkeypatch, end_session_and_blink)
    try:
        run = run_dag(watcher_of("database_lock_redis_blinks"))
    finally:
        redis_server.resume()
    assert asked
    assert (state(run), tries(run), left(old_rows)) == ("success", 1, 0)


@pytest.fixture
def two_tasks(iam_schema: MariaDB, redis_client: Client, monkeypatch):
    """Two tasks of one run under one lock: the lease of the first, the session with its database lock.

    The second one is this process's, as `current.start` would have left it.
    """
    monkeypatch.setattr(module, "TRIES", 1)
    grant = grant_of("a/dag/run", "skip")
    first, second = (Lease(redis_client, grant.key, grant.owner, ttl=60) for _ in range(2))
    for lease, task in ((first, "work/0"), (second, "work/1")):
        assert lease.acquire()
        assert lease.enter(task, "try-1", heartbeat_ttl=60)
    monkeypatch.setattr(current, "_renewer", LeaseRenewer(second, "work/1", "try-1", has_safe_points=True))
    monkeypatch.setattr(current, "_grant", grant)
    session = iam_schema.connect_as_watcher(autocommit=False)
    DatabaseLock("clean", lease=60, verify=lambda: None).take(session)
    yield first, session
    with suppress(MySQLdb.Error):
        session.close()


def test_a_task_does_not_end_the_session_of_another_task_at_work(two_tasks, iam_schema: MariaDB, monkeypatch):
    first, session = two_tasks
    waits = []

    def log(*arguments):
        waits.append(arguments)
        with closing(session.cursor()) as cursor:
            cursor.execute("SELECT 1")  # It lives.
        if len(waits) == 2:
            first.leave("work/0", "try-1")
            session.close()

    monkeypatch.setattr(module.logger, "info", log)
    with watcher_of("second").get_task("purge").transactions(locked=True) as (connection, _):
        assert database_lock_holder(iam_schema) == connection.thread_id()
    assert len(waits) == 2


def test_a_task_ends_the_session_of_another_task_that_is_over(two_tasks, iam_schema: MariaDB, monkeypatch):
    first, session = two_tasks
    first.leave("work/0", "try-1")
    monkeypatch.setattr(module.logger, "info", lambda *_: pytest.fail("nobody is to be waited for"))
    with watcher_of("second").get_task("purge").transactions(locked=True) as (connection, _):
        assert database_lock_holder(iam_schema) == connection.thread_id()
        with pytest.raises(MySQLdb.OperationalError):
            session.cursor().execute("SELECT 1")
