"""What many locks look like at one moment, on one server and on several, some of them away."""

from __future__ import annotations

import json

import pytest

from iam_watcher.lock.admin import snapshot as module
from iam_watcher.lock.admin.snapshot import snapshot
from iam_watcher.lock.lease import Lease

FOREVER = 2_000_000_000  # as a deadline


def record(owner: str, task: str, updated: str, share: float = 0.5) -> str:
    facts = {"owner": owner, "task": task, "table": "user", "began": updated, "updated": updated}
    numbers = {"examined": 10, "changed": 4, "rows_per_second": 2.0, "share": share, "eta_seconds": None}
    return json.dumps(facts | numbers)


@pytest.fixture
def three(redis_servers):
    servers = redis_servers[:3]
    clients = {f"redis-{number}": server.client() for number, server in enumerate(servers)}
    for client in clients.values():
        client.flushall()
        client.script_flush()
    yield clients
    for client in clients.values():
        client.close()


def look(clients, locks, *, away=()):
    failed = []

    def client_of(name):
        if name in away:
            raise ConnectionError(f"{name} is away")
        return clients[name]

    return snapshot(locks, client_of, lambda name, error: failed.append(name)), failed


def test_free_held_and_waited_for_in_one_answer(three):
    names = list(three)[:1]
    holder = Lease(three[names[0]], "held", "prod/a/1", ttl=60)
    assert holder.acquire()
    for owner in ("prod/b/1", "prod/c/1"):
        Lease(three[names[0]], "held", owner, ttl=60).queue(FOREVER)
    three[names[0]].hset(
        "{held}:progress",
        mapping={
            "work/1": record("prod/a/1", "work/1", "2027-01-01T00:00:00+00:00"),
            "work/0": record("prod/a/1", "work/0", "2027-01-01T00:00:00+00:00"),
            "old/0": record("prod/a/0", "old/0", "2027-01-01T00:00:00+00:00"),
            "odd/0": "{",
        },
    )
    found, failed = look(three, {"held": names, "free": names})
    assert failed == []
    held = found["held"]
    assert (held.holder.owner, held.waiters, held.known, held.errors) == ("prod/a/1", 2, True, ())
    assert [waiter.owner for waiter in held.waiting] == ["prod/b/1", "prod/c/1"]
    assert all(abs(waiter.until.timestamp() - FOREVER) < 1 for waiter in held.waiting)
    # Of the holder alone, and only what can be read.
    assert [task.task for task in held.tasks] == ["work/0", "work/1"]
    assert (found["free"].holder, found["free"].waiters, found["free"].known) == (None, 0, True)


def test_a_key_of_another_type_is_an_error_of_its_lock_alone(three):
    names = list(three)[:1]
    three[names[0]].lpush("list", "x")
    assert Lease(three[names[0]], "held", "prod/a/1", ttl=60).acquire()
    found, _ = look(three, {"list": names, "held": names})
    assert not found["list"].known
    assert "Another program uses this key" in found["list"].errors[0]
    assert found["held"].holder.owner == "prod/a/1"


def test_of_three_servers_one_may_be_away(three):
    lock = {"held": list(three)}
    assert Lease(list(three.values()), "held", "prod/a/1", ttl=60).acquire()
    found, failed = look(three, lock, away=["redis-2"])
    assert failed == ["redis-2"]
    assert (found["held"].holder.owner, found["held"].known) == ("prod/a/1", True)
    assert len(found["held"].errors) == 1
    found, _ = look(three, lock, away=["redis-1", "redis-2"])
    assert (found["held"].holder, found["held"].known) == (None, False)


def test_a_long_queue_is_counted_and_its_head_is_listed(three, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    name = next(iter(three))
    for number in range(5):
        Lease(three[name], "held", f"prod/w/{number}", ttl=60).queue(FOREVER)
    found, _ = look(three, {"held": [name]})
    assert (found["held"].waiters, [one.owner for one in found["held"].waiting]) == (
        5,
        ["prod/w/0", "prod/w/1"],
    )
