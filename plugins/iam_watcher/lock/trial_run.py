"""Test runs without locks: see `iam_watcher.testing`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from iam_watcher.airflow_internals.tasks import is_in_process
from iam_watcher.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Iterator

_off = False


@contextmanager
def without_locks() -> Iterator[None]:
    """Turn locks off in this process while the block runs. Use it in tests only: see docs/testing.md."""
    global _off  # noqa: PLW0603  a test's process has one state
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


def locks_are_off() -> bool:
    """Return whether locks are off in this process.

    Raises:
        LockError: they are, and this is no test: the work would run without its lock.
    """
    if _off and not is_in_process():
        raise LockError("locks are off in a task outside of dag.test(); use without_locks() in tests only")
    return _off
