"""Two deployments on one Redis and one database, and an independent record of what their work does."""

from __future__ import annotations

import json
import logging
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from dev.migrated import copy_migrated
from dev.servers import Redis
from tests.e2e.deployments import DAGS, Deployment, cpu_waits, until
from tests.e2e.record import RECORD, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dev.servers import MariaDB
    from tests.e2e.deployments import Run

logger = logging.getLogger(__name__)

COMPONENTS = ("api-server", "scheduler", "dag-processor")
TICK = 20  # seconds between two ticks of the DAGs that have a schedule


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

    def unpause(self, dag_id: str) -> None:
        """Let both deployments run a schedule, beginning with the same tick unless the machine is slow."""
        until(lambda: 0.5 < time.time() % TICK < TICK - 5, "the time between two ticks")
        for airflow in (self.a, self.b):
            airflow.pause(dag_id, False)


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
        for airflow in (a, b):
            copy_migrated(airflow.home)
            airflow.start(COMPONENTS)
        for airflow in (a, b):
            airflow.wait_healthy()
            until(airflow.ready, f"the DAGs of {airflow.name}")
        yield Pair(a, b, redis, record)
        # Airflow's end waits for work.
        record.tell_all("end")


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
        ended, waits = time.time(), cpu_waits()
        until(lambda: pair.value(dag_id) != run.owner, f"{dag_id} is never freed")
        freed = time.time()
        last = pair.record.last_step(first)
        logger.info("row=%s last_step=%.1fs released=%.1fs", how, last - ended, freed - ended)
        pair.record.tell(dag_id, "end")
        other.wait("success")
        pair.record.assert_one_at_a_time(dag_id)
        assert pair.record.last_step(first) == last < freed
        assert freed - ended <= 15 + cpu_waits() - waits

    return end
