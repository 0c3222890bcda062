"""The processes of the soak: eight that always work, and sometimes one that repeats a run."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

from dev.soak.worker import Run, work

if TYPE_CHECKING:
    import random
    import signal

    from dev.soak.witness import Event
    from dev.soak.worker import Place

# Not spawned: each new process would import Airflow anew, 3 s of a core.
_CONTEXT = multiprocessing.get_context("fork")


class Crew:
    """Starts, kills and replaces the processes; their number stays the same.

    Args:
        place: where they work.
        rng: seeds theirs.
        size: how many.
    """

    def __init__(self, place: Place, rng: random.Random, size: int) -> None:
        self._place, self._rng = place, rng
        self._members: dict[int, Any] = {}
        self.failures: list[str] = []
        for _ in range(size):
            self.start()

    def start(self, retried: Run | None = None, *, only_once: bool = False) -> int:
        """Start a process and return its pid; see `work`."""
        arguments = (self._place, self._rng.getrandbits(32), retried)
        process = _CONTEXT.Process(target=work, args=arguments, kwargs={"only_once": only_once}, daemon=True)
        process.start()
        self._members[process.pid or 0] = process
        return process.pid or 0

    def kill(self, victim: Event, *, retry: bool) -> None:
        """End a process by SIGKILL and start another, which takes over its run or begins with a new one."""
        if (process := self._members.pop(victim.pid, None)) is not None:
            process.kill()
            process.join()
            self.start(Run(victim.key, victim.owner) if retry else None)

    def alive(self, pid: int) -> bool:
        """Return whether this is one of ours that has not ended."""
        return pid in self._members and self._members[pid].is_alive()

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to one of ours, if it is still there."""
        if self.alive(pid):
            os.kill(pid, number)

    def tend(self) -> None:
        """Note and replace processes that ended by an error of their own; forget those that are done."""
        for pid, process in list(self._members.items()):
            if process.is_alive():
                continue
            del self._members[pid]
            if process.exitcode:
                self.failures.append(f"process {pid} ended with exit code {process.exitcode}")
                self.start()

    def end(self) -> None:
        """End all of them."""
        for process in self._members.values():
            process.kill()
        for process in self._members.values():
            process.join()
        self._members.clear()
