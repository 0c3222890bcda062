"""Redis as people run it, through an Airflow connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iam_watcher.errors import LockError, LockUnavailable
from iam_watcher.lock.clients import redis_client, timeout_for
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis as Client

    from dev.servers import Redis


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, redis_server: Redis) -> Callable[[str], Client]:
    def connect(tail: str, account: str | None = None) -> Client:
        login = f":{redis_server.password}" if account is None else account
        uri = f"redis://{login}@{redis_server.host}:{redis_server.port}{tail}"
        monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", uri)
        return redis_client("iam_redis")

    return connect


@pytest.mark.parametrize(
    ("tail", "database"), [("", 0), ("/", 0), ("/3", 3), ("/?db=3", 3), ("/3?db=3", 3), ("/?db=0", 0)]
)
def test_the_database_is_the_one_that_the_connection_names(connect, tail: str, database: int) -> None:
    assert connect(tail).client_info()["db"] == database


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("/3?db=4", "one database in its path, and another one in its extra"),
        ("/three", r"has as its database a str .*; expected a number"),
    ],
)
def test_a_database_that_cannot_be_meant(connect, tail: str, message: str) -> None:
    with pytest.raises(LockError, match=message):
        connect(tail)


def test_a_user_of_redis_acl(connect, redis_client: Client) -> None:
    redis_client.acl_setuser("locker", enabled=True, passwords=["+pass"], keys=["*"], categories=["+@all"])
    try:
        assert connect("", "locker:pass").acl_whoami() == "locker"
    finally:
        redis_client.acl_deluser("locker")


def test_a_wrong_password_is_an_error_of_redis_and_not_shown(connect) -> None:
    lease = Lease(connect("", ":wrong-one"), "clean", "a", ttl=60)
    with pytest.raises(
        LockUnavailable, match=r"refused 'clean': WRONGPASS .* Correct login and password"
    ) as caught:
        lease.acquire()
    assert "wrong-one" not in str(caught.value)


def test_no_one_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    from dev.processes import free_port

    port = free_port()
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"redis://127.0.0.1:{port}")
    lease = Lease(redis_client("iam_redis"), "clean", "a", ttl=60)
    with pytest.raises(LockUnavailable, match=rf"127\.0\.0\.1:{port} did not answer for 'clean'"):
        lease.acquire()


def test_time_outs_are_a_part_of_the_lease(connect) -> None:
    connect("")
    for ttl, servers, timeout in ((10, 1, 1.0), (3_600, 1, 1.5), (3_600, 3, 1.0)):
        grant = Grant("clean", "a", ("iam_redis",) * servers, ttl)
        for client in grant.clients():
            kwargs = client.connection_pool.connection_kwargs
            assert (kwargs["socket_timeout"], kwargs["socket_connect_timeout"]) == (timeout, timeout)


def test_a_redis_that_hangs_is_given_up(connect, redis_server: Redis) -> None:
    connect("")
    lease = Lease(redis_client("iam_redis", answer_within=timeout_for(2)), "clean", "a", ttl=2)
    redis_server.pause()
    try:
        with pytest.raises(LockUnavailable, match="TimeoutError"):
            lease.acquire()
    finally:
        redis_server.resume()


def test_a_connection_that_the_server_closed_is_opened_again(connect, redis_client: Client) -> None:
    lease = Lease(connect(""), "clean", "a", ttl=60)
    assert lease.acquire()
    redis_client.client_kill_filter(_type="normal", skipme=True)
    assert lease.renew()


def test_a_server_that_is_full_lets_its_holder_renew_and_release(redis_client: Client) -> None:
    lease = Lease(redis_client, "clean", "a", ttl=60, tick="t1")
    assert lease.acquire()
    assert lease.enter("work/-1", "try-1", heartbeat_ttl=5)
    redis_client.config_set("maxmemory", "1")
    try:
        assert lease.heartbeat("work/-1", "try-1", heartbeat_ttl=5) == "renewed"
        lease.leave("work/-1", "try-1")
        assert lease.release(tick_done_for=60)
    finally:
        redis_client.config_set("maxmemory", "0")
    assert lease.tick_done_by() == "a"
