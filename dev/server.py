"""The base class of the private servers: folder, port, password, start and end."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from dev.processes import Process, ProcessError, free_port
from dev.sessions import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

_START_SECONDS = 30
_START_TRIES = 3


class Server(ABC):
    """A private server. A context manager that starts and stops it.

    Args:
        folder: Where its data, its log and its files are; created, with access for us only.
        arguments: More arguments for the server's command line.
        name: What messages and the log file call it.
    """

    host = "127.0.0.1"

    def __init__(self, folder: Path, arguments: Sequence[str] = (), *, name: str) -> None:
        self.folder = folder.absolute()
        self.name = name
        self.password = secrets.token_urlsafe(24)
        self.port = free_port()
        self._arguments = list(arguments)
        self._process: Process | None = None
        self._port_is_known = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process(self) -> Process:
        """The running server process, for signals.

        Raises:
            ProcessError: The server is not started.
        """
        if self._process is None:
            raise ProcessError(f"{self.name} is not started")
        return self._process

    def start(self) -> None:
        """Start the server and wait until it answers a real client.

        The first start takes another port if the port is in use. A later start keeps the port.

        Raises:
            ProcessError: Its program is missing, or it did not come up; with the end of its log.
        """
        if self._process is not None:
            raise ProcessError(f"{self.name} is already started")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for tries_left in reversed(range(_START_TRIES)):
            process = Process(self.name, self._command(), self.folder / f"{self.name}.log")
            try:
                if self._answers(process):
                    self._process = process
                    self._port_is_known = True
                    return
            except BaseException:
                # Ctrl-C during the wait must not leave a server running.
                process.stop()
                raise
            code = process.returncode
            error = process.failure("did not answer" if code is None else f"ended with exit code {code}")
            process.stop()
            if self._port_is_known or not tries_left or "already in use" not in str(error):
                raise error
            self.port = free_port()

    def stop(self) -> None:
        """End the server and wait until it is gone; nothing happens if it is not started."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def restart(self) -> None:
        """Stop it and start it again on the same port; MariaDB keeps its data, Redis starts empty."""
        self.stop()
        self.start()

    def crash(self) -> None:
        """End it by SIGKILL; `start` brings it back on the same port."""
        self.process.kill()
        self.stop()

    def pause(self) -> None:
        """Stop the process (SIGSTOP): its connections stay open, and get no answer until `resume`."""
        self.process.pause()

    def resume(self) -> None:
        """Continue after `pause`."""
        self.process.resume()

    def _answers(self, process: Process) -> bool:
        wait_until(lambda: not process.running or self._ready(), _START_SECONDS)
        # Another server on the same port would answer too, so this process must be alive.
        return process.running and self._ready()

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command, with everything prepared that it needs on disk."""

    @abstractmethod
    def _ready(self) -> bool:
        """Return whether a real client gets an answer."""
