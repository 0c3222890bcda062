"""A Watcher is a DAG whose tasks run under a Redis lock: `acquire` -> the tasks inside -> `release`.

The lock is the Watcher's and not the job's, so any operator works inside. `acquire` is a setup and
`release` its teardown: a lock that stays busy skips everything between, and a task that fails, or is
marked failed by a person, still ends in a release.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow.sdk import DAG, task
from airflow.sdk.definitions._internal.contextmanager import DagContext
from airflow.sdk.definitions.mappedoperator import MappedOperator

from iam_watcher import timetables
from iam_watcher.errors import WatcherError
from iam_watcher.lock import ACQUIRE_TASK_ID, RELEASE_TASK_ID, Lock
from iam_watcher.lock.holder import MAX_KEY_LENGTH, key_of
from iam_watcher.lock.release import ReleaseLockOperator
from iam_watcher.lock.sensor import RedisLockSensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from iam_watcher.schedule import Dst
    from iam_watcher.timetables import Overlap

TAG = "iam-watcher"
RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=10)}
LOCK_DELAY = timedelta(seconds=5)
# All of DagRunType but `backfill`: a job that works on "now" has no past to fill.
RUN_TYPES = ("scheduled", "manual", "operator_triggered", "asset_triggered", "asset_materialization")

PRE_EXECUTE = "_pre_execute_hook"  # where BaseOperator keeps its argument `pre_execute`; it has no other door


class Watcher(DAG):
    """A DAG that does its work under a lock, never twice at a time.

    Args:
        dag_id: its name.
        schedule: a spec as `"@every 1d"` (see iam_watcher.schedule), or anything a DAG takes.
        lock: a `Lock`, the key of one, or None for no lock. Default: the key `iam-watcher:<dag_id>`.
        overlap: what happens to a tick that comes while a run is going: "skip" it, "delay" it, or
            "allow" it beside the other, which needs `max_active_runs` of 2 or more.
        missed_grace: how late a tick that was missed may be made up for; see docs/schedules.md.
        dst: how a cron spec behaves when clocks change: "robfig" or "vixie".
        dag_arguments: any other argument of a DAG. Set here unless given: `doc_md` (the docstring of
            the file), two retries after 10 s, templates that keep their types. Added: the tag.

    Raises:
        InvalidSpec: for a schedule that is none.
        WatcherError: for arguments that contradict what a Watcher is.
        ValueError: for a lock that can't be.
    """

    def __init__(
        self,
        dag_id: str,
        *,
        schedule: Any,
        lock: Lock | str | None = Lock(),  # noqa: B008  frozen
        overlap: Overlap = "skip",
        missed_grace: timedelta | None = None,
        dst: Dst = "robfig",
        **dag_arguments: Any,
    ) -> None:
        _refuse(dag_id, lock, overlap, dag_arguments)
        if isinstance(schedule, str):
            schedule = timetables.timetable(schedule, overlap=overlap, missed_grace=missed_grace, dst=dst)
        elif overlap == "delay" or missed_grace is not None or dst != "robfig":
            raise WatcherError(
                f"{dag_id!r}: overlap, missed_grace and dst belong to a schedule given as a text; "
                f"got schedule={schedule!r}"
            )
        caller = _caller()
        dag_arguments.setdefault("doc_md", caller.f_globals.get("__doc__"))
        dag_arguments.setdefault("max_active_runs", 1)
        dag_arguments.setdefault("render_template_as_native_obj", True)
        dag_arguments.setdefault("allowed_run_types", RUN_TYPES)
        dag_arguments["default_args"] = RETRIES | (dag_arguments.get("default_args") or {})
        dag_arguments["tags"] = {TAG, *(dag_arguments.get("tags") or ())}
        super().__init__(dag_id, schedule=schedule, catchup=False, **dag_arguments)
        self.fileloc = caller.f_code.co_filename
        self.lock = Lock(lock) if isinstance(lock, str) else lock
        self._inside: set[str] = set()

    def __enter__(self) -> Self:
        """Begin the Watcher's body."""
        if (outer := DagContext.get_current()) is not None:
            raise WatcherError(f"{self.dag_id!r} stands inside {outer.dag_id!r}; move it out of that `with`")
        for dag, module in DagContext.autoregistered_dags:
            if dag.dag_id == self.dag_id and module.__name__ == DagContext.current_autoregister_module_name:
                raise WatcherError(f"{self.dag_id!r} is defined twice in {self.fileloc}; rename one")
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the lock around the tasks of the body."""
        try:
            if kind is None:
                if not self.task_dict:
                    raise WatcherError(f"{self.dag_id!r} has no task; put at least one inside its `with`")
                if self.lock is not None:
                    self._wrap(self.lock)
                self._inside = set(self.task_dict)
        finally:
            super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    def validate(self) -> None:
        """Refuse, when Airflow takes the file in, what was put into the Watcher outside its `with`."""
        if not self._inside:
            raise WatcherError(f"{self.dag_id!r} has no `with`; write `with Watcher(...):` above its tasks")
        if outside := set(self.task_dict) - self._inside:
            raise WatcherError(
                f"{self.dag_id!r}: {', '.join(sorted(outside))} stands outside its `with`, where no lock "
                "guards it; move it inside"
            )
        super().validate()  # type: ignore[no-untyped-call]

    def _wrap(self, lock: Lock) -> None:
        work, first, last = list(self.tasks), list(self.roots), list(self.leaves)
        if taken := {ACQUIRE_TASK_ID, RELEASE_TASK_ID} & set(self.task_dict):
            raise WatcherError(
                f"{self.dag_id!r} has a task {taken.pop()!r}; that id is the lock's own, choose another"
            )
        for inner in work:
            _guard(inner)
        retries = {
            "retries": max(RETRIES["retries"], self.default_args["retries"]),
            "retry_delay": LOCK_DELAY,
        }
        acquire = RedisLockSensor(
            task_id=ACQUIRE_TASK_ID, lock=lock, per_tick=self.max_active_runs > 1, **retries
        )
        release = ReleaseLockOperator(task_id=RELEASE_TASK_ID, **retries)
        acquire.set_downstream(first)
        release.set_upstream(last)
        # Not on_failure_fail_dagrun: with it, Airflow judges the run by the teardown alone.
        release.as_teardown(setups=acquire)


def watcher(dag_id: str | None = None, **arguments: Any) -> Callable[[Callable[..., Any]], Watcher]:
    """Make a Watcher of one Python function, its only task.

    Args:
        dag_id: the Watcher's name; default: the function's.
        arguments: those of `Watcher`.

    Returns:
        A decorator that turns the function into a Watcher. `doc_md` is the function's docstring, or
        else the file's.
    """

    def decorate(function: Callable[..., Any]) -> Watcher:
        own = {"doc_md": function.__doc__} if function.__doc__ else {}
        with Watcher(dag_id or function.__name__, **{**own, **arguments}) as dag:
            task(function)()
        return dag

    if callable(dag_id):
        raise WatcherError("@watcher needs a schedule: write @watcher(schedule=...) above the function")
    return decorate


def _refuse(dag_id: str, lock: Lock | str | None, overlap: str, dag_arguments: dict[str, Any]) -> None:
    if not isinstance(lock, Lock | str | None):
        raise WatcherError(f"{dag_id!r}: lock={lock!r}; expected a Lock, the key of one, or None")
    if misplaced := sorted({field.name for field in fields(Lock)} & set(dag_arguments)):
        raise WatcherError(
            f"{dag_id!r}: {', '.join(misplaced)} belongs to the lock: lock=Lock({misplaced[0]}=...)"
        )
    if dag_arguments.get("dagrun_timeout") is not None:
        raise WatcherError(
            f"{dag_id!r}: dagrun_timeout would skip the release together with the rest when it strikes, and "
            "the lock would stay until its lease ends; use execution_timeout on a task and the lock's wait"
        )
    if dag_arguments.pop("catchup", False):
        raise WatcherError(
            f"{dag_id!r}: catchup=True; a Watcher works on now and has no past to catch up with"
        )
    runs = dag_arguments.get("max_active_runs", 1)
    # Two is what "beside each other" means.
    if overlap == "allow" and not (isinstance(runs, int) and runs >= 2):  # noqa: PLR2004
        raise WatcherError(f"{dag_id!r}: overlap='allow' needs max_active_runs of 2 or more, got {runs!r}")
    if overlap != "allow" and runs != 1:
        raise WatcherError(f"{dag_id!r}: max_active_runs={runs!r}; expected 1, or overlap='allow' with it")
    if lock is None:
        return
    own = Lock(lock) if isinstance(lock, str) else lock
    key = key_of(own, dag_id, datetime.now(UTC) if overlap == "allow" else None)
    if len(key) > MAX_KEY_LENGTH:
        raise WatcherError(
            f"{dag_id!r}: its lock would have the key {key!r}, of {len(key)} characters; expected "
            f'{MAX_KEY_LENGTH} at most. Give it a shorter one: lock="..."'
        )


def _guard(inner: Any) -> None:
    """Put `keepalive.guard` before the task's own `pre_execute`, if it has one."""
    mapped = isinstance(inner, MappedOperator)
    own = inner.partial_kwargs.get("pre_execute") if mapped else getattr(inner, PRE_EXECUTE)

    def pre_execute(context: Any) -> None:
        from iam_watcher.lock import keepalive

        keepalive.guard(context)
        if own is not None:
            own(context)

    if mapped:
        inner.partial_kwargs["pre_execute"] = pre_execute
    else:
        setattr(inner, PRE_EXECUTE, pre_execute)


def _caller() -> FrameType:
    """Return the frame of the DAG file: the first one that is not of this module."""
    frame = sys._getframe(1)  # noqa: SLF001  as Airflow's own DAG finds its file
    while frame.f_globals.get("__name__") == __name__ and frame.f_back is not None:
        frame = frame.f_back
    return frame
