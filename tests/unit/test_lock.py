from __future__ import annotations

from datetime import timedelta

import pytest

from iam_watcher.lock import Lock


def test_defaults() -> None:
    lock = Lock("clean")
    assert (lock.key, lock.redis_conn_id, lock.on_busy) == ("clean", "iam_redis", "skip")
    assert (lock.lease, lock.wait) == (timedelta(seconds=60), timedelta(seconds=5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": ""}, "lock key ''"),
        ({"key": "a b"}, "lock key 'a b'"),
        ({"lease": timedelta(seconds=9)}, r"lease=0:00:09: expected 0:00:10 or more"),
        ({"lease": 60}, "lease=60: expected a timedelta"),
        ({"wait": timedelta(seconds=-1)}, "expected 0 or more"),
        ({"wait": 5}, "wait=5: expected a timedelta"),
        ({"wait": None}, "wait=None: expected a timedelta"),
        ({"max_hold": 600}, "max_hold=600: expected a timedelta"),
        ({"key": 5}, "key=5: expected a text"),
        ({"database_lock": "False"}, "database_lock='False': expected True or False"),
        ({"once_per_tick": None}, "once_per_tick=None: expected True or False"),
        ({"on_busy": "wait"}, "on_busy='wait': expected 'skip' or 'fail'"),
        ({"redis_conn_id": ""}, "redis_conn_id"),
    ],
)
def test_what_cannot_work_is_refused_at_once(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lock(**arguments)


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Lock("clean").key = "task"  # type: ignore[misc]
