"""The record of a soak, which its processes write, and its judgement.

The record does not use Redis. It is one file, to which each process appends a line for each event, with the
machine's monotonic clock. For keys with a database lock it is also a table in MariaDB, to which the session
that has the database lock adds a row for each step. The lock holder is the process that began last.

These are **overlaps**, and there must be none:

- a step under a plain key, if its `check()` began after another process had acquired the key;
- a row under a key with a database lock, if it comes after a row of a later lock holder.

A lease can't prevent the following steps (see docs/lock.md; the database lock prevents them), so they are
counted separately:

- *beside*: a step beside a newer lock holder, after Redis lost its keys or the lock was released by force.
  The older process stops at its next renewal. A step more than a lease after the newer process began is an
  overlap;
- *late*: a step whose check was in time, but that was written after a step of the next lock holder, because
  the process was stopped in between.
"""

from __future__ import annotations

import json
import os
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Event:
    """One line of the witness's file.

    Args:
        what: wait, begin, step, end (the work is over), gave_up (waited in vain), lost_keys (of
            Redis) or forced (a release).
        at: monotonic seconds: when it happened; of a step, when its check began; of a begin, when the
            lock was ours.
        key: the lock's; empty for lost_keys.
        hold: one process's time under (or waiting for) the lock.
        owner: as in Redis; several holds may have the same, as retries of one run.
        pid: of the process.
        until: of what happened to Redis: when it was over. It happened at some moment between.
        since: of a begin: when this process began to wait; None for a retry, which does not wait.
    """

    what: str
    at: float
    key: str = ""
    hold: str = ""
    owner: str = ""
    pid: int = 0
    until: float = 0.0
    since: float | None = None


class Witness:
    """The file: many processes append, the controller reads.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self._reader = path.open("rb")
        self._rest = b""
        self.events: list[Event] = []

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        self._reader.close()

    def tell(self, event: Event) -> None:
        """Append an event; one write, so that lines of several processes stay whole and in order."""
        os.write(self._descriptor, json.dumps(asdict(event)).encode() + b"\n")

    def read(self) -> list[Event]:
        """Read what is new and return all events so far."""
        *lines, self._rest = (self._rest + self._reader.read()).split(b"\n")
        self.events += [Event(**json.loads(line)) for line in lines]
        return self.events

    def open_holds(self) -> dict[str, Event]:
        """Return, for each key that a process works under now, its begin."""
        found: dict[str, Event] = {}
        for event in self.read():
            if event.what == "begin":
                found[event.key] = event
            elif event.what == "end" and event.key in found and found[event.key].hold == event.hold:
                del found[event.key]
        return found

    def waiting(self) -> list[Event]:
        """Return the waits that are not over."""
        found: dict[str, Event] = {}
        for event in self.read():
            if event.what == "wait":
                found[event.hold] = event
            else:
                found.pop(event.hold, None)
        return list(found.values())


@dataclass
class Findings:
    """What the events prove.

    Args:
        acquisitions: how often work began, per key.
        overlaps: what happened, one text each.
        beside: steps beside a newer holder that a lease can't exclude.
        longest_beside: seconds from a newer holder's begin to the last of them.
        late: steps that were checked in time and written too late.
        starved: waiters that gave up or were overtaken too often, one text each.
        most_overtaken: how many that came later got the lock before one waiter.
        longest_wait: seconds.
    """

    acquisitions: Counter[str] = field(default_factory=Counter)
    overlaps: list[str] = field(default_factory=list)
    beside: int = 0
    longest_beside: float = 0.0
    late: int = 0
    starved: list[str] = field(default_factory=list)
    most_overtaken: int = 0
    longest_wait: float = 0.0


def judge(events: Iterable[Event], *, lease: float, overtaken_at_most: int) -> Findings:
    """Return what the events prove.

    Args:
        events: in the order of the file.
        lease: seconds.
        overtaken_at_most: how many may be served before a waiter that came first, before it counts as
            starved.
    """
    found = Findings()
    by_key: defaultdict[str, list[Event]] = defaultdict(list)
    lost: list[Event] = []
    for event in events:
        if event.what == "lost_keys":
            lost.append(event)
        else:
            by_key[event.key].append(event)
    for key, own in by_key.items():
        begins = sorted((event for event in own if event.what == "begin"), key=lambda event: event.at)
        found.acquisitions[key] = len(begins)
        takings = [*lost, *(event for event in own if event.what == "forced")]
        _judge_steps(own, begins, takings, lease, found)
        _judge_waits(own, begins, overtaken_at_most, found)
    return found


def _judge_steps(
    events: Sequence[Event], begins: Sequence[Event], takings: Sequence[Event], lease: float, found: Findings
) -> None:
    order = {event.hold: number for number, event in enumerate(begins)}
    times = [event.at for event in begins]
    newest = -1  # of the holds that have done a step
    for step in events:
        if step.what != "step":
            continue
        own = order[step.hold]
        if own < newest:
            found.late += bisect_right(times, step.at) - 1 <= own
        newest = max(newest, own)
        if bisect_right(times, step.at) - 1 <= own:
            continue
        older, newer = begins[own], begins[own + 1]
        seconds = step.at - newer.at
        if seconds <= lease and any(older.at <= one.until and one.at <= newer.at for one in takings):
            found.beside += 1
            found.longest_beside = max(found.longest_beside, seconds)
        else:
            found.overlaps.append(
                f"{step.key}: {step.hold} ({step.owner}) went on {seconds:.3f} s after {newer.hold} "
                f"({newer.owner}) began"
            )


def _judge_waits(
    events: Sequence[Event], begins: Sequence[Event], overtaken_at_most: int, found: Findings
) -> None:
    from_line = [(event.since, event.at, event) for event in begins if event.since is not None]
    waits = [(since, at, event.hold) for since, at, event in from_line]
    started = {event.hold: event.at for event in events if event.what == "wait"}
    for event in events:
        if event.what == "gave_up":
            waits.append((started[event.hold], event.at, event.hold))
            found.starved.append(
                f"{event.key}: {event.hold} waited {event.at - started[event.hold]:.1f} s in vain"
            )
    for since, until, hold in waits:
        overtaken = sum(since < later and at < until for later, at, _ in from_line)
        found.most_overtaken = max(found.most_overtaken, overtaken)
        found.longest_wait = max(found.longest_wait, until - since)
        if overtaken > overtaken_at_most:
            found.starved.append(f"{hold} was overtaken {overtaken} times")


def interleaved(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Return the (key, hold) rows of the table that were written after a later holder's, as texts."""
    current: dict[str, str] = {}
    gone: set[tuple[str, str]] = set()
    found = []
    for key, hold in rows:
        if (key, hold) in gone:
            found.append(f"{key}: {hold} wrote after {current[key]} had begun to")
        elif current.get(key, hold) != hold:
            gone.add((key, current[key]))
        if (key, hold) not in gone:
            current[key] = hold
    return found


def now() -> float:
    """Return the clock that all processes of the machine share."""
    return time.monotonic()
