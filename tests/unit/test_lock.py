from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from iam_watcher.lock import Lock
from iam_watcher.lock.admin import server_state
from iam_watcher.lock.clients import timeout_for
from iam_watcher.lock.observer import agreed_holder


def test_defaults() -> None:
    lock = Lock("clean")
    assert (lock.key, lock.redis_conn_id, lock.on_busy) == ("clean", "iam_redis", "skip")
    assert (lock.lease, lock.wait) == (timedelta(seconds=60), timedelta(seconds=5))
    assert (lock.once_per_tick, lock.max_hold, lock.database_lock) == (True, None, True)


TEN = timedelta(seconds=10)


@pytest.mark.parametrize(
    "arguments",
    [
        {"lease": TEN},
        {"lease": TEN, "max_hold": TEN},
        {"wait": timedelta(0)},
        {"redis_conn_id": ["a", "b", "c"]},
    ],
)
def test_the_least_that_works(arguments: dict) -> None:
    Lock(**arguments)


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
        *(
            ({"redis_conn_id": value}, f"redis_conn_id is .*{shown}.*; expected the id of an Airflow")
            for value, shown in ((None, "None"), (5, "5"), (b"iam_redis", "bytes"), ({"a": 1}, "dict"))
        ),
        ({"redis_conn_id": ["a", "b"]}, "an odd number of them"),
        ({"redis_conn_id": ["a", "b", "a"]}, "expected each connection once"),
        ({"max_hold": timedelta(seconds=59)}, r"max_hold=0:00:59: expected the lease \(0:01:00\) or more"),
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


@pytest.mark.parametrize(
    ("ttls", "remaining"),
    [([60_000], 60.0), ([0], 0.0), ([0, 5000], 5.0), ([5000, 0], 5.0), ([5000, -1], None), ([-1, 0], None)],
)
def test_a_lock_is_held_for_the_longest_time_that_a_server_knows(
    ttls: list[int], remaining: float | None
) -> None:
    """A key that never expires has the ttl -1."""
    holder = agreed_holder("clean", [(b"a", ttl, "") for ttl in ttls], servers=len(ttls))
    assert holder is not None
    assert holder.remaining == remaining


@pytest.mark.parametrize(
    ("ttl", "servers", "timeout"), [(3600, 1, 1.5), (3600, 3, 1.0), (10, 1, 1.0), (5, 3, 0.5)]
)
def test_how_long_a_server_may_take_to_answer(ttl: float, servers: int, timeout: float) -> None:
    assert timeout_for(ttl, servers=servers) == timeout
    assert timeout_for(ttl) == timeout_for(ttl, servers=1)


def test_a_clock_is_compared_with_the_middle_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server reads its clock at some moment between the request and its answer."""

    class Clock(datetime):
        times = iter([100.0, 104.0])

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(next(cls.times), tz)

    monkeypatch.setattr(server_state, "datetime", Clock)
    server: Any = SimpleNamespace(time=lambda: (110, 500_000))
    assert server_state.clock_ahead(server) == timedelta(seconds=8.5)
