"""What a lease promises, whatever it stands on.

It is the contract of one class, on every kind of deployment of Redis: hence the length.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import TYPE_CHECKING

import pytest

from iam_watcher.errors import LockBusy
from iam_watcher.lock.lease import DRIFT_FLOOR, Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from dev.servers import Redis

    MakeLease = Callable[..., Lease]


def expire(servers: list[Redis], key: str = "clean") -> None:
    """Let the key run out, as its ttl would."""
    for server in servers:
        with server.client() as client:
            client.delete(key)


def test_acquires_a_free_key(make_lease: MakeLease) -> None:
    lease = make_lease()
    assert lease.acquire()
    assert 0 < lease.remaining <= lease.ttl
    holder = make_lease("b").holder()
    assert holder is not None
    assert holder.owner == "a/dag/run"
    assert holder.deployment == "a"
    assert holder.since is not None
    assert holder.remaining is not None
    assert 0 < holder.remaining <= lease.ttl


def test_the_key_lives_for_the_ttl(make_lease: MakeLease) -> None:
    lease = make_lease(ttl=86_400.0)
    assert lease.acquire()
    assert 86_390 < lease.holder().remaining <= 86_400


@pytest.mark.parametrize("ask", ["acquire", "renew"])
def test_redis_knows_the_owner_for_a_day_after_each(
    make_lease: MakeLease, servers: list[Redis], ask: str
) -> None:
    lease = make_lease()
    assert lease.acquire()
    for server in servers:
        with server.client() as client:
            client.pexpire("{clean}:info", 60_000)
    assert getattr(lease, ask)()
    for server in servers:
        with server.client() as client:
            assert client.pttl("{clean}:info") > 86_000_000


def test_a_second_owner_is_refused(make_lease: MakeLease) -> None:
    first, second = make_lease("a"), make_lease("b")
    assert first.acquire()
    assert not second.acquire()
    assert second.remaining == 0
    assert first.renew()


def test_names_are_independent(make_lease: MakeLease) -> None:
    assert make_lease("a", "clean").acquire()
    assert make_lease("b", "task").acquire()


def test_an_expired_key_is_free(make_lease: MakeLease, servers: list[Redis]) -> None:
    first, second = make_lease("a"), make_lease("b")
    assert first.acquire()
    expire(servers)
    assert second.acquire()


def test_the_key_does_expire(make_lease: MakeLease) -> None:
    first, second = make_lease("a", ttl=0.2), make_lease("b")
    assert first.acquire()
    deadline = time.monotonic() + 5
    while not second.acquire():
        assert time.monotonic() < deadline
    assert first.remaining == 0
    assert not first.renew()


def test_the_same_owner_gets_it_again_in_another_process(make_lease: MakeLease) -> None:
    first, again = make_lease("a"), make_lease("a")
    assert first.acquire()
    since = first.holder().since
    assert again.acquire()
    assert again.holder().since == since
    assert again.renew()


def test_release_frees_it(make_lease: MakeLease) -> None:
    first, second = make_lease("a"), make_lease("b")
    assert first.acquire()
    assert first.release()
    assert first.remaining == 0
    assert first.holder() is None
    assert second.acquire()


def test_a_foreign_release_is_refused(make_lease: MakeLease) -> None:
    first, second = make_lease("a"), make_lease("b")
    assert first.acquire()
    assert not second.release()
    assert second.holder().owner == "a"


def test_releasing_twice_frees_nobody_else(make_lease: MakeLease) -> None:
    first, second = make_lease("a"), make_lease("b")
    assert first.acquire()
    assert first.release()
    assert second.acquire()
    assert not first.release()
    assert second.renew()


def test_an_expired_lease_cannot_be_renewed(make_lease: MakeLease, servers: list[Redis]) -> None:
    lease = make_lease()
    assert lease.acquire()
    expire(servers)
    assert not lease.renew()
    assert lease.heartbeat("", "") == "gone"
    assert lease.holder() is None


def test_a_renewal_extends_to_a_full_ttl(make_lease: MakeLease, servers: list[Redis]) -> None:
    lease = make_lease()
    assert lease.acquire()
    for server in servers:
        with server.client() as client:
            client.pexpire("clean", 1000)
    assert lease.renew()
    assert lease.holder().remaining > 2


def test_as_a_context_manager(make_lease: MakeLease) -> None:
    with make_lease("a") as lease:
        assert lease.remaining > 0
        with pytest.raises(LockBusy, match="held by a since") as caught, make_lease("b"):
            pass
        assert caught.value.holder.owner == "a"
    assert lease.holder() is None


def test_a_live_worker_keeps_the_lock_from_being_freed(make_lease: MakeLease) -> None:
    lease, teardown, other = make_lease("a"), make_lease("a"), make_lease("b")
    assert lease.acquire()
    assert lease.enter("purge/-1", "try-1", heartbeat_ttl=5)
    assert not teardown.release()
    assert teardown.holder().busy == ("purge/-1",)
    assert str(teardown.holder()).endswith("at work: purge")
    assert not other.acquire()
    lease.leave("purge/-1", "try-1")
    assert teardown.release()
    assert other.acquire()


def test_a_retry_waits_for_its_own_predecessor_only(make_lease: MakeLease) -> None:
    first, retry = make_lease("a"), make_lease("a")
    assert first.acquire()
    assert first.enter("purge/-1", "try-1", heartbeat_ttl=5)
    assert first.enter("purge/-1", "try-1", heartbeat_ttl=5)
    assert not retry.enter("purge/-1", "try-2", heartbeat_ttl=5)
    assert retry.enter("purge/0", "try-2", heartbeat_ttl=5)
    retry.leave("purge/-1", "try-2")
    assert set(first.holder().busy) == {"purge/-1", "purge/0"}
    first.leave("purge/-1", "try-1")
    assert retry.enter("purge/-1", "try-2", heartbeat_ttl=5)


def test_a_dead_workers_mark_runs_out(make_lease: MakeLease) -> None:
    first, retry = make_lease("a"), make_lease("a")
    assert first.acquire()
    assert first.enter("purge/-1", "try-1", heartbeat_ttl=0.1)
    deadline = time.monotonic() + 5
    while not retry.enter("purge/-1", "try-2", heartbeat_ttl=5):
        assert time.monotonic() < deadline


def test_a_renewal_leaves_the_heartbeat_of_a_later_process_alone(make_lease: MakeLease) -> None:
    first, retry = make_lease("a"), make_lease("a")
    assert first.acquire()
    assert first.enter("purge/-1", "try-1", heartbeat_ttl=0.1)
    deadline = time.monotonic() + 5
    while not retry.enter("purge/-1", "try-2", heartbeat_ttl=5):
        assert time.monotonic() < deadline
    assert first.heartbeat("purge/-1", "try-1", heartbeat_ttl=5) == "replaced"
    assert retry.heartbeat("purge/-1", "try-2", heartbeat_ttl=5) == "renewed"


def test_a_renewal_renews_lease_and_heartbeat(make_lease: MakeLease, servers: list[Redis]) -> None:
    lease = make_lease()
    assert lease.acquire()
    assert lease.heartbeat("purge/-1", "try-1", heartbeat_ttl=5) == "renewed"
    assert lease.holder().busy == ("purge/-1",)
    expire(servers)
    assert make_lease("b").acquire()
    assert lease.heartbeat("purge/-1", "try-1", heartbeat_ttl=5) == "foreign"


def test_the_go_side_and_ours_exclude_each_other(make_lease: MakeLease, servers: list[Redis]) -> None:
    """Raw redsync: SET NX PX, compare-and-delete."""
    lease = make_lease()
    clients = [server.client() for server in servers]
    assert all(client.set("clean", "x7Qy", nx=True, px=7_200_000) for client in clients)
    assert not lease.acquire()
    holder = lease.holder()
    assert (holder.owner, holder.since, holder.deployment) == ("x7Qy", None, "unknown (Go)")
    assert "unknown (Go)" in str(holder)
    assert not lease.release()
    for client in clients:
        assert client.get("clean") == b"x7Qy"
        client.delete("clean")
    assert lease.acquire()
    assert not any(client.set("clean", "x7Qy", nx=True, px=7_200_000) for client in clients)
    for client in clients:
        client.close()


def test_a_go_holder_is_not_taken_for_the_last_of_ours(make_lease: MakeLease, servers: list[Redis]) -> None:
    assert make_lease("a").acquire()
    for server in servers:
        with server.client() as client:
            client.set("clean", "x7Qy", px=5000)
    assert make_lease("b").holder().deployment == "unknown (Go)"


def test_a_deleted_key_is_gone_and_an_emptied_redis_has_forgotten(
    make_lease: MakeLease, servers: list[Redis]
) -> None:
    """Only the second lets its holder take it again: in the first case someone wanted it free."""
    lease = make_lease()
    assert lease.acquire()
    expire(servers)
    assert lease.heartbeat("", "") == "gone"
    for server in servers:
        with server.client() as client:
            client.flushall()
    assert lease.heartbeat("", "") == "forgotten"


def test_another_holder_in_between_is_not_forgotten(make_lease: MakeLease, servers: list[Redis]) -> None:
    first, second = make_lease("a"), make_lease("b")
    assert first.acquire()
    expire(servers)
    assert second.acquire()
    assert second.release()
    assert first.heartbeat("", "") == "gone"


def test_max_hold_ends_the_renewals(make_lease: MakeLease) -> None:
    lease, retry, other = (make_lease(owner, ttl=0.3, max_hold=0.6) for owner in "aab")
    assert lease.acquire()
    deadline = time.monotonic() + 5
    while (answer := lease.heartbeat("", "")) == "renewed":
        assert time.monotonic() < deadline
    assert answer == "max_hold"
    assert not retry.acquire()
    assert retry.verdict == "max_hold"
    while not other.acquire():
        assert time.monotonic() < deadline


def test_a_max_hold_below_the_ttl_is_refused() -> None:
    with pytest.raises(ValueError, match="max_hold 3: expected the ttl"):
        Lease(object(), "clean", "a", ttl=5, max_hold=3)  # type: ignore[arg-type]
    Lease(object(), "clean", "a", ttl=5, max_hold=5)  # type: ignore[arg-type]


def test_a_tick_that_is_done_is_not_done_again_by_another(make_lease: MakeLease) -> None:
    first, second = make_lease("a", tick="t1"), make_lease("b", tick="t1")
    assert first.acquire()
    assert first.release(tick_done_for=60)
    assert not second.acquire()
    assert second.verdict == "done"
    assert second.tick_done_by() == "a"
    assert make_lease("a", tick="t1").acquire(), "its owner may do it again: a clear, a retry"
    assert first.release()
    assert make_lease("b", tick="t2").acquire()


def test_a_tick_that_is_not_done_may_be_taken_over(make_lease: MakeLease) -> None:
    first, second = make_lease("a", tick="t1"), make_lease("b", tick="t1")
    assert first.acquire()
    assert first.release()
    assert second.tick_done_by() is None
    assert second.acquire()


def test_a_tick_is_done_even_if_its_lease_ran_out_before_the_release(
    make_lease: MakeLease, servers: list[Redis]
) -> None:
    first, second = make_lease("a", tick="t1"), make_lease("b", tick="t1")
    assert first.acquire()
    expire(servers)
    assert not first.release(tick_done_for=60)
    assert not second.acquire()
    assert second.verdict == "done"


def test_a_tick_is_not_done_by_one_whose_lock_is_anothers_by_now(
    make_lease: MakeLease, servers: list[Redis]
) -> None:
    """The other one may be at this very tick: marked as done, it would never be done if that fails."""
    first, second, third = (make_lease(owner, tick="t1") for owner in "abc")
    assert first.acquire()
    expire(servers)
    assert second.acquire()
    assert not first.release(tick_done_for=60)
    assert second.tick_done_by() is None
    assert second.release()
    assert third.acquire()


def test_a_done_tick_is_forgotten_after_its_time(make_lease: MakeLease) -> None:
    first, second = make_lease("a", tick="t1"), make_lease("b", tick="t1")
    assert first.acquire()
    assert first.release(tick_done_for=0.1)
    deadline = time.monotonic() + 5
    while not second.acquire():
        assert time.monotonic() < deadline


def test_a_revoked_owner_stops_and_cannot_take_it_again(make_lease: MakeLease) -> None:
    old, new = make_lease("a"), make_lease("b")
    assert old.acquire()
    assert old.enter("purge/-1", "try-1", heartbeat_ttl=5)
    assert make_lease("observer").revoke("a", "{}")
    assert old.heartbeat("purge/-1", "try-1", heartbeat_ttl=5) == "revoked"
    assert not make_lease("a").acquire()
    assert new.acquire()
    assert not old.acquire()
    assert old.verdict == "revoked"
    assert new.renew()


def test_only_the_owner_that_was_meant_is_revoked(make_lease: MakeLease) -> None:
    lease = make_lease("b")
    assert lease.acquire()
    assert not make_lease("observer").revoke("a", "{}")
    assert lease.renew()


def test_those_who_wait_get_it_in_turn(make_lease: MakeLease) -> None:
    holder, first, second, stranger = (make_lease(owner) for owner in "abcd")
    assert holder.acquire()
    until = time.time() + 60
    for waiter in (first, second):
        assert not waiter.acquire()
        waiter.queue(until)
        time.sleep(0.002)  # their positions in the queue are a clock's milliseconds
    assert holder.release()
    for other in (second, stranger, holder):
        assert not other.acquire()
        assert other.verdict == "queued"
    assert first.acquire()
    assert first.release()
    assert not stranger.acquire()
    assert second.acquire()
    assert second.release()
    assert stranger.acquire()


def test_who_leaves_the_line_holds_up_no_one(make_lease: MakeLease) -> None:
    holder, first, second = (make_lease(owner) for owner in "abc")
    assert holder.acquire()
    first.queue(time.time() + 60)
    time.sleep(0.002)
    second.queue(time.time() + 60)
    assert holder.release()
    assert not second.acquire()
    first.unqueue()
    assert second.acquire()


def test_a_waiter_past_its_deadline_holds_up_no_one(make_lease: MakeLease) -> None:
    holder, late, other = (make_lease(owner) for owner in "abc")
    assert holder.acquire()
    late.queue(time.time() - 1)
    assert holder.release()
    assert other.acquire()


def stop_heartbeat(servers: list[Redis], *owners: str) -> None:
    """Let the last look of these waiters be over, as if their processes had died some seconds ago."""
    for server in servers:
        with server.client() as client:
            for owner in owners:
                assert client.zscore("{clean}:heartbeats", owner)
                client.zadd("{clean}:heartbeats", {owner: 1})


def test_waiters_that_all_come_too_late_for_their_turn_get_it_when_they_come(
    make_lease: MakeLease, servers: list[Redis]
) -> None:
    """As sensors do that Airflow needs longer than 15 s to start: each would find the turn of the next."""
    holder, first, second, third, stranger = (make_lease(owner) for owner in "abcde")
    assert holder.acquire()
    for waiter in (first, second, third):
        waiter.queue(time.time() + 60)
        time.sleep(0.002)
    assert holder.release()
    for late in "bc":
        stop_heartbeat(servers, late)
        assert not stranger.acquire()
    for late in "bc":
        lease = make_lease(late)
        assert lease.acquire(), f"{late} is {lease.verdict}"
        assert not third.acquire()
        assert lease.release()
    assert not stranger.acquire()
    assert stranger.verdict == "queued"
    assert third.acquire()


def test_who_let_its_turn_pass_has_no_right_beyond_its_deadline(
    make_lease: MakeLease, servers: list[Redis]
) -> None:
    holder, late, other = (make_lease(owner) for owner in "abc")
    assert holder.acquire()
    late.queue(time.time() - 1)
    other.queue(time.time() + 60)
    assert holder.release()
    assert not late.acquire()
    assert other.acquire()


def test_a_holder_that_a_redis_forgot_does_not_wait_in_the_queue_again(
    make_lease: MakeLease, servers: list[Redis]
) -> None:
    holder, waiter = make_lease("a"), make_lease("b")
    assert holder.acquire()
    for server in servers:
        with server.client() as client:
            client.flushall()
    waiter.queue(time.time() + 60)
    assert holder.heartbeat("", "") == "forgotten"
    assert not holder.acquire()
    assert holder.verdict == "queued"
    assert holder.acquire(ahead=True)
    assert not waiter.acquire()


def test_a_longer_lease_of_the_same_owner_is_not_cut_short(make_lease: MakeLease) -> None:
    """Parallel tasks of one run share the key, and one of them may have asked for more time."""
    patient, other = make_lease("a", ttl=60), make_lease("a", ttl=5)
    assert patient.acquire()
    assert other.renew()
    assert other.acquire()
    assert patient.holder().remaining > 50
    assert other.remaining <= 5


def test_a_waiter_whose_clock_is_behind_keeps_its_place(
    make_lease: MakeLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, waiter, other = (make_lease(owner) for owner in "abc")
    assert holder.acquire()
    behind = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: behind)
    assert waiter.queue(behind + 60) == pytest.approx(behind + 60, abs=5)
    monkeypatch.undo()
    assert holder.release()
    assert not other.acquire()
    assert waiter.acquire()


def test_the_deadline_of_the_first_wait_stays(make_lease: MakeLease) -> None:
    lease = make_lease()
    first = time.time() + 86_400
    assert lease.queue(first) == pytest.approx(first, abs=5)
    assert make_lease().queue(first + 60) == pytest.approx(first, abs=5)
    lease.unqueue()
    assert lease.queue(first + 60) == pytest.approx(first + 60, abs=5)


def count_overlaps(make: Callable[[str], Lease], rounds: int, inside: list[int], overlaps: list[int]) -> None:
    lease = make(threading.current_thread().name)
    for _ in range(rounds):
        while not lease.acquire():
            time.sleep(0.001)
        inside[0] += 1
        overlaps[0] += inside[0] != 1
        time.sleep(0.0005)
        inside[0] -= 1
        assert lease.release()


def test_threads_never_hold_it_together(make_lease: MakeLease) -> None:
    inside, overlaps = [0], [0]
    threads = [
        threading.Thread(target=count_overlaps, args=(make_lease, 10, inside, overlaps), name=f"owner-{n}")
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [0]
    assert make_lease("x").holder() is None


def work_in_process(ports: list[tuple[int, str]], owner: str, rounds: int, log: str) -> None:
    import redis

    clients = [redis.Redis(port=port, password=password) for port, password in ports]
    lease = Lease(clients, "clean", owner, ttl=5)
    for _ in range(rounds):
        while not lease.acquire():
            time.sleep(0.001)
        with open(log, "a") as file:  # noqa: PTH123  O_APPEND: one write, one line
            file.write(f"in {owner}\n")
            file.flush()
            file.write(f"out {owner}\n")
        lease.release()


def test_processes_never_hold_it_together(servers: list[Redis], tmp_path) -> None:
    log = tmp_path / "log"
    ports = [(server.port, server.password) for server in servers]
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=work_in_process, args=(ports, f"owner-{n}", 20, str(log))) for n in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    lines = log.read_text().split("\n")[:-1]
    assert len(lines) == 120
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert (entered.split()[0], left.split()[0]) == ("in", "out")
        assert entered.split()[1] == left.split()[1]


@pytest.mark.parametrize("key", ["", "a b", "a{b}", "x" * 201, "a\n"])
def test_a_key_that_cannot_be(key: str) -> None:
    with pytest.raises(ValueError, match="expected 1 to 200 printable"):
        Lease(object(), key, "owner", ttl=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["x", "x" * 200])
def test_a_key_may_have_one_to_200_characters(key: str) -> None:
    assert Lease(object(), key, "owner", ttl=5).key == key  # type: ignore[arg-type]


@pytest.mark.parametrize("ttl", [0, -1, DRIFT_FLOOR, float("nan")])
def test_a_ttl_that_cannot_be(ttl: float) -> None:
    with pytest.raises(ValueError, match="ttl"):
        Lease(object(), "clean", "owner", ttl=ttl)  # type: ignore[arg-type]
