"""A lease in Redis: a lock that its owner must renew, so that a dead owner can't keep it.

Plain redis-py, no Airflow. The lock itself is what redsync (and so the Go iam-watcher) uses: one
string key, `SET key value NX PX`, compare-and-delete. Either side excludes the other. What redis-py's
own Lock lacks is here: an owner that people can read and that a retry can have again, heartbeats of
live processes, a fair queue, revocation, ticks that are done once, and a quorum over several servers.

With N independent servers every key is on each of them, and a majority decides (Redlock: S. Sanfilippo,
"Distributed Locks with Redis"). The keys are listed in `scripts`.

How long a lease is valid. The client compares two times of its own clock, and no time of a server:

    client   t0 request ──────────────── t1 answer          t0 + ttl - drift: over for the client
    server          └─ t' sets the key for ttl                           └─ t' + ttl: the key expires

The server sets the key at some moment t' between t0 and t1. It can't be before t0, so the client counts the
ttl from t0: however slow the network is, the client stops before the key expires. If the time is over at t1
already, the lease was acquired too late. `drift` covers two clocks that don't run at the same speed.

Who is who. The *owner* is a run. A *member* is one of its tasks, and a *nonce* stands for one process of that
task. All processes of a run share the lease: to each of them, `acquire` says HELD.

The life of a lease: `acquire` (or `queue`, then `acquire` again), `heartbeat` while the work goes on,
`release`. Each process that works has a heartbeat, from `enter` to `leave`; `release` waits for all of them.
All of that is one class, so that one reader can follow it: hence the length.

How an attempt is undone. An attempt that finds no majority gives back the keys that it acquired, so that it
blocks nobody for a ttl. Its commands may reach a server late and in any order, while another process of the
same owner works:

    attempt 1   ACQUIRE ──X the answer is lost            GIVE_BACK 1 ──────┐ late
    attempt 2                      ACQUIRE ── held, by a majority           v
    server      1 acquired it      2 relies on it, too                      changes nothing

So each server stores which attempt acquired the key, and whether another attempt relies on it since.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Self

from iam_watcher.errors import LockBusy
from iam_watcher.lock import queue_scripts, scripts
from iam_watcher.lock.observer import Observer
from iam_watcher.lock.outcome import FINAL, MAY_COME, OURS, Entry, Release, Renewal, Verdict
from iam_watcher.lock.scripts import ms, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis import Redis

    from iam_watcher.lock.quorum import Answers

DRIFT_FACTOR = 0.01  # of the ttl: how much two clocks may differ at the end of a lease
DRIFT_FLOOR = 0.002  # seconds: Redis expires keys in steps of a millisecond, rounded
TRIES = 2  # if a majority granted the key too late: the process may have been stopped meanwhile


def valid_until(asked: float, ttl: float) -> float:
    """Return until when a process may rely on a key that Redis keeps for `ttl` seconds.

    Args:
        asked: the time of the monotonic clock before the request.
        ttl: in seconds.

    Returns:
        A time of the monotonic clock.
    """
    return asked + ttl * (1 - DRIFT_FACTOR) - DRIFT_FLOOR


class Lease(Observer):
    """One owner's lease of one key, on one Redis server or on several independent ones.

    Only one thread at a time may use it; any thread may read `remaining`.

    Args:
        clients: a redis-py client, or several (an odd number). Give each a socket time-out that is a small
            part of the ttl: that is how long a request waits for a server that hangs.
        key: the lock's key, the same as that of the Go iam-watcher.
        owner: the owner; the same text is the same owner, in any process.
        ttl: how long the lease lasts unless renewed, in seconds.
        max_hold: how long it may be held in total, in seconds; None: as long as it is renewed.
        tick: the name of a scheduled time that is to be done once, by any owner; `release` stores that it
            is done.

    Attributes:
        verdict: of the last `acquire`; None before.

    Raises:
        ValueError: the key, owner, ttl or max_hold is not valid.
    """

    def __init__(
        self,
        clients: Redis | Sequence[Redis],
        key: str,
        owner: str,
        *,
        ttl: float,
        max_hold: float | None = None,
        tick: str = "",
    ) -> None:
        if not owner:
            raise ValueError("a lease needs an owner: a text that no other owner uses")
        if not ttl > DRIFT_FLOOR:
            raise ValueError(f"ttl {ttl!r}: expected a positive number of seconds")
        if max_hold is not None and max_hold < ttl:
            raise ValueError(f"max_hold {max_hold!r}: expected the ttl ({ttl!r} seconds) or more")
        super().__init__(clients, key, tick=tick)
        self.owner = owner
        self.ttl = ttl
        self.verdict: Verdict | None = None
        self._max_hold = 0 if max_hold is None else ms(max_hold)
        self._valid_until = 0.0
        self._tokens = [""] * len(self.clients)  # of our acquisition, one from each server
        self._position = ""  # in the waiting queue; '': not in it

    @property
    def remaining(self) -> float:
        """The seconds for which this process may still rely on the lease, by its own clock; 0.0 if none."""
        return max(0.0, self._valid_until - time.monotonic())

    def acquire(self, *, ahead: bool = False) -> bool:
        """Acquire the key if it is free or this owner's; return whether this owner holds it now.

        `verdict` then says what the servers decided.

        Args:
            ahead: go ahead of the waiting queue. For a run that has begun: if Redis lost its keys, the
                waiting runs ask first, and the work would be stopped for them.

        Raises:
            LockUnavailable: too few servers answer, or they answer too slowly for this ttl.
        """
        attempt = secrets.token_hex(8)
        for _ in range(TRIES):
            started = time.monotonic()
            answers = self._ask_for_key(attempt, ahead=ahead)
            final = answers.first(FINAL)
            if final or not answers.agree(*OURS):
                break
            self._extend(started)
            if self.remaining > 0:
                self._position = ""
                self.verdict = next(word for word in OURS if answers.count(word))
                return True
        self._give_back(attempt, answers)
        if not final:
            self._check_in_time(answers, started)
            self._check_reachable(answers, *OURS)
        # Neither: the servers took this attempt for one that is over, and the next one gets an answer.
        self.verdict = Verdict(final or answers.first(MAY_COME) or Verdict.QUEUED)
        return False

    def renew(self) -> bool:
        """Extend the lease to a full ttl from now; return whether it still was this owner's.

        A key that is gone (it expired, or Redis lost its keys) is not acquired again: see `heartbeat`.

        Raises:
            LockUnavailable: too few servers answer.
        """
        return self.heartbeat("", "") is Renewal.RENEWED

    def heartbeat(self, member: str, nonce: str, *, heartbeat_ttl: float = 0.0) -> Renewal:
        """Renew the lease and, with a member, the heartbeat of its process, in one request.

        Args:
            member: the task, as `task_id/map_index`; "" for no heartbeat.
            nonce: a text that differs for each process of the task.
            heartbeat_ttl: how long the heartbeat counts, in seconds.

        Returns:
            What the servers decided. Only after FORGOTTEN may the owner `acquire` the key again while it
            works. FOREIGN from one server counts unless a majority says RENEWED: together with the servers
            that don't answer, the other owner may have a majority.

        Raises:
            LockUnavailable: too few servers answer.
        """
        started = time.monotonic()
        answers = self._servers.ask(
            scripts.RENEW, self.owner, ms(self.ttl), self._max_hold, member, nonce, ms(heartbeat_ttl)
        )
        if final := answers.first(FINAL):
            return Renewal(final)
        if answers.agree(Renewal.RENEWED):
            self._extend(started)
            if answers.count(Renewal.GONE, Renewal.FORGOTTEN):
                # A server that restarted empty gets the key again, so that it counts for the majority.
                self._ask_for_key(secrets.token_hex(8), ahead=True)
            return Renewal.RENEWED
        if answers.agree(Renewal.RENEWED, Renewal.FORGOTTEN):
            return Renewal.FORGOTTEN
        if answers.count(Renewal.FOREIGN):
            return Renewal.FOREIGN
        self._check_reachable(answers, Renewal.RENEWED)
        return Renewal.REPLACED if answers.count(Renewal.REPLACED) else Renewal.GONE

    def release(self, *, tick_done_for: float = 0.0) -> bool:
        """Release the key if it is this owner's and no process of its run has a heartbeat.

        Args:
            tick_done_for: for how many seconds Redis stores that the tick is done, so that no other owner
                does it again; 0: it is not done.

        Returns:
            Whether the key was released.

        Raises:
            LockUnavailable: too few servers answer.
        """
        answers = self._ask_to_release(range(len(self.clients)), tick_done_for)
        answers = answers.updated(self._ask_to_release(self._worth_asking_again(answers), tick_done_for))
        freed = answers.agree(Release.RELEASED)
        if freed:
            self._tokens = [""] * len(self.clients)
        else:
            self._check_reachable(answers, Release.RELEASED)
        if not answers.count(Release.WORKING):
            self._valid_until = 0.0
        return freed

    def enter(self, member: str, nonce: str, *, heartbeat_ttl: float) -> bool:
        """Start the heartbeat of a process of the task `member`.

        Args:
            member: the task, as `task_id/map_index`.
            nonce: a text that differs for each process of the task.
            heartbeat_ttl: how long the heartbeat counts, in seconds.

        Returns:
            False while another process of the task has a heartbeat.

        Raises:
            LockUnavailable: too few servers answer.
        """
        answers = self._servers.ask(scripts.ENTER, member, nonce, ms(heartbeat_ttl))
        entered = answers.agree(Entry.ENTERED)
        if not entered:
            self.leave(member, nonce)
            self._check_reachable(answers, Entry.ENTERED)
        return entered

    def leave(self, member: str, nonce: str) -> None:
        """Remove the heartbeat of this process."""
        self._servers.ask(scripts.LEAVE, member, nonce)

    def queue(self, deadline: float) -> float:
        """Enter the waiting queue, or give a heartbeat there.

        Call it at least once a second: without that heartbeat the queue skips this owner. If Redis lost its
        keys, the call gives it the position of the first call again.

        The position is a time of the servers, the same on all of them: the one that they have stored, or else
        the median of their clocks.

        Args:
            deadline: until when the owner waits, in seconds since 1970.

        Returns:
            The deadline that counts: that of the owner's first call, until `unqueue` or success.

        Raises:
            LockUnavailable: too few servers answer.
        """
        now = time.time()
        left = ms(deadline - now)
        answers = self._servers.ask(queue_scripts.QUEUE, self.owner, self._position, left)
        self._check_majority(answers)
        given = {number: [text(value) for value in answer] for number, answer in answers.given.items()}
        if not self._position:
            known = sorted((position for position, _, how in given.values() if how == "kept"), key=float)
            clocks = sorted((position for position, _, _ in given.values()), key=float)
            self._position = known[0] if known else clocks[(len(clocks) - 1) // 2]
            others = [number for number, (position, *_) in given.items() if position != self._position]
            self._servers.ask(queue_scripts.QUEUE, self.owner, self._position, left, only=others)
        return now + min(int(until) for _, until, _ in given.values()) / 1000

    def unqueue(self) -> None:
        """Leave the waiting queue."""
        self._position = ""
        self._servers.ask(queue_scripts.UNQUEUE, self.owner, self._channel)

    def __enter__(self) -> Self:
        if not self.acquire():
            raise LockBusy(self.holder(), self.key)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _ask_for_key(self, attempt: str, *, ahead: bool) -> Answers:
        answers = self._servers.ask(
            scripts.ACQUIRE, self.owner, ms(self.ttl), self._max_hold, int(ahead), attempt
        )
        for number, answer in answers.given.items():
            answers.given[number], _, token = answer.partition(" ")
            self._tokens[number] = token or self._tokens[number]
        return answers

    def _give_back(self, attempt: str, answers: Answers) -> None:
        """Undo an attempt on the servers that granted it the key, or did not answer."""
        granted = [*answers.who_said(Verdict.ACQUIRED), *answers.errors]
        self._servers.ask(scripts.GIVE_BACK, self.owner, attempt, only=granted)

    def _ask_to_release(self, servers: Iterable[int], tick_done_for: float) -> Answers:
        common = self.owner, self._channel, ms(tick_done_for)
        return self._servers.ask_each(
            scripts.RELEASE, {number: (*common, self._tokens[number]) for number in servers}
        )

    def _worth_asking_again(self, answers: Answers) -> list[int]:
        """Return the servers whose answer was lost, or where another process of this owner acquired since."""
        again = list(answers.errors)
        for number, answer in answers.given.items():
            word, _, token = answer.partition(" ")
            if word == Release.CHANGED:
                self._tokens[number] = token
                again.append(number)
        return again

    def _check_in_time(self, answers: Answers, started: float) -> None:
        """Raise LockUnavailable if a majority granted the key, but only when its time was over."""
        if answers.agree(*OURS):
            took = time.monotonic() - started
            late = TimeoutError(f"answered after {took:.1f} s, too late for a lease of {self.ttl:g} s")
            self._raise_unavailable(0, late)

    def _extend(self, started: float) -> None:
        self._valid_until = valid_until(started, self.ttl)
