"""Sessions of the process table: their processes, and how to end them.

A process that another one starts stays in its session, also in a process group of its own or without its
parent. (Airflow's processes do both.) If it begins a session of its own, it is found as a descendant.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_until(done: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
    """Call `done` every `pause` seconds until it is True or `seconds` are over; return its last answer."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
    return True


@dataclass(frozen=True)
class Entry:
    """One line of the process table."""

    pid: int
    parent: int
    session: int
    # Clock ticks since boot: with the pid it names one process for ever, as pids are used again.
    started: int


def _stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/<pid>/stat that follow the command's name: state, parent, …."""
    # The name is in parentheses, and may contain blanks and parentheses.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def start_time(pid: int) -> int:
    """Return when a process began, in clock ticks since boot; a zombie's too."""
    return int(_stat(pid)[19])


def _living() -> list[Entry]:
    """Return all living processes; zombies don't count."""
    table = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with suppress(OSError):
                fields = _stat(path.name)
                if fields[0] not in "ZX":
                    parent, session, started = (int(fields[place]) for place in (1, 3, 19))
                    table.append(Entry(int(path.name), parent, session, started))
    return table


def tree(session: int, started: int | None = None) -> set[Entry]:
    """Return a session's living processes and all their descendants.

    Descendants count because some of them begin a session of their own, as Airflow's BashOperator does.
    With `started`, a session whose leader began at another time is a stranger's, and nothing is returned.
    """
    table = _living()
    leader = next((entry for entry in table if entry.pid == session), None)
    if leader and started is not None and leader.started != started:
        return set()
    found = {entry for entry in table if entry.session == session}
    while more := {entry for entry in table if entry.parent in {each.pid for each in found}} - found:
        found |= more
    return found


def session_members(session: int) -> list[int]:
    """Return the pids of a session's living processes, and of all their descendants."""
    return sorted(entry.pid for entry in tree(session))


def end(known: set[Entry], seconds: float) -> None:
    """End processes and their sessions' members: SIGTERM, and SIGKILL for those that stay."""
    names = {(entry.pid, entry.started) for entry in known}

    def left() -> list[int]:
        living = [entry for entry in _living() if (entry.pid, entry.started) in names]
        # What one of them starts meanwhile; once its parent has ended it could not be found any more.
        for entry in living:
            names.update((new.pid, new.started) for new in tree(entry.session))
        return [entry.pid for entry in living]

    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                # A stopped process would not see SIGTERM before it is continued.
                os.kill(pid, signal.SIGCONT)
        if wait_until(lambda: not left(), seconds, pause=0.05):
            return
