"""TLS, Sentinel and Cluster, by the extras of the Airflow connection.

All kinds are read from the same connection by the same helper: hence the length.
"""

from __future__ import annotations

import asyncio
import socketserver
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from redis import Redis as Client
from redis import RedisError
from redis.sentinel import SentinelConnectionPool

from dev.processes import Process, free_port, require
from dev.servers import Redis
from dev.sessions import wait_until
from iam_watcher.errors import LockError, LockUnavailable
from iam_watcher.lock import subscription as trigger_module
from iam_watcher.lock.admin.force_release import force_release
from iam_watcher.lock.admin.inspection import holders
from iam_watcher.lock.admin.snapshot import snapshot
from iam_watcher.lock.clients import async_redis_client, redis_client
from iam_watcher.lock.deployment import claim
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.trigger import RedisLockTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).parents[2]


def connection(monkeypatch: pytest.MonkeyPatch, port: int, password: str = "", **extras: object) -> None:
    account = f":{password}@" if password else ""
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"redis://{account}127.0.0.1:{port}/?{urlencode(extras)}")


def holds_what_a_lock_promises() -> None:
    """Acquire, refuse, wait in line, be woken, release: by the clients that the connection gives."""
    first, second = (Lease(redis_client("iam_redis"), "clean", owner, ttl=60) for owner in "ab")
    assert first.acquire()
    assert not second.acquire()
    assert first.renew()
    deadline = second.queue(time.time() + 30)

    async def scene() -> str:
        trigger = RedisLockTrigger(key="clean", owner="b", redis_conn_ids=["iam_redis"], deadline=deadline)
        woken = asyncio.create_task(anext(aiter(trigger.run())))
        await asyncio.sleep(0.5)
        assert not woken.done()
        assert await asyncio.to_thread(first.release)
        return (await woken).payload["reason"]

    assert asyncio.run(scene()) == "free"
    assert second.acquire()
    assert second.release()
    for lease in (first, second):
        close(lease)


def close(lease: Lease) -> None:
    (client,) = lease.clients
    client.close()
    if isinstance(client, Client) and isinstance(client.connection_pool, SentinelConnectionPool):
        for each in client.connection_pool.sentinel_manager.sentinels:
            each.close()


@contextmanager
def sentinel(folder: Path, master: Redis) -> Iterator[int]:
    """A Sentinel that watches one master, and its port."""
    folder.mkdir()
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"bind 127.0.0.1\nport {port}\ndir {folder}\n"
        f"sentinel monitor iam 127.0.0.1 {master.port} 1\nsentinel auth-pass iam {master.password}\n"
    )
    command = [require("redis-server", "redis-server"), str(config), "--sentinel"]
    process = Process("sentinel", command, folder / "sentinel.log")
    try:
        assert wait_until(lambda: "+monitor" in (folder / "sentinel.log").read_text(), 15)
        yield port
    finally:
        process.stop()


def certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1 that signs itself, in one file."""
    from ipaddress import IPv4Address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "redis.pem"
    plain = serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(text + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem, tls_port = certificate(tmp_path), free_port()
    options = ["--tls-port", str(tls_port), "--tls-auth-clients", "no"]
    for name in ("--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"):
        options += [name, str(pem)]
    with Redis(tmp_path / "redis", options) as server:
        connection(monkeypatch, tls_port, server.password, ssl="true", ssl_ca_certs=str(pem))
        holds_what_a_lock_promises()
        connection(monkeypatch, tls_port, server.password, ssl="true")
        with pytest.raises(LockUnavailable, match="certificate"):
            Lease(redis_client("iam_redis"), "clean", "a", ttl=60).acquire()


def test_sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Redis(tmp_path / "redis") as master, sentinel(tmp_path / "sentinel", master) as port:
        connection(monkeypatch, port, master.password, sentinel_service="iam")
        holds_what_a_lock_promises()
        closed = free_port()
        sentinels = f"127.0.0.1:{closed},127.0.0.1:{port}"
        connection(monkeypatch, closed, master.password, sentinel_service="iam", sentinels=sentinels)
        holds_what_a_lock_promises()
        connection(monkeypatch, port, master.password, sentinel_service="other")
        with pytest.raises(LockUnavailable, match="other"):
            Lease(redis_client("iam_redis"), "clean", "a", ttl=60).acquire()


@contextmanager
def hanging_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A Sentinel that ends each connection at once, as the connection's only one, and what it counted."""
    asked: list[int] = []

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(1)

    with socketserver.TCPServer(("127.0.0.1", 0), HangUp) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        connection(monkeypatch, server.server_address[1], sentinel_service="iam")
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def test_a_sentinel_is_not_asked_ten_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time may be a time-out, and then the next Sentinel would be asked too late."""
    with hanging_up(monkeypatch) as asked:
        with pytest.raises(LockUnavailable):
            Lease(redis_client("iam_redis"), "clean", "a", ttl=60).acquire()
        assert len(asked) < 10
        asked.clear()
        with pytest.raises(RedisError):
            asyncio.run(async_redis_client("iam_redis", answer_within=5.0))
        assert len(asked) < 3


@pytest.mark.parametrize("sentinels", ["host:port", ":1", "a:1,b:x"])
def test_sentinels_that_cannot_be_meant(sentinels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, 1, sentinel_service="iam", sentinels=sentinels)
    with pytest.raises(LockError, match="expected host:port,host:port"):
        redis_client("iam_redis")


def looked_at(client: object, key: str) -> str:
    """Return the owner of a lock as a page sees it, beside a free lock in another slot of a cluster."""
    found = snapshot({key: ["here"], "another-one": ["here"]}, lambda _: client, lambda _, error: None)
    assert (found[key].errors, found["another-one"].holder) == ((), None)
    return found[key].holder.owner


def test_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Redis(tmp_path, ["--cluster-enabled", "yes"]) as server, server.client() as admin:
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        assert wait_until(lambda: admin.cluster("INFO")["cluster_state"] == "ok", 15)
        connection(monkeypatch, server.port, server.password, cluster="true")
        holds_what_a_lock_promises()
        startup = f"127.0.0.1:{server.port}"
        connection(monkeypatch, free_port(), server.password, cluster="true", startup_nodes=startup)
        holds_what_a_lock_promises()
        with redis_client("iam_redis") as client:
            assert Lease([client], "clean", "a", ttl=60).acquire()
            assert looked_at(client, "clean") == "a"


def test_a_cluster_that_goes_away_is_an_error_of_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_IAM_WATCHER_FINGERPRINT", "ours")
    with Redis(tmp_path, ["--cluster-enabled", "yes"]) as server, server.client() as admin:
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        assert wait_until(lambda: admin.cluster("INFO")["cluster_state"] == "ok", 15)
        connection(monkeypatch, server.port, server.password, cluster="true")
        client = redis_client("iam_redis")
        claim([client])
        server.stop()
        with pytest.raises(LockUnavailable, match="the Redis Cluster did not answer for"):
            claim([client])
        with pytest.raises(LockUnavailable):
            holders([client])
        client.close()


def test_a_cluster_that_is_away_is_an_error_of_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    connection(monkeypatch, port, cluster="true")
    with pytest.raises(LockUnavailable, match=rf"127\.0\.0\.1:{port}"):
        redis_client("iam_redis")


def test_a_cluster_has_no_second_database(monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, 1, cluster="true", db=3)
    with pytest.raises(LockError, match="has only 0"):
        redis_client("iam_redis")


def test_the_acl_user_of_the_docs_may_do_what_it_needs_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REPO / "docs" / "lock.md").read_text()
    (rule,) = [line for line in page.splitlines() if line.startswith("ACL SETUSER")]
    with Redis(tmp_path) as server, server.client() as admin:
        admin.execute_command(*rule.split())
        address = f"watcher:password@127.0.0.1:{server.port}/?db=0"
        monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"redis://{address}")
        monkeypatch.setattr(trigger_module, "POLL", 3600.0)  # Only the subscription wakes.
        holds_what_a_lock_promises()
        clients = [redis_client("iam_redis")]
        assert Lease(clients, "clean", "a", ttl=60).acquire()
        assert [holder.owner for holder in holders(clients)] == ["a"]
        assert looked_at(clients[0], "clean") == "a"
        assert force_release(clients, "clean", by="test", reason="test").owner == "a"
        assert Lease(clients, "iam-watcher:any_dag", "a", ttl=60).acquire()
        with pytest.raises(
            LockUnavailable, match=r"refused 'someone-elses': NOPERM .* rights that docs/lock.md names"
        ):
            Lease(clients, "someone-elses", "a", ttl=60).acquire()
        clients[0].close()
