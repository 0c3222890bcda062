"""What a lease may count on when its servers answer slowly, and for how long others stay out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from iam_watcher.errors import LockBusy, LockUnavailable
from iam_watcher.lock import guard, renewal, scripts
from iam_watcher.lock import lease as module
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.renewal import LeaseRenewer
from tests.contract.test_lease import expire

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.servers import Redis
    from iam_watcher.lock.lease import Lease

    MakeLease = Callable[..., Lease]

TTL = 60.0
ALLOWANCE = module.DRIFT_FACTOR * TTL + module.DRIFT_FLOOR


class Clock:
    """A monotonic clock that goes on only when a server is slow, or a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.delays: list[float] = []  # of the next answers

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()

    def slow(self, lease: Lease) -> Lease:
        """Let the answers of a lease's servers take as long as `delays` says."""
        for client in lease.clients:
            for name in ("evalsha", "eval"):
                setattr(client, name, self._delayed(getattr(client, name)))
        return lease

    def _delayed(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        def delayed(*arguments: Any) -> Any:
            answer = ask(*arguments)
            self.now += self.delays.pop(0) if self.delays else 0.0
            return answer

        return delayed


@pytest.fixture
def clock(make_lease: MakeLease, monkeypatch: pytest.MonkeyPatch) -> Clock:
    warm_up(make_lease)
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(renewal, "time", clock)
    return clock


def warm_up(make_lease: MakeLease) -> None:
    """Have the servers know the scripts, so that each question is one."""
    lease = make_lease(key="task")
    assert lease.acquire()
    assert lease.renew()


def test_an_acquired_lease_counts_from_before_it_was_asked_for(make_lease: MakeLease, clock: Clock) -> None:
    lease = clock.slow(make_lease(ttl=TTL))
    clock.delays = [3.0]
    assert lease.acquire()
    assert lease.remaining == pytest.approx(TTL - ALLOWANCE - 3.0)


def test_a_renewed_lease_counts_from_before_it_was_asked_for(make_lease: MakeLease, clock: Clock) -> None:
    lease = clock.slow(make_lease(ttl=TTL))
    assert lease.acquire()
    clock.now += 20.0
    clock.delays = [3.0]
    assert lease.renew()
    assert lease.remaining == pytest.approx(TTL - ALLOWANCE - 3.0)


def test_a_lease_ends_before_its_key_if_the_clocks_run_apart(make_lease: MakeLease, clock: Clock) -> None:
    lease = make_lease(ttl=TTL)
    assert lease.acquire()
    clock.now += TTL - ALLOWANCE - 0.01
    assert lease.remaining > 0
    clock.now += 0.02
    assert lease.remaining == 0


def test_a_process_that_stood_still_while_it_acquired_asks_again(make_lease: MakeLease, clock: Clock) -> None:
    lease = clock.slow(make_lease(ttl=TTL))
    clock.delays = [TTL]
    assert lease.acquire()
    assert lease.remaining == pytest.approx(TTL - ALLOWANCE)


@pytest.mark.parametrize("before", [False, True])
def test_a_majority_that_is_always_too_late_is_an_error_and_given_back(
    before: bool, make_lease: MakeLease, servers: list[Redis], clock: Clock
) -> None:
    """What another process of the run holds is not given back: that one may be at work."""
    if before:
        assert make_lease(ttl=TTL).acquire()
    lease = clock.slow(make_lease(ttl=TTL))
    clock.delays = [TTL] * 2 * len(servers)
    took = f"{TTL * len(servers):.1f} s"
    with pytest.raises(LockUnavailable, match=f"answered after {took}, too late for a lease of 60 s"):
        lease.acquire()
    assert lease.remaining == 0
    for server in servers:
        with server.client() as client:
            assert client.get("clean") == (b"a/dag/run" if before else None)


def test_a_mark_counts_from_before_it_was_asked_for(make_lease: MakeLease, clock: Clock) -> None:
    """When it may have run out, the lock may have been freed: so Redis is asked before the next step."""
    lease = clock.slow(make_lease(ttl=TTL))
    assert lease.acquire()
    alive = LeaseRenewer(lease, "work/-1", "try-1", has_safe_points=True)
    clock.delays = [renewal.HEARTBEAT_TTL / 2]
    alive.renew()
    clock.now += renewal.HEARTBEAT_TTL / 2
    make_lease("person").revoke("a/dag/run", "{}")
    with pytest.raises(renewal.LockLost, match="released by force"):
        alive.check()


def test_a_retry_that_waited_longer_than_its_lease_must_have_the_lock_still(
    make_lease: MakeLease, servers: list[Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    retry, other = make_lease("a"), make_lease("b")
    enter = guard._enter

    def wait_for_the_predecessor(*arguments: Any) -> None:
        expire(servers)
        assert other.acquire()
        enter(*arguments)

    monkeypatch.setattr(guard, "_enter", wait_for_the_predecessor)
    grant = Grant("clean", "a", ["iam_redis"], 60.0, "skip", None, True, "", 0.0)
    with pytest.raises(LockBusy):
        guard._acquire(retry, grant, "work/-1", "try-2")
    assert other.holder().busy == ()


def test_a_run_that_has_begun_takes_a_free_lock_ahead_of_those_who_wait(
    make_lease: MakeLease, servers: list[Redis]
) -> None:
    """It would be refused a lock that no one holds."""
    run, waiter = make_lease("a"), make_lease("b")
    assert run.acquire()
    waiter.queue(time.time() + 60)
    expire(servers)  # between two tasks
    grant = Grant("clean", "a", ["iam_redis"], 60.0, "skip", None, True, "", 0.0)
    guard._acquire(run, grant, "work/-1", "try-1")
    assert not waiter.acquire()


def test_a_run_that_waited_for_its_predecessor_takes_a_free_lock_ahead_too(
    make_lease: MakeLease, servers: list[Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    retry, waiter = make_lease("a"), make_lease("b")
    enter = guard._enter

    def wait_for_the_predecessor(*arguments: Any) -> None:
        expire(servers)
        waiter.queue(time.time() + 60)
        enter(*arguments)

    monkeypatch.setattr(guard, "_enter", wait_for_the_predecessor)
    grant = Grant("clean", "a", ["iam_redis"], 60.0, "skip", None, True, "", 0.0)
    guard._acquire(retry, grant, "work/-1", "try-2")
    assert retry.holder().owner == "a"


@pytest.mark.parametrize("go", [False, True])
def test_who_was_forced_out_stays_out_for_two_leases(
    go: bool, make_lease: MakeLease, servers: list[Redis]
) -> None:
    lease = make_lease("a", ttl=TTL)
    if go:
        for server in servers:
            with server.client() as client:
                client.set("clean", "a", px=int(1000 * TTL))
    else:
        assert lease.acquire()
    assert make_lease("person").revoke("a", "{}")
    for server in servers:
        with server.client() as client:
            seconds, _ = client.time()
            left = client.zscore("{clean}:revoked", "a") / 1000 - seconds
            assert 2 * TTL - 5 < left <= 2 * TTL + 1
            assert client.pttl("{clean}:revoked") >= 1000 * left - 1000
    assert not lease.acquire()
    assert lease.verdict == "revoked"
    for server in servers:  # as if they were over
        with server.client() as client:
            client.zadd("{clean}:revoked", {"a": 1})
    assert lease.acquire()


def test_what_forced_releases_leave_is_bounded(make_lease: MakeLease, servers: list[Redis]) -> None:
    for server in servers:
        with server.client() as client:
            client.zadd("{clean}:revoked", {"long ago": 1})
            client.lpush("{clean}:history", *["{}"] * 2 * scripts.HISTORY)
    assert make_lease("a").acquire()
    assert make_lease("person").revoke("a", "{}")
    for server in servers:
        with server.client() as client:
            assert client.zrange("{clean}:revoked", 0, -1) == [b"a"]
            assert client.llen("{clean}:history") == scripts.HISTORY


def test_the_mark_of_one_who_was_forced_out_outlives_a_later_forced_release(
    make_lease: MakeLease, servers: list[Redis]
) -> None:
    days = 2 * 86_400.0
    for owner, ttl in (("a", days), ("b", 60.0)):
        assert make_lease(owner, ttl=ttl).acquire()
        assert make_lease("person").revoke(owner, "{}")
    for server in servers:
        with server.client() as client:
            assert client.pttl("{clean}:revoked") > 1000 * days
