"""Finds the place in a DAG file where a Watcher is created, for its docs and for errors."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from iam_watcher.airflow_internals.dag_files import SDK_FOLDER, parsed_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

Error = TypeVar("Error", bound=Exception)

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class CallSite:
    """The place where a Watcher is created.

    Attributes:
        path: path of the DAG file, even if a factory in another module creates the Watcher.
        doc: the docstring of that file or, if it has none, of the factory.
    """

    path: str
    doc: str | None

    @classmethod
    def find(cls) -> Self:
        """Return the place from which this package was called."""
        frame = sys._getframe(1)  # noqa: SLF001  as Airflow's own DAG finds its file
        while frame.f_back is not None and _name(frame).partition(".")[0] == __name__.partition(".")[0]:
            frame = frame.f_back
        # The file that Airflow parses; there is none if a program or a test creates a Watcher.
        parsed = parsed_module()
        file = next((outer for outer in _outwards(frame) if _name(outer) == parsed), frame)
        doc = file.f_globals.get("__doc__")
        return cls(file.f_code.co_filename, doc or _docstring(frame))


def named(error: Error, dag_id: str) -> Error:
    """Return the error, with the Watcher's name before its message if the message does not contain it."""
    message = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    if repr(dag_id) not in message:
        error.args = (f"{dag_id!r}: {message}",)
    return error


def without_our_frames(error: Exception) -> None:
    """Cut the traceback after its last line outside of this package and of Airflow.

    Airflow shows the last two lines of a traceback, which would otherwise be lines of this package.
    """
    last, trace = None, error.__traceback__
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if not any(path.is_relative_to(folder) for folder in (_PACKAGE, SDK_FOLDER)):
            last = trace
        trace = trace.tb_next
    if last is not None:
        last.tb_next = None


def _name(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _docstring(frame: FrameType) -> str | None:
    function = frame.f_globals.get(frame.f_code.co_name)
    return function.__doc__ if getattr(function, "__code__", None) is frame.f_code else None
