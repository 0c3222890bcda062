"""The jobs at work while clients do theirs and the worker is killed at random moments.

Workers, clients and the kills among them are used by every test: hence the length.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import defaultdict
from contextlib import closing
from functools import partial

import pytest
from MySQLdb import OperationalError

from iam_watcher.database.server_errors import DEADLOCK
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk.pace import Pace
from tests.integration.conftest import Database, TaskInstance, numbers
from tests.integration.forks import FORKS
from tests.integration.test_archive import kept
from tests.integration.test_original_faults import original_disable

pytestmark = pytest.mark.usefixtures("path_for_forks", "printed_seed")

KILLS = int(os.environ.get("UNDER_FIRE_KILLS", "8"))

# So many are written until a worker is killed, at the most: the next one has work left.
ROWS = 4_000 * KILLS

# Short transactions without a rest: every other kill strikes within one.
SHORT = Pace(target=0.002, duty=1)


def disable(pace="fast", undo_location="none", **options):
    return DisableInactiveUsersOperator(
        task_id="disable",
        max_inactive_days=180,
        max_share=1,
        pace=pace,
        undo_location=undo_location,
        **options,
    )


def purge(pace="fast", **options):
    return PurgeRowsOperator(
        task_id="purge",
        table="policy_audit",
        age_column="deletedAt",
        older_than_days=180,
        pace=pace,
        **options,
    )


def work(job, environment, ready):
    os.environ.update(environment)  # the fork server may be older than the connection to Redis
    ready.send("ready")
    job(SHORT).execute({"ti": TaskInstance("killed")})


class Front:
    """The next row that a job has to write, by a query that is given the last one; clients are busy there."""

    def __init__(self, iam, query, key):
        self._iam = iam
        self._query = query
        self.key = key

    def look(self):
        for row in self._iam.rows(self._query, [self.key]):
            (self.key,) = row
        return self.key

    def near(self, *reach):
        return self.key + random.randrange(*reach)


def kill_at_random_moments(job, front):
    """Start the job again and again, kill it soon after it has made progress; return how often."""
    for killed in range(KILLS):
        before = front.look()
        ready, send = FORKS.Pipe(duplex=False)
        worker = FORKS.Process(target=work, args=(job, dict(os.environ), send))
        worker.start()
        ready.recv()
        while worker.is_alive() and front.look() == before:
            pass
        worker.join(random.uniform(0, 0.02))
        worker.kill()
        worker.join()
        if worker.exitcode != -signal.SIGKILL:
            assert worker.exitcode == 0
            return killed
    return KILLS


class Clients:
    """Threads that do what IAM's users do; each notes what was promised to them."""

    def __init__(self, mariadb, *actions, may_deadlock=False):
        self._may_deadlock = may_deadlock
        self.promises = defaultdict(dict)
        self._mariadb = mariadb
        self._stop = threading.Event()
        self._errors = []
        self._threads = [threading.Thread(target=self._run, args=(action,)) for action in actions]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self._errors == []

    def _run(self, action):
        try:
            with closing(self._mariadb.connect(init_command="SET time_zone = '+00:00'")) as connection:
                database = Database(connection)
                while not self._stop.wait(0.001):
                    try:
                        action(database, self.promises[action])
                    except OperationalError as error:
                        if not self._may_deadlock or error.args[0] != DEADLOCK:
                            raise
        except BaseException as error:
            self._errors.append(error)
            raise


def user_clients(users, near):
    """Each kind of client has users of its own: a key's last digit says whose it is, 5 to 9 are no one's."""

    def pick(digit):
        return near() % users // 10 * 10 + digit + 1

    def login(database, done):
        key = pick(0)
        if database.run("UPDATE user SET loginedAt = UTC_TIMESTAMP() WHERE id = %s AND status = 1", [key]):
            done[key] = "logged in"

    def change_password(database, done):
        key, password = pick(1), f"password-{random.random()}"
        database.run("UPDATE user SET password = %s WHERE id = %s", [password, key])
        done[key] = password

    def delete(database, done):
        key = pick(2)
        database.run("DELETE FROM user WHERE id = %s", [key])
        done[key] = "deleted"

    def enable(database, done):
        key = pick(3)
        database.run("UPDATE user SET status = 1, loginedAt = UTC_TIMESTAMP() WHERE id = %s", [key])
        done[key] = "enabled"

    def renew_secret(database, done):
        key, until = pick(4), random.randrange(3 * 10**9, 4 * 10**9)
        database.run("UPDATE secret SET expires = %s WHERE id = %s", [until, key])
        done[key] = until

    def create(database, done):
        key = users + 1 + len(done)
        database.run(
            "INSERT INTO user (id, name, nickname, password, email) VALUES (%s, %s, '', '', '')",
            [key, f"new-{key}"],
        )
        done[key] = "created"

    return login, change_password, delete, enable, renew_secret, create


def broken_promises(iam, clients, actions):
    """Return how many logins, passwords, deletions, … were lost."""
    login, change_password, delete, enable, renew_secret, create = actions
    rows = {row[0]: row[1:] for row in iam.rows("SELECT id, status, password, loginedAt FROM user")}
    secrets = dict(iam.rows("SELECT id, expires FROM secret"))
    expired = set(iam.rows("SELECT id, expires, expired FROM secret_writes"))
    today = iam.value("SELECT UTC_DATE()")
    broken = defaultdict(int)
    for action, done in clients.promises.items():
        for key, promise in done.items():
            status, password, logined = rows.get(key, (None, None, None))
            kept = {
                login: lambda s=status, at=logined: s == 1 and at.date() >= today,
                change_password: lambda p=password, promise=promise: p == promise,
                delete: lambda s=status: s is None,
                enable: lambda s=status, at=logined: s == 1 and at.date() >= today,
                create: lambda s=status: s == 1,
                renew_secret: lambda key=key, promise=promise: (
                    secrets[key] == promise or (key, promise, secrets[key]) in expired
                ),
            }[action]
            broken[action.__name__] += not kept()
    return dict(broken)


def fill_users(iam, users):
    """One of three users is active, the others have not been here for a year; each has a secret."""
    iam.run(
        "INSERT INTO user (id, name, nickname, password, email, loginedAt, createdAt)"
        " SELECT seq, CONCAT('user-', seq), '', 'old', '',"
        f" UTC_TIMESTAMP() - INTERVAL IF(seq % 3, 365, 1) DAY, '2020-01-01' FROM {numbers(users)}"
    )
    iam.run(
        "INSERT INTO secret (id, name, username, secretID, secretKey, expires)"
        " SELECT seq, '', CONCAT('user-', seq), seq, '', IF(seq % 4, 1, 0) * (4000000000 - seq)"
        f" FROM {numbers(users)}"
    )


# What the watchers' account writes, as the database itself sees it, in the same transactions.
LEDGERS = """
CREATE TABLE user_writes SELECT id, name, status, loginedAt, createdAt, updatedAt FROM user WHERE FALSE;
CREATE TRIGGER user_writes AFTER UPDATE ON user FOR EACH ROW
INSERT INTO user_writes SELECT NEW.id, NEW.name, NEW.status, NEW.loginedAt, NEW.createdAt, NEW.updatedAt
FROM DUAL WHERE USER() LIKE 'iam_watcher@%';
CREATE TABLE secret_writes SELECT id, username, expires, expires AS expired FROM secret WHERE FALSE;
CREATE TRIGGER secret_writes AFTER UPDATE ON secret FOR EACH ROW
INSERT INTO secret_writes SELECT NEW.id, NEW.username, OLD.expires, NEW.expires
FROM DUAL WHERE USER() LIKE 'iam_watcher@%';
CREATE TABLE audit_deletes SELECT id, username, deletedAt FROM policy_audit WHERE FALSE;
CREATE TRIGGER audit_deletes BEFORE DELETE ON policy_audit FOR EACH ROW
INSERT INTO audit_deletes VALUES (OLD.id, OLD.username, OLD.deletedAt)
"""


@pytest.fixture
def iam(iam):
    for statement in LEDGERS.split(";"):
        iam.run(statement)
    return iam


def test_the_original_breaks_promises(iam, mariadb):
    """The harness can tell: else it would prove nothing for ours."""
    fill_users(iam, 1_000)
    actions = user_clients(1_000, partial(random.randrange, 1_000))
    with Clients(mariadb, *actions) as clients:
        original_disable(iam)
    broken = broken_promises(iam, clients, actions)
    assert sum(broken.values()) > 0, broken


@pytest.mark.usefixtures("redis_client")
@pytest.mark.parametrize("on_disable", ["keep", pytest.param("expire_secrets", marks=pytest.mark.e2e)])
def test_no_promise_is_broken_and_no_work_left(iam, mariadb, perform, tmp_path, on_disable):
    users = ROWS // 2 * 3
    fill_users(iam, users)
    job = partial(disable, on_disable=on_disable)
    if on_disable == "expire_secrets":
        job = partial(job, undo_location=f"file://{tmp_path}/reports")
    is_no_ones = "MOD(id - 1, 10) > 4"
    front = Front(
        iam,
        f"SELECT id FROM user WHERE id >= %s AND status = 1 AND MOD(id, 3) AND {is_no_ones} LIMIT 1",
        key=0,
    )
    actions = user_clients(users, partial(front.near, -500, 1_500))
    no_ones = (
        "SELECT id, name, status, password, loginedAt, createdAt FROM user"
        f" WHERE id <= {users} AND {is_no_ones}"
    )
    before = iam.rows(no_ones)
    with Clients(mariadb, *actions) as clients:
        killed = kill_at_random_moments(job, front)
        report = perform(job(), TaskInstance("killed"))
    assert killed == KILLS
    assert all(clients.promises[action] for action in actions)
    assert set(broken_promises(iam, clients, actions).values()) == {0}
    expected = [(key, name, int(key % 3 == 0), *rest) for key, name, _, *rest in before]
    assert iam.rows(no_ones) == expected
    assert set(iam.column("SELECT status FROM user_writes")) == {0}
    if on_disable == "expire_secrets":
        assert_all_is_recorded(iam, report["undo_record"])
    else:
        assert iam.rows("SELECT * FROM secret_writes") == []
    perform(disable())
    assert iam.rows(no_ones) == expected


def assert_all_is_recorded(iam, url):
    """A report has everyone who was disabled and every secret that expired with them, as they were."""
    columns = ("id", "name", "loginedAt", "createdAt", "updatedAt")
    texts = ", ".join(f"CAST({column} AS CHAR)" for column in columns)
    disabled = {int(row[0]): row for row in iam.rows(f"SELECT {texts} FROM user_writes")}
    lines = kept(url, kind="disabled_users")
    assert {key: tuple(str(lines[key][column]) for column in columns) for key in disabled} == disabled
    recorded = {
        (secret["id"], lines[key]["name"], secret["expires"], secret["expired"])
        for key in disabled
        for secret in lines[key]["secrets"]
    }
    assert set(iam.rows("SELECT id, username, expires, expired FROM secret_writes")) == recorded
    # A client may have renewed its own since.
    assert iam.rows(
        "SELECT user.id FROM user JOIN secret ON username = user.name"
        " WHERE status = 0 AND (expires = 0 OR expires > UNIX_TIMESTAMP()) AND MOD(user.id - 1, 10) <> 4"
    ) == []  # fmt: skip
    # A kill may have saved some who are recorded, until a client logged them in, deleted or enabled them.
    assert {(key - 1) % 10 for key in lines.keys() - disabled.keys()} <= {0, 2, 3}


def audit_clients(near):
    def delete_a_policy(database, done):
        """The table's trigger copies it to policy_audit, between the old rows too."""
        key = len(done) * 10 + 5
        database.run("INSERT INTO policy (id, name, username) VALUES (%s, 'p', 'u')", [key])
        database.run("DELETE FROM policy WHERE id = %s", [key])
        done[key] = "deleted"

    def rejuvenate(database, done):
        key = near()
        if database.run(
            "UPDATE policy_audit SET deletedAt = UTC_TIMESTAMP(), name = 'kept'"
            " WHERE id = %s AND name = 'old'",
            [key],
        ):
            done[key] = "kept"

    def edit(database, done):
        key, username = near(), f"user-{random.random()}"
        if database.run(
            "UPDATE policy_audit SET username = %s WHERE id = %s AND name = 'old'", [username, key]
        ):
            done[key] = username

    return delete_a_policy, rejuvenate, edit


def fill_audit(iam, rows, *, old_one_in):
    """The order of the ages is the reverse of the order of the keys."""
    iam.run("INSERT INTO user (name, nickname, password, email) VALUES ('u', '', '', '')")
    iam.run(
        "INSERT INTO policy_audit (id, name, username, deletedAt)"
        f" SELECT seq * 10, IF(seq % {old_one_in}, 'young', 'old'), 'u',"
        f" UTC_TIMESTAMP() - INTERVAL IF(seq % {old_one_in}, 1, 365) DAY - INTERVAL seq SECOND"
        f" FROM {numbers(rows)}"
    )


# Keys in the order of the ids, which the table also has then.
OTHER_KEYS = {
    "two columns": [
        "ALTER TABLE policy_audit DROP PRIMARY KEY, ADD PRIMARY KEY (createdAt, id), ADD UNIQUE KEY (id)"
    ],
    "text": [
        "ALTER TABLE policy_audit ADD code varchar(40) CHARACTER SET utf8mb4 NOT NULL DEFAULT ''",
        "CREATE TRIGGER code BEFORE INSERT ON policy_audit FOR EACH ROW SET NEW.code = LPAD(NEW.id, 36, '0')",
        "ALTER TABLE policy_audit DROP PRIMARY KEY, ADD PRIMARY KEY (code), ADD UNIQUE KEY (id)",
    ],
}


@pytest.mark.parametrize(
    ("order", "other_key"),
    [
        ("key", None),
        pytest.param("index", None, marks=pytest.mark.e2e),
        pytest.param("key", "two columns", marks=pytest.mark.e2e),
        pytest.param("key", "text", marks=pytest.mark.e2e),
    ],
)
@pytest.mark.parametrize("archived", [pytest.param(False, marks=pytest.mark.e2e), True])
def test_the_audit_table_loses_the_old_rows_only(iam, mariadb, perform, tmp_path, order, other_key, archived):
    for statement in OTHER_KEYS.get(other_key, []):
        iam.run(statement)
    if order == "key":
        rows, old_one_in, step, where = 2 * ROWS, 2, 20, "id >= %s AND name = 'old' ORDER BY id"
    else:
        rows, old_one_in, step, where = 7 * ROWS, 14, -140, "id <= %s AND name = 'old' ORDER BY deletedAt"
        iam.run("CREATE INDEX deletedAt ON policy_audit (deletedAt)")
    fill_audit(iam, rows, old_one_in=old_one_in)
    iam.run("ANALYZE TABLE policy_audit")
    job = purge
    if archived:
        job = partial(purge, archive=f"file://{tmp_path}/archive")
    first = old_one_in * 10 if step > 0 else rows * 10
    front = Front(iam, f"SELECT id FROM policy_audit WHERE {where} LIMIT 1", first)
    actions = audit_clients(partial(front.near, 0, 1_000 * step, step))
    # The clients find a row by the second unique key and then lock it by the first, a delete the other way.
    with Clients(mariadb, *actions, may_deadlock=other_key is not None) as clients:
        killed = kill_at_random_moments(job, front)
        oldest_first = iam.value(
            "SELECT COUNT(*) = 0 FROM policy_audit"
            " WHERE name = 'old' AND deletedAt < (SELECT MAX(deletedAt) FROM audit_deletes)"
        )
        report = perform(job(), TaskInstance("killed"))
    assert killed == KILLS
    assert (report["order"], bool(oldest_first)) == (order, order == "index")
    delete_a_policy, rejuvenate, edit = (clients.promises[action] for action in actions)
    names = defaultdict(set)
    for key, name in iam.rows("SELECT id, name FROM policy_audit"):
        names[name].add(key)
    assert len(names.pop("young")) == rows - rows // old_one_in
    assert names == {"p": delete_a_policy.keys(), "kept": rejuvenate.keys()}
    if archived:
        gone = dict(iam.rows("SELECT id, username FROM audit_deletes"))
        archived = {key: row["username"] for key, row in kept(report["archive"]).items()}
        assert {key: archived[key] for key in gone} == gone
        assert gone.items() >= {key: user for key, user in edit.items() if key not in rejuvenate}.items()
        assert archived.keys() - gone.keys() <= rejuvenate.keys()
