"""The jobs at work while clients do theirs and the worker is killed at random moments."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
from collections import defaultdict
from contextlib import closing

import pytest

import iam_watcher.jobs.hook  # noqa: F401  else each worker would import it when its time runs already
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.pace import Pace
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from tests.integration.conftest import Database, TaskInstance
from tests.integration.test_original_faults import original_disable

KILLS = int(os.environ.get("UNDER_FIRE_KILLS", "8"))

# The workers are forked from a process that has all imports done: a kill can come at any moment of the work.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.integration.test_under_fire"])

# So many are written until a worker is killed, at the most: the next one has work left.
ROWS = 3_000 * KILLS

UNHURRIED = Pace(target=0.002, duty=0.1)


def disable(pace="fast"):
    return DisableInactiveUsersOperator(task_id="disable", max_inactive_days=180, max_share=1, pace=pace)


def purge(pace="fast"):
    return PurgeRowsOperator(
        task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=180, pace=pace
    )


def work(job, ready):
    ready.send("ready")
    job(UNHURRIED).execute({"ti": TaskInstance("killed")})


def kill_at_random_moments(job, progress):
    """Start the job again and again, kill it soon after it has made progress; return how often."""
    for killed in range(KILLS):
        before = progress()
        ready, send = FORKS.Pipe(duplex=False)
        worker = FORKS.Process(target=work, args=(job, send))
        worker.start()
        ready.recv()
        while worker.is_alive() and progress() == before:
            pass
        worker.join(random.uniform(0, 0.05))
        worker.kill()
        worker.join()
        if worker.exitcode != -signal.SIGKILL:
            assert worker.exitcode == 0
            return killed
    return KILLS


class Clients:
    """Threads that do what IAM's users do; each notes what was promised to them."""

    def __init__(self, mariadb, *actions):
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
                    action(database, self.promises[action])
        except BaseException as error:
            self._errors.append(error)
            raise


def user_clients(users):
    """Each kind of client has users of its own: a key's last digit says whose it is, 5 to 9 are no one's."""

    def pick(digit):
        return random.randrange(users // 10) * 10 + digit + 1

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

    def create(database, done):
        key = users + 1 + len(done)
        database.run(
            "INSERT INTO user (id, name, nickname, password, email) VALUES (%s, %s, '', '', '')",
            [key, f"new-{key}"],
        )
        done[key] = "created"

    return login, change_password, delete, enable, create


def broken_promises(iam, clients, actions):
    """Return how many logins, passwords, deletions, … were lost."""
    login, change_password, delete, enable, create = actions
    rows = {row[0]: row[1:] for row in iam.rows("SELECT id, status, password, loginedAt FROM user")}
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
            }[action]
            broken[action.__name__] += not kept()
    return dict(broken)


def fill_users(iam, users):
    """One of three users is active, the others have not been here for a year."""
    iam.run(
        "INSERT INTO user (id, name, nickname, password, email, loginedAt, createdAt)"
        " SELECT seq, CONCAT('user-', seq), '', 'old', '',"
        f" UTC_TIMESTAMP() - INTERVAL IF(seq % 3, 365, 1) DAY, '2020-01-01' FROM seq_1_to_{users}"
    )


def test_the_original_breaks_promises(iam, mariadb):
    """The harness can tell: else it would prove nothing for ours."""
    fill_users(iam, 1_000)
    actions = user_clients(1_000)
    with Clients(mariadb, *actions) as clients:
        original_disable(iam)
    broken = broken_promises(iam, clients, actions)
    assert sum(broken.values()) > 0, broken


def test_no_promise_is_broken_and_no_work_left(iam, mariadb, perform):
    users = ROWS
    fill_users(iam, users)
    actions = user_clients(users)
    no_ones = (
        "SELECT id, name, status, password, loginedAt, createdAt FROM user"
        " WHERE id <= %s AND MOD(id - 1, 10) > 4"
    )
    before = iam.rows(no_ones, [users])
    with Clients(mariadb, *actions) as clients:
        killed = kill_at_random_moments(
            disable, lambda: iam.value("SELECT COUNT(*) FROM user WHERE status = 0")
        )
        perform(disable())
    assert killed == KILLS
    assert all(clients.promises[action] for action in actions)
    assert set(broken_promises(iam, clients, actions).values()) == {0}
    expected = [(key, name, int(key % 3 == 0), *rest) for key, name, _, *rest in before]
    assert iam.rows(no_ones, [users]) == expected
    perform(disable())
    assert iam.rows(no_ones, [users]) == expected


def test_the_audit_table_loses_the_old_rows_only(iam, mariadb, perform):
    iam.run("INSERT INTO user (name, nickname, password, email) VALUES ('u', '', '', '')")
    iam.run(
        "INSERT INTO policy_audit (id, name, username, deletedAt)"
        " SELECT seq * 10, IF(seq % 2, 'old', 'young'), 'u',"
        f" UTC_TIMESTAMP() - INTERVAL IF(seq % 2, 365, 1) DAY FROM seq_1_to_{2 * ROWS}"
    )

    def delete_a_policy(database, done):
        """The table's trigger copies it to policy_audit, between the old rows too."""
        key = len(done) * 10 + 5
        database.run("INSERT INTO policy (id, name, username) VALUES (%s, 'p', 'u')", [key])
        database.run("DELETE FROM policy WHERE id = %s", [key])
        done[key] = "deleted"

    with Clients(mariadb, delete_a_policy) as clients:
        killed = kill_at_random_moments(
            purge, lambda: iam.value("SELECT COUNT(*) FROM policy_audit WHERE name = 'old'")
        )
        perform(purge())
    assert killed == KILLS
    assert iam.value("SELECT COUNT(*) FROM policy_audit WHERE name = 'old'") == 0
    assert iam.value("SELECT COUNT(*) FROM policy_audit WHERE name = 'young'") == ROWS
    assert set(iam.column("SELECT id FROM policy_audit WHERE name = 'p'")) == set(
        clients.promises[delete_a_policy]
    )


@pytest.fixture(autouse=True)
def _path_for_forks(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.fixture(autouse=True)
def _seed():
    seed = random.randrange(10**6)
    random.seed(seed)
    print(f"seed {seed}")  # noqa: T201  pytest shows it with a failure
