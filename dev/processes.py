"""Child processes that this project starts for itself: how they begin, and how they surely end.

Each process gets a session of its own, so a Ctrl-C in the terminal reaches only us and we end the
children in our order. Whatever a child starts stays in its session, even when it makes process groups
of its own or loses its parent (Airflow's do both), so stopping by session leaves nothing behind.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LOG_TAIL_LINES = 25
# Below the range from which the kernel takes the ports of outgoing connections (32768 and up), so none
# of them can take the port between our look and the server's bind; and free of well-known services.
_PORTS = range(28100, 30000)


class ProcessError(RuntimeError):
    """A process did not start, or did not do what it was started for; the message has its log's end."""


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on right now.

    Raises:
        ProcessError: No port of the range could be bound.
    """
    for _ in range(200):
        port = _PORTS[secrets.randbelow(len(_PORTS))]
        with socket.socket() as probe, suppress(OSError):
            # As servers do it: a connection of an earlier run in TIME_WAIT does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise ProcessError(f"no free port on 127.0.0.1 between {_PORTS.start} and {_PORTS.stop - 1}")


def listening(port: int) -> bool:
    """Return whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(done: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
    """Ask `done` every `pause` seconds until it says yes or `seconds` are over; return its last answer."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
    return True


def require(binary: str, package: str) -> str:
    """Return the path of an installed binary (Debian keeps servers in /usr/sbin, off a user's PATH).

    Raises:
        ProcessError: It is not installed; the message has the command that installs it.
    """
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
    found = shutil.which(binary, path=path)
    if found is None:
        raise ProcessError(f"{binary} is not installed: run dev/bootstrap.sh, or apt-get install {package}")
    return found


def session_members(session: int) -> list[int]:
    """Return the pids of a session's living processes (zombies don't count)."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            # The command's name stands in parentheses and may itself hold blanks and parentheses.
            state, _ppid, _pgrp, sid = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(sid) == session and state not in "ZX":
                members.append(int(entry.name))
    return members


def end_session(session: int, seconds: float) -> None:
    """End every process of a session: SIGTERM, and SIGKILL for those still there after `seconds`."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in session_members(session):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                # A stopped process would not see SIGTERM before it is continued.
                os.kill(pid, signal.SIGCONT)
        if wait_until(lambda: not session_members(session), seconds):
            return


class Process:
    """One child process: its command, its log file, its end.

    Start it from a thread that lives as long as the process should: Linux sends the SIGTERM that ends
    it with us (PR_SET_PDEATHSIG) when the starting *thread* ends.

    Args:
        name: What messages call it.
        command: Program and arguments.
        log: File that gets its output, appended.
        env: Whole environment; None: ours.
        cwd: Working folder; None: ours.
        stop_seconds: Patience after SIGTERM, before SIGKILL.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_seconds: float = 15,
    ) -> None:
        self.name = name
        self.log = log
        self._stop_seconds = stop_seconds
        # Ends with us, even when we are killed with -9. setpriv is part of util-linux, so of every
        # Debian; elsewhere only that last net is missing.
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id, which is its session's id too."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    @property
    def running(self) -> bool:
        """Whether the process itself (not its children) is alive."""
        return self._popen.poll() is None

    def members(self) -> list[int]:
        """Return the pids of this process and all that it started, if still alive."""
        return session_members(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone (not to its children)."""
        self._popen.send_signal(number)

    def pause(self) -> None:
        """Stop the process where it stands (SIGSTOP): connections stay open and get no answer."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process alone by SIGKILL, as a crash does; its children live on as orphans."""
        self._popen.kill()
        self._popen.wait()

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; return the exit code, or None if it still runs after `seconds`."""
        with suppress(subprocess.TimeoutExpired):
            return self._popen.wait(seconds)
        return None

    def stop(self) -> None:
        """End the process and all that it started, and wait until they are gone."""
        if self.running:
            self._popen.terminate()
            self.resume()
            self.wait(self._stop_seconds)
        end_session(self.pid, self._stop_seconds)
        self._popen.wait(self._stop_seconds)

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_LOG_TAIL_LINES:])

    def failure(self, what: str) -> ProcessError:
        """Return an error about this process: what happened, and the end of its log."""
        return ProcessError(f"{self.name} {what}; the end of {self.log}:\n{self.log_tail()}")
