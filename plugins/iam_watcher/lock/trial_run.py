"""Runs that are a trial: `dag.test()`, with or without locks, and `airflow tasks test`."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Iterator

_off = False


def is_in_process() -> bool:
    """Return whether this task runs in the process of `dag.test()` or of `airflow tasks test`."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

    comms: Any = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return isinstance(comms, InProcessSupervisorComms)


def is_tasks_test() -> bool:
    """Return whether this task is run by `airflow tasks test`: alone, without the others of its run."""
    return os.environ.get("AIRFLOW_TEST_MODE") == "True" and is_in_process()


@contextmanager
def without_locks() -> Iterator[None]:
    """Turn locks off in this process while the block runs; see `iam_watcher.testing`."""
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
