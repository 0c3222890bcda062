"""The renewal of a lease against a real Redis that is stopped, emptied and taken over.

All tests share the lease, its renewer and the Redis that they stop: hence the length.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from iam_watcher.errors import JobError, LockLost, LockUnavailable
from iam_watcher.lock import queue_scripts, renewal, scripts
from iam_watcher.lock.clients import reconnect_once, timeout_for
from iam_watcher.lock.clients import redis_client as redis_client_of
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.renewal import LeaseRenewer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis as Client

    from dev.servers import Redis

PLUGINS = Path(__file__).parents[2] / "plugins"
TTL = 1.0
DEADLINE = 15.0
PATIENCE = 60.0  # a process takes long to start beside others


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def wait_for_error(alive: LeaseRenewer) -> Exception:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            alive.check()
        except (LockLost, LockUnavailable) as error:
            return error
        time.sleep(0.01)
    raise AssertionError("the loss was never noticed")


def lease_on(server: Redis, owner: str = "a/dag/run") -> Lease:
    client = server.client(socket_timeout=0.1, socket_connect_timeout=0.1, retry=reconnect_once())
    return Lease(client, "clean", owner, ttl=TTL)


def lasting_lease_on(server: Redis, owner: str = "a/dag/run") -> Lease:
    return Lease(server.client(), "clean", owner, ttl=60)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "RENEW_EVERY", 0.05)
    monkeypatch.setattr(renewal, "HEARTBEAT_TTL", 0.5)


@pytest.fixture
def alive(fast: None, redis_client: Client, redis_server: Redis) -> Iterator[LeaseRenewer]:
    lease = lease_on(redis_server)
    assert lease.acquire()
    alive = LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=True)
    alive.start()
    yield alive
    alive.stop()


def test_it_renews_for_longer_than_the_lease(alive: LeaseRenewer, redis_server: Redis) -> None:
    other = lease_on(redis_server, "b")
    until = time.monotonic() + 2 * TTL
    while time.monotonic() < until:
        assert not other.acquire()
        alive.check()
    assert other.holder().busy == ("purge/-1",)


def test_stopping_it_removes_the_heartbeat_and_leaves_the_lease(
    alive: LeaseRenewer, redis_server: Redis
) -> None:
    wait_for(lambda: alive.lease.holder().busy == ("purge/-1",))
    alive.stop()
    assert not any(thread.is_alive() for thread in alive._threads)
    assert alive.lease.holder().busy == ()
    assert alive.lease.holder().owner == "a/dag/run"


def test_a_renewal_that_goes_on_when_it_is_stopped_leaves_no_heartbeat(
    alive: LeaseRenewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, renew = threading.Event(), alive.lease.heartbeat

    def renew_slowly(*arguments: Any, **options: Any) -> Any:
        begun.set()
        time.sleep(0.3)
        return renew(*arguments, **options)

    monkeypatch.setattr(alive.lease, "heartbeat", renew_slowly)
    assert begun.wait(DEADLINE)
    alive.stop()
    monkeypatch.undo()
    wait_for(lambda: not any(thread.is_alive() for thread in alive._threads))
    assert alive.lease.holder().busy == ()


def test_the_triggerer_gets_a_new_heartbeat_and_a_renewer_that_is_at_rest(
    redis_client: Client, redis_server: Redis
) -> None:
    lease = lasting_lease_on(redis_server)
    assert lease.acquire()
    alive = LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=True)
    alive.start()
    alive.hand_over()
    assert not any(thread.is_alive() for thread in alive._threads)
    assert lease.holder().busy == ("purge/-1",)


def test_a_lease_that_is_over_is_handed_to_nobody(redis_client: Client, redis_server: Redis) -> None:
    """Without an answer of Redis, the triggerer would go on with the work."""
    lease = lease_on(redis_server)
    assert lease.acquire()
    alive = LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=True)
    redis_server.pause()
    try:
        wait_for(lambda: lease.remaining == 0)
        with pytest.raises(LockLost, match="was not renewed for 1 s"):
            alive.hand_over()
    finally:
        redis_server.resume()


def expired_here(redis_server: Redis) -> LeaseRenewer:
    """A renewer whose lease is over by its own clock, and not yet in Redis."""
    lease = lasting_lease_on(redis_server)
    assert lease.acquire()
    lease._valid_until = 0.0
    return LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=True)


def test_a_lease_that_is_over_by_our_clock_is_not_renewed(redis_client: Client, redis_server: Redis) -> None:
    alive = expired_here(redis_server)
    alive.try_renew()
    assert "was not renewed for 60 s" in str(alive.loss)


def test_a_lease_that_is_over_is_not_acquired_again_after_redis_lost_its_keys(
    redis_client: Client, redis_server: Redis
) -> None:
    alive = expired_here(redis_server)
    redis_client.flushall()
    with pytest.raises(LockLost, match="Redis lost its keys"):
        alive.renew()
    assert redis_client.get("clean") is None


def test_a_loss_that_the_thread_noticed_counts_at_once(redis_client: Client, redis_server: Redis) -> None:
    """Although the last heartbeat is not over yet."""
    lease = lasting_lease_on(redis_server)
    assert lease.acquire()
    alive = LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=True)
    alive.renew()
    assert (alive.failed, alive.loss) == (0, None)
    redis_client.set("clean", "x7Qy", px=60_000)
    alive.try_renew()  # as the thread does it
    with pytest.raises(LockLost, match="another run acquired it"):
        alive.check()
    assert alive.failed == 1
    assert isinstance(alive.loss, LockLost)


@pytest.mark.parametrize(
    ("owner", "working", "others"),
    [
        ("a/dag/run", ["purge/-1"], False),
        ("a/dag/run", ["purge/-1", "purge/0"], True),
        ("b/dag/run", ["purge/0"], False),
        (None, [], False),
    ],
)
def test_other_tasks_at_work_are_those_of_the_same_run(
    redis_client: Client, redis_server: Redis, owner: str | None, working: list[str], others: bool
) -> None:
    lease = lasting_lease_on(redis_server)
    assert lease.acquire()
    redis_client.delete("clean")
    if owner:
        holder = lasting_lease_on(redis_server, owner)
        assert holder.acquire()
        for member in working:
            assert holder.enter(member, "try-1", heartbeat_ttl=60)
    alive = LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=True)
    assert alive.others_at_work(lambda: None) is others


def test_a_lock_that_another_took_is_lost_at_the_next_renewal(
    alive: LeaseRenewer, redis_client: Client
) -> None:
    redis_client.set("clean", "x7Qy", px=60_000)
    error = wait_for_error(alive)
    assert isinstance(error, LockLost)
    assert "another run acquired it" in str(error)
    assert redis_client.get("clean") == b"x7Qy"


def test_a_redis_that_lost_everything_gets_the_lock_again(alive: LeaseRenewer, redis_client: Client) -> None:
    redis_client.flushall()
    wait_for(lambda: redis_client.get("clean") == b"a/dag/run")
    alive.check()


def test_who_waits_in_line_does_not_stop_the_holder_in_a_redis_that_lost_everything(
    alive: LeaseRenewer, redis_client: Client
) -> None:
    with redis_client.pipeline() as together:
        together.flushall()
        names = scripts.keys("clean")
        together.eval(queue_scripts.QUEUE, len(names), *names, "b", "1", 60_000)
        together.execute()
    wait_for(lambda: redis_client.get("clean") == b"a/dag/run")
    alive.check()


def test_a_lost_answer_does_not_let_a_mark_run_out(redis_server: Redis) -> None:
    client = redis_client_of("iam_redis", answer_within=timeout_for(3600))
    timeout = client.connection_pool.connection_kwargs["socket_timeout"]
    assert renewal.RENEW_EVERY + timeout + renewal.RENEW_EVERY < renewal.HEARTBEAT_TTL


def test_a_redis_that_restarts_empty_gets_the_lock_again(alive: LeaseRenewer, redis_server: Redis) -> None:
    redis_server.restart()
    with redis_server.client() as client:
        wait_for(lambda: client.get("clean") == b"a/dag/run")
    alive.check()


def test_an_error_that_no_one_thought_of_counts_as_lost(alive: LeaseRenewer, monkeypatch) -> None:
    def fail(*_, **__):
        raise RuntimeError("no one thought of this")

    monkeypatch.setattr(alive.lease, "heartbeat", fail)
    assert "no one thought of this" in str(wait_for_error(alive))


def test_redis_out_of_reach_for_less_than_the_lease_is_survived(
    alive: LeaseRenewer, redis_server: Redis
) -> None:
    redis_server.pause()
    wait_for(lambda: alive._last_error is not None)
    redis_server.resume()
    before = alive.lease._valid_until
    wait_for(lambda: alive.lease._valid_until > before)
    alive.check()


def test_redis_out_of_reach_for_longer_is_a_redis_error(alive: LeaseRenewer, redis_server: Redis) -> None:
    redis_server.pause()
    try:
        error = wait_for_error(alive)
    finally:
        redis_server.resume()
    assert isinstance(error, LockUnavailable)
    assert f"{redis_server.port} did not answer" in str(error)
    assert redis_server.password not in str(error)


@pytest.mark.parametrize("question", ["verify", "others_at_work"])
def test_a_question_is_asked_again_while_redis_blinks(
    redis_client: Client, redis_server: Redis, monkeypatch, question: str
) -> None:
    monkeypatch.setattr(renewal, "ASK_AGAIN_AFTER", 0.01)
    lease = lease_on(redis_server)
    assert lease.acquire()
    alive = LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=True)
    redis_server.pause()
    try:
        assert not getattr(alive, question)(redis_server.resume)
    finally:
        redis_server.resume()


@pytest.mark.parametrize("question", ["verify", "others_at_work"])
def test_a_question_is_not_asked_for_longer_than_the_lease_or_than_it_is_wanted(
    redis_client: Client, redis_server: Redis, question: str
) -> None:
    def unwanted() -> None:
        raise JobError("told to stop")

    lease = lease_on(redis_server)
    assert lease.acquire()
    alive = LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=True)
    redis_server.pause()
    try:
        with pytest.raises(JobError):
            getattr(alive, question)(unwanted)
        with pytest.raises(LockUnavailable, match="did not answer for 'clean'"):
            getattr(alive, question)(lambda: None)
    finally:
        redis_server.resume()


def work(
    port: int, password: str, folder: Path, has_safe_points: bool, ttl: float, kill_after: float
) -> None:
    """A task's process: it holds the lease and writes down what happens to it."""
    import redis

    renewal.RENEW_EVERY, renewal.HEARTBEAT_TTL, renewal.KILL_AFTER = 0.05, 0.5, kill_after
    lease = Lease(redis.Redis(port=port, password=password, socket_timeout=0.1), "clean", "a", ttl=ttl)
    signal.signal(signal.SIGTERM, lambda *_: (folder / "sigterm").write_text(str(lease.remaining)))
    assert lease.acquire()
    alive = LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=has_safe_points)
    alive.start()
    (folder / "working").touch()
    while True:
        try:
            if has_safe_points:
                alive.check()
        except LockLost as error:
            (folder / "lost").write_text(str(error))
            return
        time.sleep(0.01)


@pytest.fixture
def process(redis_client: Client, redis_server: Redis, tmp_path: Path):
    started = []

    def start(*, has_safe_points: bool, ttl: float = TTL, kill_after: float = 0.5) -> multiprocessing.Process:
        target = (redis_server.port, redis_server.password, tmp_path, has_safe_points, ttl, kill_after)
        process = multiprocessing.get_context("spawn").Process(target=work, args=target)
        process.start()
        started.append(process)
        wait_for((tmp_path / "working").exists)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def test_a_job_that_was_stopped_past_its_lease_does_not_go_on(process, redis_client, tmp_path: Path) -> None:
    """Though the key is free by then: someone may have had it between."""
    worker = process(has_safe_points=True)
    os.kill(worker.pid, signal.SIGSTOP)
    wait_for(lambda: redis_client.get("clean") is None)
    os.kill(worker.pid, signal.SIGCONT)
    worker.join(DEADLINE)
    assert worker.exitcode == 0
    # Which of the two it notices first is a matter of milliseconds.
    assert re.search(
        r"was not renewed for 1 s|its key was deleted or expired", (tmp_path / "lost").read_text()
    )
    assert redis_client.get("clean") is None
    assert not (tmp_path / "sigterm").exists()


def test_a_mark_counts_from_before_the_question_and_not_to_its_last_millisecond(
    redis_client: Client, redis_server: Redis, monkeypatch
) -> None:
    """Redis counts in whole milliseconds: the heartbeat may end a little earlier there."""
    clock = iter([100.0])
    lease = lease_on(redis_server)
    assert lease.acquire()
    alive = LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=True)
    with monkeypatch.context() as patch:
        patch.setattr(renewal, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        alive.renew()
    assert alive._heartbeat_until <= 100 + renewal.HEARTBEAT_TTL - 0.002


@pytest.mark.parametrize("meanwhile", ["its lock is freed", "a retry begins"])
def test_a_job_that_was_stopped_past_its_mark_asks_first(
    redis_client: Client, redis_server: Redis, monkeypatch, meanwhile: str
) -> None:
    """The lease lasts still, but release and retries wait only for marks that are fresh."""
    monkeypatch.setattr(renewal, "HEARTBEAT_TTL", 0.2)
    lease = lease_on(redis_server)
    assert lease.acquire()
    alive = LeaseRenewer(
        lease, "purge/-1", "try-1", has_safe_points=True
    )  # not started: its thread stands still
    alive.check()
    again = lease_on(redis_server)
    if meanwhile == "its lock is freed":
        wait_for(again.release)
    else:
        wait_for(lambda: again.enter("purge/-1", "try-2", heartbeat_ttl=60))
    assert lease.remaining > 0
    reason = "key was deleted" if meanwhile == "its lock is freed" else "later try of this task took over"
    for _ in range(2):
        with pytest.raises(LockLost, match=reason):
            alive.check()


def test_any_other_task_gets_sigterm_at_once_says_why_and_ends(
    process, redis_client: Client, tmp_path: Path, capfd
) -> None:
    worker = process(has_safe_points=False, ttl=60.0)
    redis_client.set("clean", "x7Qy", px=60_000)
    worker.join(DEADLINE)
    assert worker.exitcode == 1
    assert float((tmp_path / "sigterm").read_text()) > 60.0 - DEADLINE
    assert "'clean' of a: another run acquired it; ending this task\n" in capfd.readouterr().err


def test_any_other_task_ends_before_its_lease_when_redis_is_gone(
    process, redis_server: Redis, tmp_path: Path
) -> None:
    worker = process(has_safe_points=False, ttl=6.0, kill_after=3.0)
    time.sleep(0.8)  # The lease is longer by then than when the worker looked at it.
    redis_server.pause()
    try:
        worker.join(DEADLINE)
    finally:
        redis_server.resume()
    assert worker.exitcode == 1
    assert 0 < float((tmp_path / "sigterm").read_text()) <= 3.0  # kill_after


def test_max_hold_ends_the_work(fast: None, redis_client: Client, redis_server: Redis) -> None:
    lease = Lease(redis_server.client(), "clean", "a/dag/run", ttl=60, max_hold=60)
    assert lease.acquire()
    alive = LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=True)
    alive.start()
    redis_client.hincrby("{clean}:info", "since", -60_000)  # as if it had begun a minute ago
    try:
        assert "it was held for max_hold" in str(wait_for_error(alive))
    finally:
        alive.stop()


def test_a_task_that_is_killed_blocks_others_for_its_lease_only(process, redis_server: Redis) -> None:
    worker = process(has_safe_points=True)
    worker.kill()
    worker.join(DEADLINE)
    killed = time.monotonic()
    other = lease_on(redis_server, "b")
    wait_for(other.acquire)
    assert time.monotonic() - killed < DEADLINE


ENDS = """
import redis
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.renewal import LeaseRenewer
lease = Lease(redis.Redis(port={port}, password={password!r}), "clean", "a", ttl=60)
assert lease.acquire()
LeaseRenewer(lease, "purge/-1", "try-1", has_safe_points=False).start()
"""


def test_a_process_that_forgets_to_stop_it_ends_all_the_same(
    redis_client: Client, redis_server: Redis
) -> None:
    script = ENDS.format(port=redis_server.port, password=redis_server.password)
    done = subprocess.run([sys.executable, "-c", script], cwd=PLUGINS, check=False, timeout=60)
    assert done.returncode == 0
