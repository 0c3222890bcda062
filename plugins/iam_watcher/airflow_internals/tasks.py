"""Names of Airflow that are used in the process of a task, in the triggerer and in our commands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

CALLBACKS = ("on_success_callback", "on_failure_callback", "on_retry_callback", "on_skipped_callback")
SET_BY_TRIGGERER = ("trigger_id", "triggerer_job_id", "timeout_after", "task_instance")


def is_in_process() -> bool:
    """Return whether this task runs in the process of `dag.test()` or of `airflow tasks test`.

    `task_runner.SUPERVISOR_COMMS` and `InProcessSupervisorComms`. Such a process belongs to a person's shell
    and must outlive the task.
    """
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

    return isinstance(getattr(task_runner, "SUPERVISOR_COMMS", None), InProcessSupervisorComms)


def has_supervisor() -> bool:
    """Return whether this process can ask Airflow for XComs and connections.

    `task_runner.SUPERVISOR_COMMS`. It is missing where `dag.test()` calls the callbacks of the DAG itself,
    outside of any task.
    """
    from airflow.sdk.execution_time import task_runner

    return hasattr(task_runner, "SUPERVISOR_COMMS")


def is_tasks_test() -> bool:
    """Return whether `airflow tasks test` runs this task: alone, without the other tasks of its run.

    The environment variable AIRFLOW_TEST_MODE, which also `airflow dags test` may inherit from a shell.
    """
    return os.environ.get("AIRFLOW_TEST_MODE") == "True" and is_in_process()


def call_at_the_end(task: Any, end: Callable[[Context], None]) -> None:
    """Call `end` before the task's own callbacks, however the task ends, in the process of the task.

    The callbacks of an operator are public arguments; that they are kept as lists, and read when the task has
    ended, is not documented.
    """
    for name in CALLBACKS:
        setattr(task, name, [end, *getattr(task, name)])


def masked(text: str) -> str:
    """Return the text with `***` in place of each secret that Airflow's log would hide.

    `airflow.sdk._shared.secrets_masker.redact`. Airflow's public interface only adds secrets to hide.
    """
    from airflow.sdk._shared.secrets_masker import redact

    return str(redact(text))


def set_as_the_triggerer_does(inner: BaseTrigger, outer: BaseTrigger) -> None:
    """Give a trigger what the triggerer gave to the one that runs it.

    The attributes that `TriggerRunner.create_triggers` sets on a trigger before `run`.
    """
    for name in SET_BY_TRIGGERER:
        if hasattr(outer, name):
            setattr(inner, name, getattr(outer, name))


def use_stored_connections() -> None:
    """Let a command of ours find the connections of the metadata database, as Airflow's own commands do.

    The environment variable _AIRFLOW_PROCESS_CONTEXT. Without it only connections of the environment count.
    """
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
