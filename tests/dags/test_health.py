"""The health address on real servers: each part is broken once, and the answer never says how.

All tests break the same deployment: hence the length.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import ExitStack, closing
from urllib.parse import quote

import httpx
import pytest
from fastapi.testclient import TestClient
from redis.exceptions import NoPermissionError
from sqlalchemy import update

from dev.processes import free_port
from dev.servers import Redis
from iam_watcher import Lock, Watcher
from iam_watcher.airflow_internals.page import DagModel, create_session
from iam_watcher.health import route
from iam_watcher.health.check import look
from iam_watcher.health.latest import Latest
from iam_watcher.jobs.command import CommandOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.rows_in_state import rows_in_state
from iam_watcher.lock.deployment import CLAIM_KEY
from iam_watcher.routes import app
from tests.contract.conftest import documented_rule
from tests.dags.page import parse_file

HEALTHY = {"redis": "healthy", "database": "healthy", "deployment_id": "healthy"}
SECRET = "hunter2-and-more"  # noqa: S105  what nobody may see
URL = "http://test/health"


@pytest.fixture
def use(store_dag, airflow_db):
    """A function that makes a watcher the only active one, until the test ends."""

    def pause_all():
        with create_session() as session:
            session.execute(update(DagModel).values(is_paused=True))

    def use(dag):
        store_dag(dag)
        with create_session() as session:
            session.get(DagModel, dag.dag_id).is_paused = False

    pause_all()
    yield use
    pause_all()


@pytest.fixture
def purging(use, redis_client, iam_schema):
    """One active watcher with the default connections."""
    with Watcher("health_clean", schedule="@every 1d") as dag:
        PurgeRowsOperator(task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=9)
    use(dag)


@pytest.fixture
def ask(redis_server, mariadb, monkeypatch, caplog):
    """A function that asks anew, without a login: the status and the body, with no secret or host in it."""

    def ask(method="GET"):
        monkeypatch.setattr(route, "latest", Latest(look))
        found = TestClient(app).request(method, URL)
        shown = f"{found.text} {found.headers}"
        secrets = (SECRET, redis_server.password, mariadb.password, mariadb.admin_password)
        assert not [secret for secret in secrets if secret in shown + caplog.text]
        places = ("127.0.0.1", "localhost", str(redis_server.port), str(mariadb.port), mariadb.user)
        assert not [place for place in places if place in shown]
        assert set(found.headers) == {
            "content-type",
            "content-length",
            "cache-control",
            "x-content-type-options",
        }
        assert found.headers["cache-control"] == "no-store"
        return found.status_code, found.text and json.loads(found.text)

    return ask


@pytest.fixture
def silent():
    """The port of a server that accepts each connection and never says a word."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def accept():
            try:
                while True:
                    stack.enter_context(server.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def bad(part):
    return 503, HEALTHY | {part: "unhealthy"}


@pytest.mark.every_server
def test_all_is_good(purging, ask):
    assert ask() == (200, HEALTHY)
    assert ask("HEAD")[0] == 200


def test_the_servers_of_a_watcher_are_asked_while_its_file_is_broken(purging, ask):
    with create_session() as session:
        parse_file(session, "health_clean", "SyntaxError")
    try:
        assert ask() == (200, HEALTHY)
    finally:
        with create_session() as session:
            parse_file(session, "health_clean", None)


@pytest.mark.parametrize(
    "uri",
    [
        "redis://:{secret}@127.0.0.1:{closed}/0",
        "redis://:{secret}@127.0.0.1:{silent}/0",
        "redis://:{secret}@127.0.0.1:{redis}/0",
        "redis://:{secret}@127.0.0.1:{redis}/x",
        "redis://",
    ],
    ids=["down", "hanging", "wrong password", "no number", "no host"],
)
def test_redis_is_not_good(purging, ask, silent, redis_server, monkeypatch, caplog, uri):
    values = {"secret": SECRET, "closed": free_port(), "silent": silent, "redis": redis_server.port}
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", uri.format(**values))
    assert ask() == bad("redis")
    assert "redis is unhealthy: " in caplog.text
    monkeypatch.undo()
    assert ask() == (200, HEALTHY)


@pytest.mark.every_server
@pytest.mark.parametrize(
    "uri",
    [
        "mysql://u:{secret}@127.0.0.1:{closed}/iam",
        "mysql://u:{secret}@127.0.0.1:{silent}/iam",
        "mysql://{user}:{secret}@127.0.0.1:{mysql}/iam",
        "mysql://u:{secret}@127.0.0.1:port/iam",
    ],
    ids=["down", "hanging", "wrong password", "no number"],
)
def test_the_database_is_not_good(purging, ask, silent, mariadb, monkeypatch, caplog, uri):
    values = {"secret": SECRET, "closed": free_port(), "silent": silent}
    values |= {"mysql": mariadb.port, "user": mariadb.user}
    monkeypatch.setenv("AIRFLOW_CONN_IAM_MYSQL", uri.format(**values))
    assert ask() == bad("database")
    assert "database is unhealthy: " in caplog.text


@pytest.mark.parametrize(("name", "part"), [("IAM_REDIS", "redis"), ("IAM_MYSQL", "database")])
def test_a_connection_is_not_defined(purging, ask, monkeypatch, caplog, name, part):
    monkeypatch.delenv(f"AIRFLOW_CONN_{name}")
    assert ask() == bad(part)
    assert "is not defined" in caplog.text


def test_the_database_of_a_schedule_is_not_good(use, ask, redis_client, mariadb, monkeypatch, caplog):
    rows = {"state_column": "status", "claim": "pending", "mysql_conn_id": "health_rows"}
    with Watcher("health_rows", schedule=rows_in_state("user_provisioning", **rows)) as dag:
        CommandOperator(task_id="work", command="true")
    use(dag)
    monkeypatch.setenv("AIRFLOW_CONN_HEALTH_ROWS", mariadb.airflow_uri)
    assert ask() == (200, HEALTHY)
    uri = f"mysql://{mariadb.user}:{SECRET}@127.0.0.1:{mariadb.port}/iam"
    monkeypatch.setenv("AIRFLOW_CONN_HEALTH_ROWS", uri)
    assert ask() == bad("database")
    assert "database is unhealthy: " in caplog.text
    monkeypatch.delenv("AIRFLOW_CONN_HEALTH_ROWS")
    assert ask() == bad("database")


def test_there_is_no_deployment_id(purging, ask, monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID", "")
    assert ask() == bad("deployment_id")
    assert "Set AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID" in caplog.text
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID", f"not an id: {SECRET}")
    assert ask() == bad("deployment_id")


def test_another_airflow_has_the_deployment_id(purging, ask, redis_client, run_dag, monkeypatch, caplog):
    redis_client.set(CLAIM_KEY.format(id="test"), "the fingerprint of another")
    assert ask() == bad("deployment_id")
    assert "another Airflow uses the deployment id on the Redis of 'iam_redis'" in caplog.text
    redis_client.flushall()
    with Watcher("health_claims", schedule=None) as dag:
        CommandOperator(task_id="work", command="true")
    assert run_dag(dag).state == "success"
    assert redis_client.exists(CLAIM_KEY.format(id="test"))
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")  # as an API server does
    assert ask() == (200, HEALTHY)


def test_a_replica_takes_no_locks(purging, ask, redis_client, caplog):
    redis_client.replicaof("127.0.0.1", free_port())
    try:
        assert ask() == bad("redis")
    finally:
        redis_client.replicaof("NO", "ONE")
    assert ask() == (200, HEALTHY)


def test_a_redis_whose_memory_is_full_takes_no_locks(purging, ask, redis_client):
    redis_client.config_set("maxmemory", 1)
    try:
        assert ask() == bad("redis")
    finally:
        redis_client.config_set("maxmemory", 0)
    assert ask() == (200, HEALTHY)


def test_the_account_of_the_page_on_the_lock_may_ask(purging, ask, redis_server, redis_client, monkeypatch):
    redis_client.execute_command(*documented_rule())
    uri = f"redis://watcher:password@{redis_server.host}:{redis_server.port}/0"
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", uri)
    with redis_server.client(username="watcher", password="password") as account:  # noqa: S106  of the page
        assert ask() == (200, HEALTHY)
        with pytest.raises(NoPermissionError):
            account.info()
    redis_client.acl_deluser("watcher")


def test_a_quorum_is_good_while_a_majority_of_its_servers_is(use, ask, redis_client, monkeypatch, tmp_path):
    names = ["iam_redis", "health_second", "health_third"]
    with Watcher("health_quorum", schedule="@every 1d", lock=Lock("q", redis_conn_id=names)) as dag:
        CommandOperator(task_id="work", command="true")
    use(dag)
    unused = {"database": None}
    monkeypatch.setenv("AIRFLOW_CONN_HEALTH_THIRD", f"redis://127.0.0.1:{free_port()}/0")
    with Redis(tmp_path / "second") as second:
        monkeypatch.setenv("AIRFLOW_CONN_HEALTH_SECOND", second.airflow_uri)
        assert ask() == (200, HEALTHY | unused)
    assert ask() == (503, HEALTHY | unused | {"redis": "unhealthy"})


def test_what_no_active_watcher_uses_is_not_asked(use, purging, ask, monkeypatch):
    with create_session() as session:
        session.get(DagModel, "health_clean").is_paused = True
    for name in ("REDIS", "MYSQL"):
        monkeypatch.delenv(f"AIRFLOW_CONN_IAM_{name}")
    assert ask() == (200, {"redis": None, "database": None, "deployment_id": "healthy"})


def test_airflows_own_database_does_not_answer(purging, ask, monkeypatch, caplog):
    def fail():
        raise OSError(SECRET)

    monkeypatch.setattr("iam_watcher.health.check.create_session", fail)
    assert ask() == (503, dict.fromkeys(HEALTHY, "unhealthy"))
    assert "Airflow's database does not tell" in caplog.text


def test_two_hundred_requests_are_one_connection_to_each_server(
    purging, redis_client, mariadb, monkeypatch, ask
):
    assert ask() == (200, HEALTHY)  # imports take longer than a request
    monkeypatch.setattr(route, "latest", Latest(look, kept=3600))

    async def many():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport) as client:
            return await asyncio.gather(*(client.get(URL) for _ in range(200)))

    def connections():
        with closing(mariadb.connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Connections'")
            ((_, count),) = cursor.fetchall()
        return int(count), redis_client.info("stats")["total_connections_received"]

    before = connections()
    assert {one.status_code for one in asyncio.run(many())} == {200}
    after = connections()
    # The second count of MariaDB is a connection, too.
    assert [after[0] - before[0] - 1, after[1] - before[1]] == [1, 1]


def test_a_password_with_special_characters_is_not_shown(purging, ask, mariadb, monkeypatch):
    nasty = f"{SECRET}/@:#%"
    for uri in (f"mysql://u:{nasty}@127.0.0.1:1/iam", f"mysql://u:{quote(nasty, safe='')}@127.0.0.1:1/iam"):
        monkeypatch.setenv("AIRFLOW_CONN_IAM_MYSQL", uri)
        assert ask() == bad("database")
