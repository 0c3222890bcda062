"""A database of our own for tables of any shape, and jobs run as Airflow's task runner does it."""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import closing
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from dev.databases import MySQL
from iam_watcher.database.column import Column
from iam_watcher.database.key import Key
from iam_watcher.database.key_column import KeyColumn
from iam_watcher.database.session import set_up
from iam_watcher.database.throttle import Throttler
from iam_watcher.database.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dev.servers import DatabaseServer
    from iam_watcher.jobs.table_job_operator import TableJobOperator

# The key of most tables of these tests.
ID = Key((KeyColumn(Column("id", "bigint", nullable=False)),))


class Database:
    """A connection with autocommit, for what a test itself says and asks."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def run(self, query: str, values: Any = None) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(query, values)
            return int(cursor.rowcount)

    def run_many(self, query: str, rows: Any) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(query, rows)

    def rows(self, query: str, values: Any = None) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())

    def value(self, query: str, values: Any = None) -> Any:
        return self.rows(query, values)[0][0]

    def column(self, query: str, values: Any = None) -> list[Any]:
        return [row[0] for row in self.rows(query, values)]

    def transactions(self) -> dict[int, int]:
        """Return the open transactions of all sessions: id of the session → rows that it locks."""
        # The server shows the same picture again to whoever asks within 0.1 s of the last question.
        time.sleep(0.15)
        query = "SELECT trx_mysql_thread_id, trx_rows_locked FROM information_schema.INNODB_TRX"
        return dict(self.rows(query))


def numbers(count: int) -> str:
    """Return a table for FROM with the column `seq`: 1, 2, … `count`."""
    zeros = f"CONCAT('[0', REPEAT(',0', {count} - 1), ']')"
    return f"JSON_TABLE({zeros}, '$[*]' COLUMNS (seq FOR ORDINALITY)) AS numbers"


class TaskInstance:
    """What a job needs of Airflow's task instance."""

    dag_id, task_id, map_index = "dag", "task", -1

    def __init__(self, run: str, try_number: int = 1) -> None:
        self.id = f"{run}, try {try_number}"
        self.run_id = run
        self.try_number = try_number
        self.xcom: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value


def follow(replica: DatabaseServer, source: DatabaseServer) -> None:
    """Make a server the replica of another from now on; it begins with START REPLICA."""
    file, position = binlog_position(source)
    change, name, more = "CHANGE MASTER", "MASTER", ""
    if isinstance(replica, MySQL):
        change, name, more = "CHANGE REPLICATION SOURCE", "SOURCE", ", GET_SOURCE_PUBLIC_KEY=1"
    with closing(replica.connect("")) as connection:
        Database(connection).run(
            f"{change} TO {name}_HOST=%s, {name}_PORT=%s, {name}_USER=%s, {name}_PASSWORD=%s,"
            f" {name}_LOG_FILE=%s, {name}_LOG_POS=%s{more}",
            [source.host, source.port, source.admin_user, source.admin_password, file, position],
        )


def binlog_position(source: DatabaseServer) -> tuple[str, int]:
    """Return the file and the position that the binary log of a server has come to."""
    show = "SHOW BINARY LOG STATUS" if isinstance(source, MySQL) else "SHOW MASTER STATUS"
    with closing(source.connect("")) as connection:
        file, position, *_ = Database(connection).rows(show)[0]
    return file, position


@pytest.fixture
def iam(iam_schema: DatabaseServer) -> Iterator[Database]:
    """The tables of IAM, without rows."""
    with closing(iam_schema.connect(init_command="SET time_zone = '+00:00'")) as connection:
        yield Database(connection)


@pytest.fixture(
    params=product(
        ("READ-COMMITTED", "REPEATABLE-READ", "SERIALIZABLE"),
        ("-05:00", "+00:00", "+08:00"),
        ("", "TRADITIONAL", "ANSI,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES"),
    ),
    ids="/".join,
)
def _settings_of_a_server(iam: Database, request: pytest.FixtureRequest) -> Iterator[None]:
    """What a server may be set to, for all sessions but that of `iam` itself."""
    isolation = "tx_isolation" if iam.rows("SHOW VARIABLES LIKE 'tx_isolation'") else "transaction_isolation"
    settings = dict(zip((isolation, "time_zone", "sql_mode"), request.param, strict=True))
    before = {name: iam.value(f"SELECT @@GLOBAL.{name}") for name in settings}
    for name, value in settings.items():
        iam.run(f"SET GLOBAL {name} = %s", [value])
    yield
    for name, value in before.items():
        iam.run(f"SET GLOBAL {name} = %s", [value])


@pytest.fixture
def scratch(mariadb: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """An empty database for tables of any shape; the connection `scratch` leads to it."""
    with closing(mariadb.connect(database="")) as connection:
        database = Database(connection)
        database.run("DROP DATABASE IF EXISTS scratch")
        database.run("CREATE DATABASE scratch")
        database.run("USE scratch")
        database.run("SET time_zone = '+00:00'")
        monkeypatch.setenv(
            "AIRFLOW_CONN_SCRATCH", mariadb.airflow_admin_uri.removesuffix("/iam") + "/scratch"
        )
        yield database


@pytest.fixture
def elsewhere(scratch: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an empty database beside `scratch`, and of the connection that leads to it."""
    scratch.run("CREATE DATABASE elsewhere")
    uri = os.environ["AIRFLOW_CONN_SCRATCH"].removesuffix("/scratch")
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", f"{uri}/elsewhere")
    yield "elsewhere"
    scratch.run("DROP DATABASE elsewhere")


@pytest.fixture
def clerk(scratch: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an account without rights, and of its connection to `scratch`."""
    scratch.run("DROP USER IF EXISTS clerk@'%'")
    scratch.run("CREATE USER clerk@'%' IDENTIFIED BY 'clerk'")
    scheme, rest = os.environ["AIRFLOW_CONN_SCRATCH"].split("://", 1)
    monkeypatch.setenv("AIRFLOW_CONN_CLERK", f"{scheme}://clerk:clerk@{rest.rpartition('@')[2]}")
    yield "clerk"
    scratch.run("DROP USER clerk@'%'")


@pytest.fixture
def session(mariadb: DatabaseServer, scratch: Database) -> Iterator[Any]:
    """A connection to `scratch` as a job has it."""
    with closing(mariadb.connect("scratch")) as connection:
        set_up(connection)
        yield connection


@pytest.fixture
def perform(mariadb: DatabaseServer) -> Callable[..., dict[str, Any]]:
    """A function that executes an operator and returns its report."""
    runs = iter(range(1_000_000))

    def perform(operator: TableJobOperator, ti: TaskInstance | None = None) -> dict[str, Any]:
        return operator.execute({"ti": ti or TaskInstance(f"run-{next(runs)}")})  # type: ignore[typeddict-item]

    return perform


def politeness(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> tuple[list[str], list[float]]:
    """Return lists that get each wait for the throttle, and each rest, while a function runs."""
    waits, rests, function = list[str](), list[float](), getattr(owner, name)

    def noted(*arguments: Any, **options: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(Throttler, "wait", lambda *_, **__: waits.append(name))
            patch.setattr(Transactions, "sleep", lambda _, seconds: rests.append(seconds))
            return function(*arguments, **options)

    monkeypatch.setattr(owner, name, noted)
    return waits, rests


@pytest.fixture
def path_for_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process that a test starts find the modules of the tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.fixture
def printed_seed() -> None:
    """Choose a new seed for `random`; pytest shows it with a failure."""
    seed = random.randrange(10**6)
    random.seed(seed)
    print(f"seed {seed}")  # noqa: T201


@pytest.fixture
def command(capsys):
    """Run `python -m iam_watcher.lock` in this process: a new one would import Airflow, for seconds."""
    import subprocess

    from iam_watcher.lock import __main__ as command_line

    def run(*arguments):
        capsys.readouterr()
        code = command_line.main(list(arguments))
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run
