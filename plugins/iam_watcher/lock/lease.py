"""A lease in Redis: a lock that its owner must renew, so that a dead owner can't keep it.

Plain redis-py, no Airflow. The lock itself is what redsync (and so the Go iam-watcher) uses: one
string key, `SET key value NX PX`, compare-and-delete. Either side excludes the other. What redis-py's
own Lock lacks is here: an owner that people can read and that a retry can have again, live-worker
marks, a fair queue, revocation, ticks that are done once, and a quorum over several servers.

With N independent servers every key is on each of them, and a majority decides (Redlock: S. Sanfilippo,
"Distributed Locks with Redis"). The keys are listed in `scripts`.

How long a lease counts. Only the client's own clock is asked, and only for a difference:

    client   t0 asks ───────────────────── t1 has the answers          t0 + ttl - drift: counts on it no more
    server          └─ t' sets the key for ttl                                     └─ t' + ttl: the key ends

The server sets the key at some moment t' between t0 and t1. It can't be before t0, so a lease counts from
t0: whatever the way to the server took, the client is done before the key ends. If less than nothing is left
at t1, the lease was won too late. `drift` covers two clocks that run apart while the lease lasts.

How an attempt is undone. One that finds no majority gives back what it won, so that it blocks nobody for a
ttl. Its commands may reach a server late and in any order, while another process of the same owner works:

    attempt 1   ACQUIRE ──X the answer is lost            GIVE_BACK 1 ──────┐ late
    attempt 2                      ACQUIRE ── held, by a majority           v
    server      1 has the key      2 has the key, too                       no attempt's own: stays

A server therefore remembers which attempt acquired the key, and whether another one relies on it since.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Self

from iam_watcher.errors import LockBusy
from iam_watcher.lock import queue_scripts, scripts
from iam_watcher.lock.observer import Observer
from iam_watcher.lock.outcome import FINAL, MAY_COME, OURS, Renewal, Verdict
from iam_watcher.lock.scripts import ms, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis import Redis

    from iam_watcher.lock.quorum import Answers

DRIFT_FACTOR = 0.01  # of the ttl: how far two clocks may run apart while a lease lasts
DRIFT_FLOOR = 0.002  # seconds: Redis expires keys in steps of a millisecond, rounded
TRIES = 2  # of an acquisition that a majority granted too late: the process may have stood still


def valid_until(asked: float, ttl: float) -> float:
    """Return until when a process may count on what Redis keeps for `ttl` seconds, by the monotonic clock.

    Args:
        asked: the time of that clock before Redis was asked.
        ttl: in seconds.
    """
    return asked + ttl * (1 - DRIFT_FACTOR) - DRIFT_FLOOR


class Lease(Observer):
    """One owner's claim to one key, over one Redis client or several independent ones.

    Not for sharing between threads that acquire and release; `beat` may run in a thread of its own
    while others read `remaining`.

    Args:
        clients: a redis-py client, or several (their number should be odd). Give each a socket
            time-out that is a small part of the ttl: a server that hangs is waited for that long.
        key: the lock's key, as the Go side would name it.
        owner: who we are; the same text again is the same owner, in any process.
        ttl: how long the lease lasts unless renewed, in seconds.
        max_hold: how long it may be held in all, in seconds; None: as long as it is renewed.
        tick: a name for the work to be done once, by whichever owner; `release` says when it is done.

    Attributes:
        verdict: of the last `acquire`; None before.

    Raises:
        ValueError: for a key, owner or ttl that can't be.
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
            raise ValueError("a lease needs an owner: a text that no one else uses")
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
        self._tokens = [""] * len(self.clients)  # of our acquisition, as each server told us
        self._position = ""  # in the waiting queue; '': not in it

    @property
    def remaining(self) -> float:
        """Seconds that this process may still count on, by its own monotonic clock; 0.0 if none."""
        return max(0.0, self._valid_until - time.monotonic())

    def acquire(self, *, ahead: bool = False) -> bool:
        """Take the key if it is free, or ours already; True if we hold it now. `verdict` says why not.

        Args:
            ahead: of those who wait. For its holder in mid-work, when a Redis has lost its keys: those who
                come back first are the ones in the queue, and the work would be stopped for them.

        Raises:
            LockUnavailable: too many servers can't be reached to know, or they answer too slowly for
                this ttl.
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
                self.verdict = Verdict(answers.first(OURS) or Verdict.ACQUIRED)
                return True
        self._give_back(attempt, answers)
        if not final:
            self._check_in_time(answers, started)
            self._check_reachable(answers, *OURS)
        self.verdict = Verdict(final or answers.first(MAY_COME) or Verdict.QUEUED)
        return False

    def renew(self) -> bool:
        """Extend the lease to a full ttl from now; True if it is still ours.

        A key that is gone (expired, or a Redis that lost everything) is not taken again: see `beat`.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        return self.beat("", "") is Renewal.RENEWED

    def beat(self, member: str, nonce: str, *, busy_ttl: float = 0.0) -> Renewal:
        """Renew the lease and, with a member, its mark as a live worker, in one step.

        Returns:
            What it came to. Only after FORGOTTEN may the owner `acquire` the key again in mid-work. A server
            that says FOREIGN is believed unless a majority says otherwise: with the servers that we can't
            reach, that other owner may have one.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        started = time.monotonic()
        answers = self._servers.ask(
            scripts.RENEW, self.owner, ms(self.ttl), self._max_hold, member, nonce, ms(busy_ttl)
        )
        if final := answers.first(FINAL):
            return Renewal(final)
        if answers.agree(Renewal.RENEWED):
            self._extend(started)
            if answers.count(Renewal.GONE, Renewal.FORGOTTEN):
                # A server of a quorum that restarted empty counts again.
                self._ask_for_key(secrets.token_hex(8), ahead=True)
            return Renewal.RENEWED
        if answers.agree(Renewal.RENEWED, Renewal.FORGOTTEN):
            return Renewal.FORGOTTEN
        if answers.count(Renewal.FOREIGN):
            return Renewal.FOREIGN
        self._check_reachable(answers, Renewal.RENEWED)
        return Renewal.REPLACED if answers.count(Renewal.REPLACED) else Renewal.GONE

    def release(self, *, tick_done_for: float = 0.0) -> bool:
        """Free the key if it is ours and no work of ours is alive; True if it was freed.

        Args:
            tick_done_for: seconds to remember that the tick is done, so that no one else does it again;
                0: it is not done.

        Raises:
            LockUnavailable: too many servers can't be reached to know.
        """
        answers = self._ask_to_release(range(len(self.clients)), tick_done_for)
        if answers.count("released") < len(self.clients):
            answers = answers.updated(self._ask_to_release(self._worth_asking_again(answers), tick_done_for))
        freed = answers.agree("released")
        if freed:
            self._tokens = [""] * len(self.clients)
        else:
            self._check_reachable(answers, "released")
        if not answers.count("working"):
            self._valid_until = 0.0
        return freed

    def enter(self, member: str, nonce: str, *, busy_ttl: float) -> bool:
        """Mark `member` as at work for `busy_ttl` seconds; False while another process has that mark."""
        answers = self._servers.ask(scripts.ENTER, member, nonce, ms(busy_ttl))
        entered = answers.agree("entered")
        if not entered:
            self.leave(member, nonce)
            self._check_reachable(answers, "entered")
        return entered

    def leave(self, member: str, nonce: str) -> None:
        """Take the mark off again, if it is this process's."""
        self._servers.ask(scripts.LEAVE, member, nonce)

    def queue(self, deadline: float) -> float:
        """Wait in the queue behind those who waited before us, until `deadline` (seconds since 1970).

        Call it again at least once a second: that is the heartbeat without which others pass by. It also
        gives a Redis that has lost its keys the position of the first call.

        The position is a time of the servers, the same on all of them: the one that they know, or else the
        median of their clocks.

        Returns:
            The deadline in force: that of this owner's first call, until `unqueue` or success.

        Raises:
            LockUnavailable: too many servers can't be reached.
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
        """Undo what an attempt won, or may have won where no answer came."""
        won = [*answers.who_said(Verdict.ACQUIRED), *answers.errors]
        self._servers.ask(scripts.GIVE_BACK, self.owner, attempt, only=won)

    def _ask_to_release(self, servers: Iterable[int], tick_done_for: float) -> Answers:
        common = self.owner, self._channel, ms(tick_done_for)
        return self._servers.ask_each(
            scripts.RELEASE, {number: (*common, self._tokens[number]) for number in servers}
        )

    def _worth_asking_again(self, answers: Answers) -> list[int]:
        """Return the servers whose answer was lost, or where another process of ours acquired since."""
        again = list(answers.errors)
        for number, answer in answers.given.items():
            if answer.startswith(scripts.CHANGED):
                self._tokens[number] = answer.removeprefix(scripts.CHANGED)
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
