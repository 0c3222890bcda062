"""Starts child processes, and ends them with everything that they started.

Each process has a session of its own. So a Ctrl-C in the terminal reaches only the parent, which ends its
children in its own order. Ending the session ends all processes in it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dev.sessions import Entry, end, session_members, start_time, tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_LOG_TAIL_LINES = 25
_LEFTOVER_SECONDS = 10
# Beside each log file: the pid and start time of the process that writes it, for `end_leftovers`.
_NOTE = ".process"
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


def end_leftovers(folder: Path) -> None:
    """End what an earlier run, itself killed, left running with its log below this folder."""
    for note in folder.rglob(f"*{_NOTE}"):
        with suppress(ValueError):
            pid, started = map(int, note.read_text().split())
            end(tree(pid, started), _LEFTOVER_SECONDS)
        note.unlink()


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a KeyboardInterrupt and ignore all further ones.

    So a second Ctrl-C, or make passing on the first one, can't break off the ending of our processes.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, _frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def telling_of_the_end() -> Iterator[None]:
    """Say "stopping …" as soon as a KeyboardInterrupt comes: what then ends can take seconds."""
    try:
        yield
    except BaseException as error:
        # Ctrl-C within a query: closing its cursor fails then, and that error hides the interrupt.
        if came_of_interrupt(error):
            print("\nstopping …", file=sys.stderr, flush=True)
        raise


def came_of_interrupt(error: BaseException | None) -> bool:
    """Return whether an error is a KeyboardInterrupt, or was raised while one was handled."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


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
        # Not waited for yet, so the kernel keeps its entry even if it has ended already.
        self._started = start_time(self.pid)
        self._note = log.with_suffix(_NOTE)
        self._note.write_text(f"{self.pid} {self._started}\n")
        # What it started, as far as seen before its end.
        self._known: set[Entry] = set()

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

    def terminate(self) -> None:
        """Ask the process, and not its children, to end (SIGTERM), and don't wait for it."""
        self._remember()
        self._popen.terminate()
        self.resume()

    def kill(self) -> None:
        """End the process alone by SIGKILL, as a crash does; its children live on as orphans."""
        self._remember()
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
            self.terminate()
            self.wait(self._stop_seconds)
        self._remember()
        end(self._known, self._stop_seconds)
        self._popen.wait(self._stop_seconds)
        self._note.unlink(missing_ok=True)

    def _remember(self) -> None:
        """Note what it has started: orphans in sessions of their own can't be found after its end."""
        self._known |= tree(self.pid, self._started)

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_LOG_TAIL_LINES:])

    def failure(self, what: str) -> ProcessError:
        """Return an error about this process: what happened, and the end of its log."""
        return ProcessError(f"{self.name} {what}; the end of {self.log}:\n{self.log_tail()}")
