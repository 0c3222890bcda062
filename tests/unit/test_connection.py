"""What an Airflow connection says of a Redis, and what it can't say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Connection

from iam_watcher.errors import LockError
from iam_watcher.lock.clients import redis_clients
from iam_watcher.lock.connection import BOOLEANS, read_connection

if TYPE_CHECKING:
    from pathlib import Path

    from iam_watcher.lock.connection import RedisServer


def read(uri: str) -> RedisServer:
    return read_connection(Connection.from_uri(uri, conn_id="iam_redis"))


def read_form(**extras: Any) -> RedisServer:
    return read_connection(
        Connection(conn_id="iam_redis", conn_type="redis", host="h", extra=json.dumps(extras))
    )


@pytest.mark.parametrize("spelled", [*BOOLEANS, "TRUE", "False", " no ", True, False, 1, 0])
@pytest.mark.parametrize("name", ["ssl", "cluster"])
def test_a_boolean_in_every_usual_spelling(name: str, spelled: Any) -> None:
    server = read_form(**{name: spelled})
    meant = str(spelled).strip().lower() in {"true", "1", "yes", "on", "t", "y"}
    assert (bool(server.tls) if name == "ssl" else server.cluster) is meant


@pytest.mark.parametrize("uri", ["rediss://h", "REDISS://h/?ssl=yes", "redis://h/?ssl=1"])
def test_tls_is_asked_for_by_the_type_or_by_an_extra(uri: str) -> None:
    assert read(uri).tls == {"ssl": True, "ssl_cert_reqs": "required"}


def test_what_airflows_form_stores_for_fields_left_alone() -> None:
    server = read_form(
        db=0,
        cluster=False,
        startup_nodes=None,
        ssl=False,
        ssl_cert_reqs="required",
        ssl_ca_certs="",
        ssl_keyfile=None,
        ssl_certfile="",
        ssl_check_hostname=False,
    )
    assert (server.nodes, server.cluster, server.service, server.tls) == ((("h", 6379),), False, "", {})


def test_tls_arguments(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.touch()
    server = read(f"rediss://h/?ssl_ca_certs={pem}&ssl_check_hostname=off&ssl_cert_reqs=OPTIONAL")
    assert server.tls == {
        "ssl": True,
        "ssl_ca_certs": str(pem),
        "ssl_check_hostname": False,
        "ssl_cert_reqs": "optional",
    }


@pytest.mark.parametrize(
    ("uri", "nodes"),
    [
        ("redis://h", [("h", 6379)]),
        ("redis://h:7/?cluster=true&startup_nodes=a,b:8", [("h", 7), ("a", 6379), ("b", 8)]),
        ("redis:///?cluster=true&startup_nodes=a", [("a", 6379)]),
        ("redis://h/?sentinel_service=iam", [("h", 26379)]),
        ("redis://h/?sentinel_service=iam&sentinels=a,b:8", [("a", 26379), ("b", 8)]),
    ],
)
def test_where_it_is(uri: str, nodes: list[tuple[str, int]]) -> None:
    assert read(uri).nodes == tuple(nodes)


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        ("redis://h", 0),
        ("redis://h/2", 2),
        ("redis://h/?db=3", 3),
        ("redis://h/3?db=3", 3),
        ("redis://h/0", 0),
    ],
)
def test_which_database(uri: str, number: int) -> None:
    assert read(uri).account["db"] == number


def test_login_and_password() -> None:
    assert read("redis://ann:secret@h").account == {"username": "ann", "password": "secret", "db": 0}
    assert read("redis://h").account == {"username": None, "password": None, "db": 0}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("rediss://h/?ssl=0", "the type rediss and the extra ssl=false; expected TLS or no TLS"),
        ("redis://h/?ssl_ca_certs=/x", "the extra ssl_ca_certs but no TLS; expected ssl=true"),
        ("redis://h/?ssl_ca_certs=/x&ssl=no", "the extra ssl_ca_certs but no TLS; expected ssl=true"),
        ("redis://h/?ssl=maybe", "ssl='maybe'; expected true or false"),
        ("redis://h/?cluster=2", "cluster='2'; expected true or false"),
        ("rediss://h/?ssl_check_hostname=x", "ssl_check_hostname='x'; expected true or false"),
        ("rediss://h/?ssl_cert_reqs=require", "ssl_cert_reqs='require'; expected one of required"),
        ("rediss://h/?ssl_ca_certs=/no/such.pem", "ssl_ca_certs='/no/such.pem'; expected a file"),
        ("redis://h/?ssl_ca_cert=/x", "the extra 'ssl_ca_cert'; expected only db, cluster"),
        ("redis://h/?tls=true", "the extra 'tls'"),
        ("redis+tls://h", "the type 'redis\\+tls'; expected redis, or rediss for TLS"),
        ("http://h", "the type 'http'"),
        ("redis://h/2?db=3", "one database in its path, and another one in its extra `db`"),
        ("redis://h/x", "as its database a str .*; expected a number"),
        ("redis://h/?cluster=1&db=1", "database '1'; expected 0"),
        ("redis://", "names no host"),
        ("redis:///?cluster=true", "names no host"),
        ("redis://rediss://h", "a host with '/'.* rediss://host"),
        ("redis://h/?startup_nodes=a:1", "startup_nodes; expected cluster=true with it"),
        ("redis://h/?sentinels=a:1", "sentinels; expected sentinel_service with it"),
        ("redis://h/?sentinel_service=iam&cluster=1", "cluster and sentinel_service; expected one of them"),
        ("redis://h/?cluster=1&startup_nodes=a:b", "startup_nodes=a str .*; expected host:port,host:port"),
    ],
)
def test_what_cannot_be_meant(uri: str, message: str) -> None:
    with pytest.raises(
        LockError, match=f"the Airflow connection 'iam_redis' (has|names) .*{message}|{message}"
    ):
        read(uri)


@pytest.mark.parametrize(
    "given",
    [
        {"host": "user:secret-one@h"},
        {"host": "user", "schema": "x:secret-one@h"},
        {"host": "user", "schema": "secret-one@h", "extra": '{"db": 1}'},
        {"host": "h", "extra": '{"cluster": true, "startup_nodes": "user:secret-one@h:1"}'},
    ],
)
def test_a_password_in_a_wrong_place_is_not_repeated(given: dict[str, Any]) -> None:
    conn = Connection(conn_id="iam_redis", conn_type="redis", **given)
    with pytest.raises(LockError) as caught:
        read_connection(conn)
    assert "secret-one" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "same"),
    [
        ("redis://a:6379/0", True),
        ("redis://other:password@a/1", True),
        ("redis://a:6380/0", False),
        ("redis://?sentinels=a:6379&sentinel_service=s", False),
    ],
)
def test_two_connections_of_a_lock_to_one_server_are_refused(
    monkeypatch: pytest.MonkeyPatch, uri: str, same: bool
) -> None:
    for name, its in {"first": "redis://a", "second": "redis://b", "third": uri}.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", its)
    names = ["first", "second", "third"]
    if same:
        with pytest.raises(LockError, match="'first' and 'third' lead to the same Redis"):
            redis_clients(names, ttl=60)
    else:
        assert len(redis_clients(names, ttl=60)) == 3
