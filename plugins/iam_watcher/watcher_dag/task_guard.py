"""Checks each task of a Watcher: when the file is parsed, and before the task begins."""

from __future__ import annotations

import dis
import functools
import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, TaskGroup
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from iam_watcher import arguments, run_conf
from iam_watcher.airflow_internals import dag_files
from iam_watcher.errors import RunConfError, WatcherError
from iam_watcher.job_tasks import dry_run_argument, is_job
from iam_watcher.log_lines import get_logger
from iam_watcher.run_conf import DRY_RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import CodeType

    from airflow.sdk import Context

logger = get_logger(__name__)

# Arguments without which a job would change more rows or in another way, warn nobody, or could not undo it.
# Not `key` and `per`: so short a name resembles arguments of other operators, such as `keys`.
LIMITING = frozenset({
    *("dry_run", "max_rows", "max_share", "time_budget", "throttle"),
    *("archive", "redact", "undo_location", "on_disable", "warn_days"),
    *("exempt_names", "exempt_admins", "min_age_days", "where", "keep_last", "orphans_of"),
})  # fmt: skip


def guard(operator: Any, *, locked: bool, conf_keys: Collection[str]) -> None:
    """Let a task begin only if the run's conf is valid and, if `locked`, only under the run's lock.

    The task's own `pre_execute`, if it has one, runs after these checks.
    """
    params = frozenset(operator.params)

    def before(context: Context) -> None:
        try:
            _check_conf(context, params, conf_keys)
            if locked:
                from iam_watcher.lock import guard as lock_guard

                lock_guard.begin(context)
        except Exception as error:
            # Airflow's log view folds the lines before a task's work: end that group.
            context["task"].log.info("::endgroup::")
            if isinstance(error, AirflowSkipException):
                logger.warning("Task %s is skipped: %s", context["ti"].task_id, error)
            raise

    dag_files.wrap_pre_execute(operator, before)


def check(dag: DAG, operator: Any, conf_keys: Collection[str]) -> None:
    """Return if the Watcher keeps its promises with this task.

    Raises:
        WatcherError: the task is a job that would write although the form's `dry_run` is ticked, a teardown
            that alone decides the state of the run, or a task with dates of its own.
    """
    if operator.is_teardown and operator.on_failure_fail_dagrun:
        raise WatcherError(
            f"{dag.dag_id!r}: task {operator.task_id!r} has on_failure_fail_dagrun=True. Airflow would judge "
            "the run by this teardown alone: a run whose work failed would be green. Remove it"
        )
    for name, cure in (("start_date", "Give it to the Watcher"), ("end_date", "Remove it")):
        if (date := getattr(operator, name)) != getattr(dag, name):
            raise WatcherError(
                f"{dag.dag_id!r}: task {operator.task_id!r} has the {name} {date}. Airflow would leave the "
                f"task out of runs outside of it, and such a run would be green. {cure}"
            )
    if not is_job(operator):
        return
    for name in run_conf.named_dry_run(conf_keys):
        raise WatcherError(
            f"conf_keys has {name!r}: a run with this key would change rows, because task "
            f"{operator.task_id!r} does not read it. Remove it. For a dry run, add "
            f'params={{"{DRY_RUN}": False}}, and give the task {DRY_RUN}="{{{{ params.{DRY_RUN} }}}}"'
        )
    if dry_run_argument(operator) is not False:
        return
    for name in run_conf.named_dry_run(dag.params):
        raise WatcherError(
            f"{dag.dag_id!r}: task {operator.task_id!r} would change rows although the param {name} is set; "
            f'give the task {DRY_RUN}="{{{{ params.{name} }}}}", or remove the param'
        )


def check_default_args(dag: DAG) -> None:
    """Return if no key of `default_args` is a misspelt one of LIMITING: Airflow would ignore it.

    Raises:
        WatcherError: a key of the Watcher's or of a task group's `default_args` is no argument of any task,
            and resembles one of LIMITING that a job has.
    """
    given = (dag.default_args, *(group.default_args for group in dag.task_group_dict.values()))
    if all(arguments.declared_by(BaseOperator).issuperset(default_args) for default_args in given):
        return  # Every task takes them.
    classes = {dag_files.class_of(task) for task in dag.tasks}
    known = frozenset[str]().union(*map(arguments.names_of, classes))
    of_jobs = frozenset[str]().union(*map(_arguments_of_jobs, classes))
    for default_args in given:
        for name in default_args:
            meant = None if name in known else run_conf.meant(name, of_jobs & LIMITING - set(default_args))
            if meant is not None:
                raise WatcherError(
                    f"default_args has {name!r}, which no task of {dag.dag_id!r} takes; did you mean "
                    f"{meant!r}? Correct or remove it"
                )


def _arguments_of_jobs(operator_class: type) -> frozenset[str]:
    """Return the names of the arguments that an operator of iam-watcher declares."""
    ours = [base for base in inspect.getmro(operator_class) if base.__module__.startswith("iam_watcher.")]
    return frozenset[str]().union(*map(arguments.declared_by, ours))


def without_tasks(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return the function, which then raises an error if it creates tasks when it runs.

    Raises:
        WatcherError: the source of the function shows that it does.
    """
    if made := next(_task_makers(function), None):
        raise WatcherError(_creates_tasks(name, made))

    def watched() -> DAG:
        return _NoTasks(name, schedule=None, auto_register=False)

    work: Callable[..., Any]
    # Of the same kind as the function: a coroutine or a generator does its work after the call has returned.
    if inspect.iscoroutinefunction(function):

        async def work(*arguments: Any, **keywords: Any) -> Any:
            with watched():
                return await function(*arguments, **keywords)

    elif inspect.isgeneratorfunction(function):

        def work(*arguments: Any, **keywords: Any) -> Any:
            with watched():
                return (yield from function(*arguments, **keywords))

    else:

        def work(*arguments: Any, **keywords: Any) -> Any:
            with watched():
                return function(*arguments, **keywords)

    return functools.wraps(function)(work)


class _NoTasks(DAG):
    """Refuses the tasks that are created while it is the current DAG: nothing would run them."""

    def add_task(self, task: Any) -> None:
        raise AirflowFailException(_creates_tasks(self.dag_id, task.task_id))


def _creates_tasks(name: str, made: str) -> str:
    return (
        f"{name!r}: the function under @watcher creates tasks ({made}), which nothing would run: it is "
        f"itself the task. For several tasks write `with Watcher({name!r}, schedule=...):` with them inside"
    )


def _task_makers(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the names of operators, task functions and task groups that the function uses."""
    code = getattr(function, "__code__", None)
    if code is None:
        return
    outer = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    for name, is_global in _names_in(code):
        value = None
        if is_global:
            value = function.__globals__.get(name)
        elif name in outer:
            with suppress(ValueError):  # It has no value yet.
                value = outer[name].cell_contents
        is_class = isinstance(value, type) and issubclass(value, (BaseOperator, TaskGroup))
        if is_class or dag_files.makes_tasks_by_a_call(value):
            yield name


def _names_in(code: CodeType) -> Iterator[tuple[str, bool]]:
    """Yield each outer name that a function and its inner functions use, and whether the name is global."""
    # Not `co_names`, which also has the names of attributes.
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_NAME"):
            yield str(step.argval), step.opname != "LOAD_DEREF"
    for inner in code.co_consts:
        if hasattr(inner, "co_names"):
            yield from _names_in(inner)


def _check_conf(context: Context, params: Collection[str], conf_keys: Collection[str]) -> None:
    dag: Any = context["dag"]
    names = {*dag.params, *params, *(name for inner in dag.tasks for name in inner.params)}
    # `airflow tasks test --task-params` makes a param of each key that it is given.
    added = set(context["task"].params) - {*dag.params, *params}
    values: Any = context["params"]
    conf: dict[str, Any] = {**(context["dag_run"].conf or {}), **{name: values.get(name) for name in added}}
    try:
        run_conf.check(conf, names=names - added, values=values, allowed=conf_keys)
    except RunConfError as error:
        raise AirflowFailException(str(error)) from None
