"""Finds keywords in the log of a task while the task works, for `Notify(on="keyword:…")`.

It sees what this process logs and prints: the loggers of the standard library and of structlog (Airflow's
own, which also write the output of BashOperator and CommandOperator), `sys.stdout` and `sys.stderr`. It does
not see what a child process writes to the task's output past Python, what the triggerer logs for a deferred
task, and what a task has logged before it was deferred.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

_COMMAND = "Running command: ["  # Airflow's line with the text of a command, which is not its output
_LONGEST_LINE = 10_000  # characters of a line that is not ended

_watch: _Watch | None = None


def begin(keywords: Iterable[str]) -> None:
    """Look for these texts in what this process logs from now on."""
    global _watch  # noqa: PLW0603  one task at a time in a process
    end()
    _watch = _Watch(keywords)
    _watch.start()


def end(error: BaseException | str | None = None) -> dict[str, str]:
    """Stop to look, and return each keyword that was found, with the first line that had it.

    Args:
        error: of the task. It counts as a line, because Airflow logs it.
    """
    global _watch
    watch, _watch = _watch, None
    if watch is None:
        return {}
    watch.stop()
    if error is not None:
        watch.line(str(error))
    return watch.found


class _Watch:
    def __init__(self, keywords: Iterable[str]) -> None:
        self.found: dict[str, str] = {}
        self._wanted = set(keywords)
        self._handler = _Handler(self)
        self._streams = (_Stream(self, sys.stdout), _Stream(self, sys.stderr))

    def line(self, text: str) -> None:
        if _COMMAND in text:
            return
        for keyword in [keyword for keyword in self._wanted if keyword in text]:
            self._wanted.discard(keyword)
            self.found[keyword] = text

    def start(self) -> None:
        logging.getLogger().addHandler(self._handler)  # noqa: TID251  it reads, and logs nothing
        # Loggers that are in use keep this list, so it is changed in place. Its last member writes.
        processors = structlog.get_config()["processors"]
        processors.insert(len(processors) - 1, self._of_structlog)
        sys.stdout, sys.stderr = self._streams

    def stop(self) -> None:
        logging.getLogger().removeHandler(self._handler)  # noqa: TID251  see above
        with suppress(ValueError):  # Someone configured structlog anew.
            structlog.get_config()["processors"].remove(self._of_structlog)
        out, error = self._streams
        # A task may have put another stream in its place.
        sys.stdout = out.inner if sys.stdout is out else sys.stdout
        sys.stderr = error.inner if sys.stderr is error else sys.stderr
        for stream in self._streams:
            self.line(stream.rest)

    def _of_structlog(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:  # noqa: ARG002
        self.line(str(event.get("event", "")))
        return event


class _Handler(logging.Handler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  what a task logs does not end the task
            self.handleError(record)
        else:
            self._watch.line(text)


class _Stream:
    """A stream that is also read, line by line."""

    def __init__(self, watch: _Watch, inner: Any) -> None:
        self._watch = watch
        self.inner = inner
        self.rest = ""

    def write(self, text: str) -> Any:
        *lines, rest = f"{self.rest}{text}".split("\n")
        for line in lines:
            self._watch.line(line)
        self.rest = rest[-_LONGEST_LINE:]
        return self.inner.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
