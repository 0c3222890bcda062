"""Connections to the database under TLS, with a server that has a certificate."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest

from dev.servers import chosen_database
from iam_watcher.database import transactions as transaction
from iam_watcher.database.hook import connect
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import ConnectionRefused, DatabaseUnavailable
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import ID, Database, numbers
from tests.integration.test_redis_kinds import certificate

pytestmark = pytest.mark.every_server


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def server(tmp_path_factory, pem):
    arguments = [f"--ssl-{name}={pem}" for name in ("ca", "cert", "key")]
    with chosen_database()(tmp_path_factory.mktemp("tls"), arguments) as server:
        server.create_schema()
        yield server


@pytest.fixture
def encrypted(monkeypatch):
    """A function that sets the connection `encrypted` to a server, with these extras."""

    def set_connection(server, **extras):
        query = urlencode({name: json.dumps(v) if name == "ssl" else v for name, v in extras.items()})
        monkeypatch.setenv("AIRFLOW_CONN_ENCRYPTED", f"{server.airflow_admin_uri}?{query}")

    return set_connection


def cipher(connection):
    return Database(connection).rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]


@pytest.mark.parametrize("mode", [{}, {"ssl_mode": "REQUIRED"}, {"ssl_mode": "VERIFY_IDENTITY"}])
def test_what_is_sent_is_encrypted(encrypted, server, pem, mode):
    encrypted(server, ssl={"ca": str(pem)}, **mode)
    with closing(connect("encrypted")) as connection:
        assert cipher(connection)


def test_the_connections_of_the_pages_are_encrypted(monkeypatch, server, pem):
    root = Path(__file__).parents[2]
    (uri,) = re.findall(r"`(mysql://.*ssl.*)`", (root / "docs" / "first-day.md").read_text())
    (text,) = re.findall(
        r"AIRFLOW_CONN_IAM_MYSQL='(.*?)'", (root / "docs" / "jobs.md").read_text(), re.DOTALL
    )
    fields = json.loads(text) | {
        "login": server.user,
        "password": server.password,
        "host": server.host,
        "port": server.port,
    }
    fields["extra"]["ssl"]["ca"] = str(pem)
    account = f"{server.user}:{server.password}@{server.host}:{server.port}"
    uri = uri.replace("user:password@host:port", account).replace("/path/ca.pem", str(pem))
    for value in (uri, json.dumps(fields)):
        monkeypatch.setenv("AIRFLOW_CONN_ENCRYPTED", value)
        with closing(connect("encrypted")) as connection:
            assert cipher(connection)


def test_a_certificate_of_another_is_refused(encrypted, server, tmp_path):
    encrypted(server, ssl={"ca": str(certificate(tmp_path))}, ssl_mode="VERIFY_IDENTITY")
    with pytest.raises(DatabaseUnavailable, match=r'\(2026, .*check the extra "ssl"'):
        connect("encrypted")


@pytest.mark.needs("no-tls")
@pytest.mark.parametrize("mode", [None, "REQUIRED", "VERIFY_IDENTITY"])
@pytest.mark.parametrize("has_ca", [True, False])
def test_no_statement_is_sent_in_the_clear_where_tls_is_asked_for(encrypted, mariadb, pem, mode, has_ca):
    """MariaDB's client library would: for REQUIRED it goes on without TLS."""
    encrypted(
        mariadb,
        **({"ssl": {"ca": str(pem)}} if has_ca else {"ssl": True}),
        **({"ssl_mode": mode} if mode else {}),
    )
    with pytest.raises(DatabaseUnavailable, match=r"the server does not (offer it|support it)"):
        connect("encrypted")


def test_a_server_that_demands_tls_says_so(encrypted, server):
    encrypted(server)
    with closing(server.connect("")) as connection:
        connection.cursor().execute("SET GLOBAL require_secure_transport = 1")
        with pytest.raises(ConnectionRefused, match=r"\((3159|1045), .*TLS"):
            connect("encrypted")
        connection.cursor().execute("SET GLOBAL require_secure_transport = 0")


def test_a_lost_connection_is_replaced(encrypted, server, pem, monkeypatch, caplog):
    """It is error 2026 where an unencrypted one is 2013."""
    monkeypatch.setattr(transaction, "LONGEST_WAIT", 0.05)
    encrypted(server, ssl={"ca": str(pem)}, ssl_mode="VERIFY_IDENTITY")
    with closing(server.connect()) as other:
        admin = Database(other)
        admin.run("CREATE TABLE t (id int PRIMARY KEY)")
        admin.run(f"INSERT INTO t SELECT seq FROM {numbers(100)}")
        db = Transactions(connect("encrypted"), reconnect=lambda: connect("encrypted"))

        def kill():
            if not db.retries:
                admin.run(f"KILL {db._connection.thread_id()}")

        with closing(db):
            assert Walk(db, RowChange("`t`", ID, "TRUE"), before_write=kill).write().changed == 100
            assert db.retries == 1
            assert cipher(db._connection)
        assert admin.value("SELECT COUNT(*) FROM t") == 0
    assert "2026" in caplog.text
