"""Private servers and a private Airflow for the tests, each started when the first test asks for it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dev.airflow import environment
from dev.migrated import copy_migrated
from dev.servers import Redis, chosen_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG
    from redis import Redis as RedisClient

    from dev.servers import DatabaseServer

_ROOM = 4 * 1024**3  # bytes; a container often has a /dev/shm of 64 MB


def _memory() -> str | None:
    """Return the file system in memory, or None without one: tests create thousands of tables."""
    memory = Path("/dev/shm")  # noqa: S108  only its size is asked for
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > _ROOM else None


# Airflow reads these when it is first imported, which can be as early as the collection of a test file.
_HOME = Path(tempfile.mkdtemp(prefix="iam-watcher-tests-", dir=_memory()))
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "_AIRFLOW_"))]:
    del os.environ[_name]
os.environ.update(environment(_HOME, deployment_id="test"))

BUNDLE = "dags-folder"  # Airflow's default
_NEEDS_A_SERVER = {"mariadb", "redis_server", "airflow_db"}


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--one-case-each",
        action="store_true",
        help="of a test with parameters, run the first case that this database server can run",
    )


def pytest_configure() -> None:
    chosen_database()  # A wrong name is an error before the first test.


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unit = Path(__file__).parent / "unit"
    for item in items:
        servers = _NEEDS_A_SERVER.intersection(getattr(item, "fixturenames", ()))
        if servers and item.path.is_relative_to(unit):
            raise pytest.UsageError(f"{item.nodeid} uses {sorted(servers)}: a unit test starts no server")
    # Each process begins with a part of the list, and takes more from the ends of the others' parts. So what
    # comes first runs in one process: tests of which one keeps both cores busy, and those of the page, which
    # share an Airflow that takes a minute to start.
    first = [unit.with_name("e2e"), unit.with_name("page")]
    items.sort(key=lambda item: next((n for n, at in enumerate(first) if item.path.is_relative_to(at)), 2))
    capabilities = chosen_database().capabilities
    kept, elsewhere, tests = [], [], set()
    for item in items:
        needs = {name for mark in item.iter_markers("needs") for name in mark.args}
        test = item.nodeid.partition("[")[0]
        if needs <= capabilities and not (config.option.one_case_each and test in tests):
            kept.append(item)
            tests.add(test)
        else:
            elsewhere.append(item)
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = kept


@pytest.fixture(scope="session")
def mariadb() -> Iterator[DatabaseServer]:
    """The session's database server, of the kind that IAM_WATCHER_DATABASE names (default: MariaDB).

    The connection iam_mysql is its account with just the watchers' grants.
    """
    server = chosen_database()(_HOME / "database")
    with server, pytest.MonkeyPatch.context() as patch:
        server.create_schema()
        patch.setenv("AIRFLOW_CONN_IAM_MYSQL", server.airflow_uri)
        yield server


@pytest.fixture
def iam_schema(mariadb: DatabaseServer) -> DatabaseServer:
    """The session's database server, with a database `iam` of include/sql/schema.sql without rows."""
    mariadb.create_schema()
    return mariadb


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """The session's Redis, behind the connection iam_redis."""
    with Redis(tmp_path_factory.mktemp("redis")) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_IAM_REDIS", server.airflow_uri)
        yield server


@pytest.fixture
def redis_client(redis_server: Redis) -> Iterator[RedisClient]:
    """A client of the session's Redis, which is empty now."""
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Airflow's metadata database (SQLite): `dag.test()` needs it."""
    from airflow import settings

    copy_migrated(_HOME)
    settings.engine.dispose()  # Where a test looked before, it has a connection to an empty file.


@pytest.fixture
def store_dag(airflow_db: None) -> Callable[[DAG], None]:
    """A function that stores a DAG, which a test just built, as the dag-processor does."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    def store(dag: DAG) -> None:
        with create_session() as session:
            DagBundlesManager().sync_bundles_to_db(session=session)
        with create_session() as session:
            stored = LazyDeserializedDAG.from_dag(dag)
            SerializedDAG.bulk_write_to_db(BUNDLE, None, [stored], session=session)
            session.commit()
            SerializedDagModel.write_dag(stored, bundle_name=BUNDLE, session=session)

    return store


@pytest.fixture
def run_dag(
    store_dag: Callable[[DAG], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., DagRun]:
    """A function that runs a DAG, which a test just built, by `dag.test()` and returns the run."""
    empty = tmp_path_factory.getbasetemp() / "no-dags"
    empty.mkdir(exist_ok=True)
    # dag.test() parses and stores all files of the bundle, each time.
    bundle = {
        "name": BUNDLE,
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(empty)},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))

    def run(dag: DAG, **arguments: Any) -> DagRun:
        store_dag(dag)  # dag.test() only runs what is stored.
        return dag.test(**arguments)

    return run
