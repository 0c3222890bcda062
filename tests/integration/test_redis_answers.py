"""The error has the answer of a Redis that refuses; and what is sent where TLS is asked for."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from typing import TYPE_CHECKING

import pytest
from redis import RedisError
from redis.exceptions import RedisClusterException, ResponseError

from dev.servers import Redis
from iam_watcher.errors import LockUnavailable
from iam_watcher.lock.answers import unavailable
from iam_watcher.lock.clients import async_redis_client, redis_client
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from redis import Redis as Client


def acquire(key: str = "clean") -> None:
    client = redis_client("iam_redis")
    try:
        Lease(client, key, "a", ttl=60).acquire()
    finally:
        client.close()


def full(admin: Client, port: int) -> None:
    admin.config_set("maxmemory", "1")


def replica(admin: Client, port: int) -> None:
    admin.replicaof("127.0.0.1", "1")


def too_few_replicas(admin: Client, port: int) -> None:
    admin.config_set("min-replicas-to-write", "1")


def other_type(admin: Client, port: int) -> None:
    admin.lpush("clean", "a job of someone else")


def no_scripts(admin: Client, port: int) -> None:
    admin.execute_command("ACL", "SETUSER", "default", "-@scripting")


def no_keys(admin: Client, port: int) -> None:
    admin.execute_command("ACL", "SETUSER", "default", "resetkeys", "~other*")


@pytest.mark.parametrize(
    ("refusing", "answer", "cure"),
    [
        (full, "OOM command not allowed", "memory is full; raise its maxmemory"),
        (replica, "READONLY You can't write", "is a replica; name its primary"),
        (too_few_replicas, "NOREPLICAS Not enough good replicas", "min-replicas-to-write"),
        (other_type, "WRONGTYPE Operation against a key", "name another lock key"),
        (no_scripts, "NOPERM .*evalsha", "rights that docs/lock.md names"),
        (no_keys, "NOPERM .*keys", "rights that docs/lock.md names"),
    ],
)
def test_a_refusal_is_an_error_with_that_answer(
    refusing: Callable[[Client, int], None],
    answer: str,
    cure: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Redis(tmp_path) as server, server.client() as admin:
        monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", server.airflow_uri)
        refusing(admin, server.port)
        with pytest.raises(
            LockUnavailable, match=rf"127.0.0.1:\d+ refused 'clean': .*{answer}.*{cure}"
        ) as caught:
            acquire()
        assert "did not answer" not in str(caught.value)
        assert "script" not in str(caught.value)


def test_a_command_that_was_renamed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Redis(tmp_path, ["--rename-command", "EVALSHA", ""]) as server:
        monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", server.airflow_uri)
        with pytest.raises(LockUnavailable, match=r"unknown command 'EVALSHA'. The lock needs this command"):
            acquire()


def test_the_arguments_of_a_command_are_not_repeated() -> None:
    """Those of AUTH and HELLO are an account."""
    answer = "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'me' 'secret-one' "
    text = str(unavailable("h:1", "clean", ResponseError(answer)))
    assert "h:1 refused 'clean': ResponseError: unknown command 'HELLO'. The lock needs" in text
    assert "secret-one" not in text


def test_a_database_that_is_not_there(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"redis://:{redis_server.password}@127.0.0.1:{redis_server.port}/99"
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", uri)
    with pytest.raises(LockUnavailable, match=r"refused .*DB index is out of range.* no such database"):
        acquire()


def test_a_node_of_a_cluster_behind_a_connection_that_does_not_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Redis(tmp_path, ["--cluster-enabled", "yes"]) as server:
        account = f":{server.password}@127.0.0.1:{server.port}"
        monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"redis://{account}/1")
        with pytest.raises(LockUnavailable, match=r"refused .*set cluster=true"):
            acquire()
        wrong = f":wrong-one@127.0.0.1:{server.port}"
        monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"redis://{wrong}/?cluster=yes")
        with pytest.raises(LockUnavailable, match="WRONGPASS"):
            acquire()


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, list[bytes]]]:
    """A server that speaks no TLS: its port, and what was sent to it, one entry for each connection."""
    heard: list[bytes] = []

    class Record(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard.append(self.request.recv(65536))
            self.request.sendall(b"-ERR no\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Record) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1], heard
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("kind", ["", "cluster=true", "sentinel_service=iam"])
@pytest.mark.parametrize(
    "asked", ["rediss://{}/?", "REDISS://{}/?", "redis://{}/?ssl=1&", "redis://{}/?ssl=on&"]
)
def test_nothing_is_sent_without_encryption_where_tls_is_asked_for(
    listener: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch, asked: str, kind: str
) -> None:
    port, heard = listener
    uri = asked.format(f"me:secret-one@127.0.0.1:{port}")
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"{uri}{kind}")
    with pytest.raises(LockUnavailable, match=r"did not answer .* does not speak TLS|Sentinel"):
        acquire()

    async def ask() -> None:
        client = await async_redis_client("iam_redis", answer_within=1.0)
        try:
            await client.ping()
        finally:
            await client.aclose()

    with pytest.raises((RedisError, RedisClusterException)):
        asyncio.run(ask())
    hello = b"\x16\x03\x01"  # a TLS handshake
    assert len(heard) > 1
    assert all(sent.startswith(hello) for sent in heard)
    assert not any(word in sent for sent in heard for word in (b"secret-one", b"AUTH", b"PING", b"sentinel"))
