"""Two deployments on one Redis and one database, and an independent record of what their work does."""

from __future__ import annotations

import json
import logging
import shutil
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dev.airflow import Airflow
from dev.servers import Redis
from dev.sessions import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dev.servers import MariaDB

logger = logging.getLogger(__name__)

DAGS = Path(__file__).parent / "dags"
COMPONENTS = ("api-server", "scheduler", "dag-processor")
PATIENCE = 120.0  # seconds for anything to happen; a busy machine is slow

# A writer is one process that works, a step one thing that it did. `told` is what a test tells the work.
RECORD = (
    "CREATE DATABASE lock_rows",
    "USE lock_rows",
    (
        "CREATE TABLE writer (id INT AUTO_INCREMENT PRIMARY KEY, dag_id VARCHAR(99), deployment VARCHAR(9),"
        " run_id VARCHAR(99), try INT, pid INT, ended TIMESTAMP(6) NULL)"
    ),
    "CREATE TABLE step (id INT AUTO_INCREMENT PRIMARY KEY, writer INT, at TIMESTAMP(6) DEFAULT SYSDATE(6))",
    (
        "CREATE TABLE told (dag_id VARCHAR(99), deployment VARCHAR(9), what VARCHAR(9),"
        " PRIMARY KEY (dag_id, deployment))"
    ),
)
# Every chunk of a hundred rows is one step. It is in the very transaction that deletes the rows.
TABLE = (
    "CREATE TABLE {table} (id INT UNSIGNED PRIMARY KEY, deletedAt TIMESTAMP NOT NULL)",
    "INSERT INTO {table} SELECT seq, '2020-01-01' FROM seq_1_to_30000",
    (
        "CREATE TRIGGER {table} AFTER DELETE ON {table} FOR EACH ROW"
        " INSERT INTO step (writer) SELECT @writer FROM DUAL WHERE MOD(OLD.id, 100) = 0"
    ),
)


class Writer(NamedTuple):
    id: int
    deployment: str
    run_id: str
    attempt: int
    pid: int
    ended: bool


class Step(NamedTuple):
    writer: int
    at: float


def until(what: Callable[[], Any], why: str, seconds: float = PATIENCE) -> Any:
    """Wait until something is true and return it."""
    found: list[Any] = []

    def true() -> bool:
        found[:] = [what()]
        return bool(found[0])

    assert wait_until(true, seconds, pause=0.1), f"waited {seconds:g} s in vain: {why}"
    return found[0]


class Deployment(Airflow):
    """An Airflow whose runs a test can start, watch and disturb."""

    name: str

    def trigger(self, dag_id: str) -> Run:
        answer = self.api(f"/dags/{dag_id}/dagRuns", {"logical_date": None})
        return Run(self, dag_id, answer["dag_run_id"])

    def pause(self, dag_id: str, paused: bool = True) -> None:
        self.api(f"/dags/{dag_id}", {"is_paused": paused}, method="PATCH")

    def scheduled(self, dag_id: str) -> list[Run]:
        found = self.api(f"/dags/{dag_id}/dagRuns?order_by=run_after&limit=100&run_type=scheduled")
        return [Run(self, dag_id, run["dag_run_id"]) for run in found["dag_runs"]]

    def ready(self) -> bool:
        wanted = (DAGS / "lock_rows.py").read_text().count("\nwatch(")
        return self.api("/dags?limit=100")["total_entries"] == wanted


@dataclass(frozen=True)
class Run:
    """One DAG run."""

    airflow: Deployment
    dag_id: str
    id: str

    @property
    def owner(self) -> str:
        return f"{self.airflow.name}/{self.dag_id}/{self.id}"

    @property
    def _path(self) -> str:
        return f"/dags/{self.dag_id}/dagRuns/{self.id}"

    def state(self) -> str:
        return str(self.airflow.api(self._path)["state"])

    def task(self, task_id: str = "work") -> dict[str, Any]:
        found: dict[str, Any] = self.airflow.api(f"{self._path}/taskInstances/{task_id}")
        return found

    def task_state(self, task_id: str = "work") -> str:
        return str(self.task(task_id)["state"])

    def wait(self, state: str, task_id: str = "") -> None:
        """Wait for a state of the run, or of one of its tasks."""
        look = (lambda: self.task_state(task_id)) if task_id else self.state
        try:
            until(lambda: look() == state, f"{state} {task_id} of {self.owner}")
        except AssertionError:
            states = {name: self.task_state(name) for name in ("acquire", "work", "release")}
            raise AssertionError(
                f"{self.owner} {task_id}: expected {state}, is {self.state()}: {states}"
            ) from None

    def holder(self) -> dict[str, Any]:
        """Return who `acquire` says holds the lock."""
        value = self.airflow.api(f"{self._path}/taskInstances/acquire/xcomEntries/holder")["value"]
        found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return found

    def log(self, task_id: str = "work", attempt: int = 1) -> str:
        return json.dumps(self.airflow.api(f"{self._path}/taskInstances/{task_id}/logs/{attempt}"))

    def mark_failed(self) -> None:
        self.airflow.api(f"{self._path}/taskInstances/work", {"new_state": "failed"}, method="PATCH")

    def clear(self) -> None:
        body = {"dry_run": False, "dag_run_id": self.id, "task_ids": ["work"], "only_failed": False}
        self.airflow.api(f"/dags/{self.dag_id}/clearTaskInstances", body)


class Record:
    """What the work of both deployments wrote down."""

    def __init__(self, mariadb: MariaDB) -> None:
        self._connection = mariadb.connect("lock_rows", init_command="SET time_zone = '+00:00'")

    def close(self) -> None:
        self._connection.close()

    def _rows(self, query: str, *values: object) -> list[Any]:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())

    def tell(self, dag_id: str, what: str, *names: str) -> None:
        """Tell the work of a DAG, in some or all deployments, to `end` or to `raise`."""
        for name in names or ("a", "b"):
            self._rows("REPLACE INTO told VALUES (%s, %s, %s)", dag_id, name, what)

    def tell_all(self, what: str) -> None:
        for (dag_id,) in self._rows("SELECT DISTINCT dag_id FROM writer"):
            self.tell(dag_id, what)

    def make_table(self, dag_id: str) -> None:
        for statement in TABLE:
            self._rows(statement.format(table=f"{dag_id}_rows"))

    def writers(self, dag_id: str) -> list[Writer]:
        query = (
            "SELECT id, deployment, run_id, try, pid, ended IS NOT NULL FROM writer"
            " WHERE dag_id = %s ORDER BY id"
        )
        return [Writer(*row) for row in self._rows(query, dag_id)]

    def writer(self, run: Run, *, after: Writer | None = None, steps: int = 2) -> Writer:
        """Wait until the latest process of the run's work, after another one, has done so many steps."""

        def found() -> Writer | None:
            for writer in reversed(self.writers(run.dag_id)):
                if after is not None and writer.id <= after.id:
                    break
                if (writer.deployment, writer.run_id) == (run.airflow.name, run.id):
                    return writer if len(self.steps_of(writer)) >= steps else None
            return None

        result: Writer = until(found, f"{steps} steps of {run.owner}, after {after}")
        return result

    def steps(self, dag_id: str) -> list[Step]:
        query = (
            "SELECT step.writer, UNIX_TIMESTAMP(step.at) FROM step JOIN writer ON writer.id = step.writer"
            " WHERE dag_id = %s ORDER BY step.id"
        )
        return [Step(writer, float(at)) for writer, at in self._rows(query, dag_id)]

    def steps_of(self, writer: Writer) -> list[float]:
        query = "SELECT UNIX_TIMESTAMP(at) FROM step WHERE writer = %s ORDER BY id"
        return [float(row[0]) for row in self._rows(query, writer.id)]

    def last_step(self, writer: Writer) -> float:
        return self.steps_of(writer)[-1]

    def assert_one_at_a_time(self, dag_id: str) -> None:
        """No writer's step lies between two steps of another."""
        turns = [writer for writer, _ in groupby(step.writer for step in self.steps(dag_id))]
        assert len(turns) == len(set(turns)), f"writers took turns: {turns} of {self.writers(dag_id)}"


class Pair(NamedTuple):
    """Deployments `a` and `b`, what they share, and the record."""

    a: Deployment
    b: Deployment
    redis: Redis
    record: Record

    def value(self, key: str) -> str:
        """Return the owner of a lock, or nothing."""
        with self.redis.client() as client:
            return (client.get(key) or b"").decode()

    def wait_free(self, key: str, since: float) -> float:
        """Wait until a lock is free and return when that was, in seconds after `since`."""
        until(lambda: not self.value(key), f"{key} is never freed: {self.value(key)}")
        return time.time() - since


def _deployment(folder: Path, name: str, mariadb: MariaDB, redis: Redis) -> Deployment:
    account = {"host": mariadb.host, "port": mariadb.port, "user": mariadb.admin_user}
    airflow = Deployment(
        folder / name,
        deployment_id=name,
        connections={
            "iam_redis": redis.airflow_uri,
            "lock_rows": mariadb.airflow_admin_uri.removesuffix("iam") + "lock_rows",
        },
        dags_folders=(DAGS,),
        options={
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / name}/airflow.db?timeout=60",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
            # With 10, a scheduler that a busy machine holds up takes itself for dead.
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "LOCK_ROWS": json.dumps({**account, "passwd": mariadb.admin_password, "db": "lock_rows"}),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    airflow.name = name
    return airflow


@contextmanager
def _pair(folder: Path, mariadb: MariaDB) -> Iterator[Pair]:
    with closing(mariadb.connect("")) as connection, connection.cursor() as cursor:
        for statement in ("DROP DATABASE IF EXISTS lock_rows", *RECORD):
            cursor.execute(statement)
    with (
        Redis(folder / "redis") as redis,
        _deployment(folder, "a", mariadb, redis) as a,
        _deployment(folder, "b", mariadb, redis) as b,
        closing(Record(mariadb)) as record,
    ):
        a.run("db", "migrate")
        shutil.copy(a.home / "airflow.db", b.home)
        for airflow in (a, b):
            airflow.start(COMPONENTS)
        for airflow in (a, b):
            airflow.wait_healthy()
            until(airflow.ready, f"the DAGs of {airflow.name}")
        yield Pair(a, b, redis, record)
        # Airflow's end waits for work.
        record.tell_all("end")


@pytest.fixture(scope="session", name="until")
def _until() -> Callable[..., Any]:
    return until


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB) -> Iterator[Pair]:
    """Two deployments, started once for all tests of a module."""
    with _pair(tmp_path_factory.mktemp("pair"), mariadb) as pair:
        yield pair


@pytest.fixture
def ended_by_a_person(pair: Pair) -> Callable[[Run, str], None]:
    """A function that marks failed or clears what works, and checks when the lock is freed, and for whom."""

    def end(run: Run, how: str) -> None:
        dag_id = run.dag_id
        first = pair.record.writer(run)
        other = pair.b.trigger(dag_id)
        other.wait("running", "acquire")
        getattr(run, how)()
        ended = time.time()
        until(lambda: pair.value(dag_id) != run.owner, f"{dag_id} is never freed")
        freed = time.time()
        last = pair.record.last_step(first)
        logger.info("row=%s last_step=%.1fs released=%.1fs", how, last - ended, freed - ended)
        pair.record.tell(dag_id, "end")
        other.wait("success")
        pair.record.assert_one_at_a_time(dag_id)
        assert pair.record.last_step(first) == last < freed
        assert freed - ended <= 15

    return end
