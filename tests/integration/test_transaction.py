"""Transactions that fail: what is rolled back, which errors are tried again, and how long it is waited."""

from __future__ import annotations

from contextlib import closing

import MySQLdb
import pytest

from iam_watcher.database import transactions as transaction
from iam_watcher.database.transactions import LONGEST_WAIT, TRIES, Transactions
from iam_watcher.errors import TableError, WalkError
from iam_watcher.walk.pace import Pace
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import ID, numbers
from tests.integration.test_account_lifecycle import disable, enable, secret
from tests.integration.test_archive import fill, purge
from tests.integration.test_disable_users import user
from tests.integration.test_restore_rows import restore

OLD = RowChange("`t`", ID, "`age` < 100")


@pytest.fixture
def table(scratch):
    """Keys 1 to 100, all to be deleted."""
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age int NOT NULL)")
    scratch.run(f"INSERT INTO t SELECT seq, 50 FROM {numbers(100)}")
    return scratch


@pytest.fixture
def waits(monkeypatch):
    """How long it was waited; none of it really is."""
    seconds = []
    monkeypatch.setattr(Transactions, "sleep", lambda _, wait: seconds.append(wait))
    return seconds


class Recording:
    """A recorder that notes the keys that it was to keep."""

    def __init__(self):
        self.kept = []
        self.refused = {}

    def lock(self, keys):
        return list(keys)

    def record(self, keys):
        self.kept += keys


def test_what_a_failed_transaction_wrote_is_not_committed_by_the_next(table, session, waits, monkeypatch):
    """Here in the search for a protected row: a part of the chunk is deleted, and not recorded yet."""
    table.run("CREATE TABLE child (t_id int NOT NULL, FOREIGN KEY (t_id) REFERENCES t (id))")
    table.run("INSERT INTO child VALUES (3)")
    db, recording = Transactions(session), Recording()
    change, deleted, there = db.change, [], []

    def fails_after_the_first_part(*arguments):
        if deleted == [0]:
            there.append(table.value("SELECT COUNT(*) FROM t"))
            deleted.append("failed")
            raise MySQLdb.OperationalError(1205, "made by the test")
        number = change(*arguments)
        if not deleted:
            deleted.append(0)
        return number

    monkeypatch.setattr(db, "change", fails_after_the_first_part)
    done = Walk(db, OLD, pace=Pace(target=1000, duty=1), recorder=recording).write()
    assert (there, db.retries) == ([100], 1)
    assert table.column("SELECT id FROM t") == [3]
    assert sorted(recording.kept) == [key for key in range(1, 101) if key != 3]
    assert done.changed == 99


def failing(code, times):
    """Return work that fails so often, and a list of its tries."""
    tries = []

    def work():
        tries.append(1)
        if len(tries) <= times:
            raise MySQLdb.OperationalError(code, "made by the test")
        return "done"

    return work, tries


def run(db, work):
    return db.run(work, what="work")


@pytest.mark.parametrize("code", [1020, 1205, 1206, 1213, 1317, 1969, 3024, 3101])
def test_some_errors_are_tried_again(session, waits, code):
    assert run(Transactions(session), failing(code, 2)[0]) == "done"
    assert len(waits) == 2


@pytest.mark.parametrize(
    "code",
    [1047, 1053, 1158, 1159, 1160, 1161, 1290, 1792, 1836, 1927, 2002, 2003, 2006, 2013, 2026, 2055, 4031],
)
def test_a_lost_connection_is_replaced_if_there_is_a_way(mariadb, scratch, waits, code):
    opened = []

    def connect():
        opened.append(mariadb.connect("scratch"))
        return opened[-1]

    with closing(Transactions(connect(), reconnect=connect)) as db:
        assert run(db, failing(code, 1)[0]) == "done"
        assert run(db, failing(code, 0)[0]) == "done"
        assert [one.open for one in opened] == [0, 1]
    assert [one.open for one in opened] == [0, 0]
    with (
        closing(Transactions(connect())) as db,
        pytest.raises(WalkError, match=rf"work, try 1 of 15: \({code}, 'made by the test'\)") as caught,
    ):
        run(db, failing(code, 1)[0])
    assert ("lead to the primary" in str(caught.value)) is (code in {1290, 1792, 1836})


def test_another_error_is_not_tried_again_on_another_connection(session, waits):
    work, tries = failing(1146, 1)
    with pytest.raises(WalkError, match="work, try 1 of 15"):
        run(Transactions(session, reconnect=lambda: pytest.fail("a new connection")), work)
    assert (len(tries), waits) == (1, [])


@pytest.mark.parametrize("code", [1044, 1142, 1143, 1227])
def test_a_missing_right_is_an_error_at_once(session, waits, code):
    work, tries = failing(code, 1)
    with pytest.raises(TableError, match=r"work: .*grant the connection's account this right"):
        run(Transactions(session), work)
    assert (len(tries), waits) == (1, [])


def test_the_waits_between_tries_grow_up_to_a_limit(session, waits):
    work, tries = failing(1205, TRIES)
    with pytest.raises(WalkError, match="try 15 of 15"):
        run(Transactions(session), work)
    assert len(tries) == TRIES
    assert waits == sorted(waits)
    assert (waits[0], waits[-1], len(waits)) == (0.2, LONGEST_WAIT, TRIES - 1)
    assert sum(waits) < 65


def test_a_silent_session_is_kept_alive_while_it_waits(mariadb, scratch, monkeypatch):
    """A connection that is lost meanwhile is the next transaction's business."""
    session = mariadb.connect("scratch")
    monkeypatch.setattr(transaction, "PING_EVERY", 0.0)
    monkeypatch.setattr(transaction, "LONGEST_SLEEP", 0.01)
    db, pings = Transactions(session), []
    read = db.read
    monkeypatch.setattr(db, "read", lambda query: pings.append(query) or read(query))
    before = db._spoke_at
    db.sleep(0.05)
    assert set(pings) == {transaction.PING}
    assert db._spoke_at > before
    scratch.run(f"KILL {session.thread_id()}")
    with pytest.raises(MySQLdb.OperationalError):
        read(transaction.PING)
    db.sleep(0.02)
    db.close()


def test_a_session_that_was_not_silent_for_long_is_left_alone(session, monkeypatch):
    db, asked = Transactions(session), []
    monkeypatch.setattr(db, "read", asked.append)
    db.sleep(0.01)
    assert asked == []


def test_no_sleep_is_too_short_to_be_a_safe_point(session):
    calls = []
    Transactions(session, lambda: calls.append("safe point")).sleep(0.0)
    assert calls == ["safe point"]


@pytest.fixture
def left_open(monkeypatch):
    """What the jobs do in transactions that have not ended when a job goes on, and may wait for long."""
    run, found = Transactions.run, []

    def checked(db, *arguments, what, **options):
        result = run(db, *arguments, what=what, **options)
        try:
            db.read("SET TRANSACTION READ WRITE")  # An error within a transaction.
        except MySQLdb.OperationalError as error:
            found.append((what, error))
        return result

    monkeypatch.setattr(Transactions, "run", checked)
    return found


@pytest.mark.every_server
def test_no_job_leaves_a_transaction_open(iam, scratch, redis_client, perform, tmp_path, left_open):
    location = f"file://{tmp_path}/archive"
    for name in ("one", "two"):
        user(iam, name)
        secret(iam, name, name, 0)
    user(iam, "due", logined="UTC_TIMESTAMP() - INTERVAL 178 DAY")
    options = {"on_disable": "expire_secrets", "exempt_names": ["two"]}
    assert perform(disable(location, dry_run=True, warn_days=[7], **options))["also"]["due_in_7_days"] == 1
    report = perform(disable(location, **options))
    assert report["changed"] == 1
    assert perform(enable(location, report["archive"], names=["one", "nobody"]))["enabled"] == 1
    fill(iam, 5)
    assert perform(purge(location, dry_run=True))["matched"] == 5
    report = perform(purge(location, where=[("name", "=", "n")], max_share=1))
    assert report["changed"] == 5
    assert perform(restore(location, report["archive"]))["restored"] == 5
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age bigint, KEY (age)) ENGINE InnoDB")
    scratch.run("INSERT INTO t VALUES (1, 1000000000)")
    job = purge(
        None, archive=None, table="t", age_column="age", age_unit="unix_seconds", mysql_conn_id="scratch"
    )
    assert perform(job)["changed"] == 1
    assert left_open == []
