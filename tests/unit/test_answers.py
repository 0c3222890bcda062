"""What an error of Redis says."""

from __future__ import annotations

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004  redis-py's name
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004  the same
)

from iam_watcher.lock.answers import explain


@pytest.mark.parametrize(
    ("outer", "said"),
    [
        (RedisClusterException("Redis Cluster cannot be connected"), "the password is wrong"),
        (RedisError("the line is cut"), "the line is cut"),
    ],
)
def test_only_what_a_clusters_client_packs_up_is_unpacked(outer: RedisError, said: str) -> None:
    outer.__cause__ = AuthenticationError("the password is wrong")
    assert said in explain("redis-1", "clean", outer)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ResponseError("no such thing"), "redis-1 refused 'clean': ResponseError: no such thing"),
        (ResponseError("is denied", status_code="NOPERM"), "redis-1 refused 'clean': NOPERM is denied. Give"),
        (BusyLoadingError("wait"), "redis-1 refused 'clean': BusyLoadingError: wait"),
        (RedisError("x", status_code="NEW"), "redis-1 refused 'clean': NEW x"),
        (TimeoutError("no time"), "redis-1 did not answer for 'clean': TimeoutError: no time"),
        (ConnectionError("closed"), "redis-1 did not answer for 'clean': ConnectionError: closed"),
    ],
)
def test_a_server_that_refuses_did_answer(error: RedisError, said: str) -> None:
    assert explain("redis-1", "clean", error).startswith(said)


def test_an_error_that_is_not_from_redis_is_shown_as_it_is() -> None:
    assert explain("redis-1", "clean", ValueError("no number")) == "ValueError: no number"
