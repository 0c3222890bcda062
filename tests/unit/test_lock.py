from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from iam_watcher.lock import Lock
from iam_watcher.lock.observer import agreed_holder


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


def test_the_holder_of_a_majority_has_held_it_since_the_first_answer() -> None:
    answers = [(b"a/dag/run", 2500, 1_700_000_001_000, b"task"), (b"a/dag/run", 4500, 1_700_000_000_000)]
    holder = agreed_holder("clean", answers, servers=3)
    assert holder is not None
    assert holder.since == datetime.fromtimestamp(1_700_000_000, UTC)
    assert (holder.owner, holder.remaining, holder.busy) == ("a/dag/run", 4.5, ("task",))
    assert agreed_holder("clean", answers[:1], servers=3) is None
