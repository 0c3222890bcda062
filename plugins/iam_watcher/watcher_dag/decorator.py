"""The decorator @watcher: a Watcher whose only task is a Python function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import task

from iam_watcher.errors import WatcherError
from iam_watcher.lock import Lock
from iam_watcher.watcher_dag import Watcher, task_guard

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import timedelta

    from iam_watcher.notices import Notify
    from iam_watcher.schedule import Dst
    from iam_watcher.timetables import Overlap


def watcher(
    dag_id: str | None = None,
    *,
    schedule: Any = ...,
    lock: Lock | str | None = Lock(),  # noqa: B008  frozen
    overlap: Overlap = "skip",
    missed_grace: timedelta | None = None,
    dst: Dst = "robfig",
    conf_keys: Collection[str] = (),
    notify: Notify | Sequence[Notify] = (),
    ping: str | None = None,
    expected: timedelta | None = None,
    stale_after: timedelta | None = None,
    **dag_arguments: Any,
) -> Callable[[Callable[..., Any]], Watcher]:
    """Create a Watcher whose only task is the function.

    Args:
        dag_id: the DAG id. Default: the name of the function.
        schedule: see `Watcher`. This argument is required.
        lock: see `Watcher`.
        overlap: see `Watcher`.
        missed_grace: see `Watcher`.
        dst: see `Watcher`.
        conf_keys: see `Watcher`.
        notify: see `Watcher`.
        ping: see `Watcher`.
        expected: see `Watcher`.
        stale_after: see `Watcher`.
        dag_arguments: see `Watcher`.

    Returns:
        A decorator that turns the function into a Watcher. `doc_md` is the docstring of the function or,
        without one, of the file.

    Raises:
        WatcherError: the function creates tasks, as a function under `@dag` does. If this can't be seen when
            the file is parsed, the run fails.
    """
    if callable(dag_id) or schedule is ...:
        raise WatcherError("@watcher needs a schedule: write @watcher(schedule=...) above the function")

    def decorate(function: Callable[..., Any]) -> Watcher:
        name = dag_id or function.__name__
        own = {"doc_md": function.__doc__} if function.__doc__ else {}
        with Watcher(
            name,
            schedule=schedule,
            lock=lock,
            overlap=overlap,
            missed_grace=missed_grace,
            dst=dst,
            conf_keys=conf_keys,
            notify=notify,
            ping=ping,
            expected=expected,
            stale_after=stale_after,
            **{**own, **dag_arguments},
        ) as dag:
            task(task_guard.without_tasks(function, name))()
        return dag

    return decorate
