"""A Watcher is a DAG whose tasks run under a Redis lock: `acquire` -> the tasks inside -> `release`.

The lock is the Watcher's and not the job's, so any operator works inside. `acquire` is a setup and
`release` its teardown: a lock that stays busy skips everything between, and a task that fails, or is
marked failed by a person, still ends in a release.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Self

from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import AirflowException

from iam_watcher import timetables
from iam_watcher.airflow_internals.dag_files import current_dag, is_defined_before
from iam_watcher.errors import IamWatcherError, WatcherError
from iam_watcher.lock import ACQUIRE_TASK_ID, RELEASE_TASK_ID, Lock
from iam_watcher.lock.release import ReleaseLockOperator
from iam_watcher.lock.sensor import RedisLockSensor
from iam_watcher.notices.attach import Notices
from iam_watcher.timetables.after import AfterTimetable
from iam_watcher.watcher_dag import arguments as watcher_arguments
from iam_watcher.watcher_dag import task_guard
from iam_watcher.watcher_dag.call_site import CallSite, named, without_our_frames

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from types import TracebackType

    from iam_watcher.notices import Notify
    from iam_watcher.schedule import Dst
    from iam_watcher.timetables import Overlap

TAG = "iam-watcher"
RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=10)}
# Whatever [core] default_task_execution_timeout says: a wait has its deadline in the lock.
LOCK_TASK: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=5), "execution_timeout": None}
# Over three minutes, for a Redis that restarts: without `release`, another deployment would repeat the work.
RELEASE_TASK: dict[str, Any] = {
    "retries": 6,
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(seconds=60),
}
# All of DagRunType but `backfill`: a job that works on "now" has no past to fill.
RUN_TYPES = ("scheduled", "manual", "operator_triggered", "asset_triggered", "asset_materialization")


class Watcher(DAG):
    """A DAG whose tasks run under a lock, so that only one run works at a time.

    Args:
        dag_id: the name of the DAG.
        schedule: a spec such as `"@every 1d"` (see iam_watcher.schedule), or any other schedule of a DAG.
        lock: a `Lock`, the key of a lock, or None for no lock. Default: the key `iam-watcher:<dag_id>`.
        overlap: what happens to a scheduled time during an active run: "skip" it, "delay" its run, or
            "allow" a run beside the active one, which needs `max_active_runs` of 2 or more.
        missed_grace: the latest missed scheduled time gets a run if it is less than this time ago; see
            docs/schedules.md.
        dst: what a cron spec does when clocks change: "robfig" or "vixie".
        conf_keys: keys that the conf of a run may have although they are not params. With any other such
            key, a run fails before it changes anything.
        notify: notices about runs, and their receivers, in addition to those in `[iam_watcher] notify`.
        ping: id of the Airflow connection whose URL a run calls when it begins and ends. Default: the
            connection in `[iam_watcher] ping`; the watcher's name then follows its URL.
        expected: the longest expected time of a run, counted from the moment at which Airflow queues it.
            A longer run continues, and sends a notice (`on="overrun"`).
        stale_after: a skipped run sends a notice (`on="stale"`) if no run has worked for this time.
        dag_arguments: other arguments of a DAG. By default, `doc_md` is the docstring of the file, and tasks
            have two retries after 10 s. The Watcher adds the tag `iam-watcher`. `default_args` apply to the
            tasks inside the `with`, not to `acquire` and `release`. `dagrun_timeout`, `fail_fast`,
            `end_date`, `catchup=True` and `task_group` are errors.

    Raises:
        InvalidSpec: the schedule is not valid.
        WatcherError: an argument is not valid, or a Watcher can't have it.
        ValueError: the lock is not valid.
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
        conf_keys: Collection[str] = (),
        notify: Notify | Sequence[Notify] = (),
        ping: str | None = None,
        expected: timedelta | None = None,
        stale_after: timedelta | None = None,
        **dag_arguments: Any,
    ) -> None:
        try:
            watcher_arguments.check(
                dag_id, lock=lock, overlap=overlap, conf_keys=conf_keys, dag_arguments=dag_arguments
            )
            if isinstance(schedule, str):
                schedule = timetables.timetable(
                    schedule, overlap=overlap, missed_grace=missed_grace, dst=dst, dag_id=dag_id
                )
            elif overlap == "delay" or missed_grace is not None or dst != "robfig":
                raise WatcherError(
                    f"overlap, missed_grace and dst belong to a schedule given as a text; "
                    f"got schedule={schedule!r}"
                )
            notices = Notices.of(notify, ping, stale_after)
            site = CallSite.find()
            given = {"doc_md": site.doc, "max_active_runs": 1, "allowed_run_types": RUN_TYPES} | dag_arguments
            given["default_args"] = RETRIES | (dag_arguments.get("default_args") or {})
            if expected is not None:
                given["deadline"] = notices.deadlines(expected, dag_arguments.get("deadline"))
            given["tags"] = {TAG, *(dag_arguments.get("tags") or ())}
            super().__init__(dag_id, schedule=schedule, **{**given, "catchup": False})
            watcher_arguments.check_start(self.start_date)
        except (IamWatcherError, TypeError, ValueError) as error:
            # From here, so that the line of the DAG file is among the two that Airflow shows.
            raise named(error, dag_id).with_traceback(None)  # noqa: B904  it is the error itself
        self.fileloc = site.path
        self.lock = Lock(lock) if isinstance(lock, str) else lock
        self.conf_keys = tuple(conf_keys or ())
        self._inside: set[str] = set()
        self.notices = notices

    def __enter__(self) -> Self:
        """Begin the Watcher's body."""
        if (outer := current_dag()) is not None:
            raise WatcherError(f"{self.dag_id!r} is inside {outer.dag_id!r}; move it out of that `with`")
        if self._inside:
            raise WatcherError(f"{self.dag_id!r} has a second `with`; put all of its tasks into the first")
        if is_defined_before(self.dag_id):
            raise WatcherError(f"{self.dag_id!r} is defined twice in {self.fileloc}; rename one")
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the lock around the tasks of the body."""
        try:
            if isinstance(error, (IamWatcherError, AirflowException, TypeError, ValueError)):
                without_our_frames(named(error, self.dag_id))
            if kind is None:
                self._guard()
                self.notices.attach(self)
                self._inside = set(self.task_dict)
        except WatcherError as wrong:
            raise wrong.with_traceback(None)  # noqa: B904  as in `__init__`
        finally:
            super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse what is right for `@dag` only."""
        raise WatcherError(
            f"{self.dag_id!r} is a DAG already, and Airflow finds it by itself; remove the call"
        )

    def validate(self) -> None:
        """Refuse, when Airflow takes the file in, what was put into the Watcher outside its `with`."""
        if not self._inside:
            raise WatcherError(f"{self.dag_id!r} has no `with`; write `with Watcher(...):` above its tasks")
        if outside := set(self.task_dict) - self._inside:
            raise WatcherError(
                f"{self.dag_id!r}: {', '.join(sorted(outside))} is outside its `with`, where no lock "
                "guards it; move it inside"
            )
        super().validate()  # type: ignore[no-untyped-call]

    def _guard(self) -> None:
        if not self.task_dict:
            raise WatcherError(f"{self.dag_id!r} has no task; put at least one inside its `with`")
        work, first, last = list(self.tasks), list(self.roots), list(self.leaves)
        for inner in work:
            task_guard.check(self, inner, self.conf_keys)
            task_guard.guard(inner, locked=self.lock is not None, conf_keys=self.conf_keys)
        task_guard.check_default_args(self)
        if self.lock is None:
            return
        if taken := {ACQUIRE_TASK_ID, RELEASE_TASK_ID} & {*self.task_dict, *self.task_group_dict}:
            raise WatcherError(
                f"{self.dag_id!r} has a task or task group {taken.pop()!r}; that id is the lock's own, "
                "choose another"
            )
        for inner in first:
            if not inner.is_teardown:
                # With nothing before it a rule means nothing; behind a setup Airflow takes this one only.
                inner.trigger_rule = TriggerRule.ALL_SUCCESS
        acquire, release = self._lock_tasks(self.lock)
        acquire.set_downstream(first)
        release.set_upstream(last)
        # Not on_failure_fail_dagrun: with it, Airflow judges the run by the teardown alone.
        release.as_teardown(setups=acquire)

    def _lock_tasks(self, lock: Lock) -> tuple[RedisLockSensor, ReleaseLockOperator]:
        """Return `acquire` and `release`, which none of `default_args` reaches."""
        given, self.default_args = self.default_args, {}
        try:
            # `overlap` has no effect on `@after`, whose times each deployment has for itself.
            per_tick = self.max_active_runs > 1 and not isinstance(self.timetable, AfterTimetable)
            acquire = RedisLockSensor(task_id=ACQUIRE_TASK_ID, lock=lock, per_tick=per_tick, **LOCK_TASK)
            release = ReleaseLockOperator(task_id=RELEASE_TASK_ID, **LOCK_TASK | RELEASE_TASK)
        finally:
            self.default_args = given
        task_guard.guard(acquire, locked=False, conf_keys=self.conf_keys)
        return acquire, release
