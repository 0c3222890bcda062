"""What an error of Redis says."""

from __future__ import annotations

import pytest
from redis.exceptions import AuthenticationError, RedisClusterException, RedisError

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


def test_an_error_that_is_not_from_redis_is_shown_as_it_is() -> None:
    assert explain("redis-1", "clean", ValueError("no number")) == "ValueError: no number"
