"""Does a dry run of another watcher, which may be paused: it stays paused.

Airflow starts no task of a paused DAG. So a DAG of its own, which is never paused, reads the other watcher's
file in the worker and counts what its jobs would change. It writes no row, whatever the file says.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from iam_watcher import run_conf
from iam_watcher.airflow_internals import dag_files
from iam_watcher.errors import RunConfError
from iam_watcher.job_tasks import is_job
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import DAG, Context

logger = get_logger(__name__)


class DryRunWatcherOperator(BaseOperator):
    """Does a dry run of the jobs of another watcher, and returns their run reports.

    The dry run acquires no lock, because it changes no row. A mapped job is counted task by task. If another
    task returns what a job is mapped over, or if a job is in a mapped task group, the dry run fails before it
    counts.

    The run's param `params` has the values of the other watcher's params, as an object. Those that it does
    not have get their defaults.

    :param watcher: DAG id of the other watcher. (templated)
    """

    template_fields: Sequence[str] = ("watcher",)

    def __init__(self, *, watcher: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.watcher = watcher

    def execute(self, context: Context) -> dict[str, Any]:
        """Return task -> run report; `task/0`, `task/1` and so on for a mapped job.

        Raises:
            AirflowFailException: there is no such watcher, it has no job with a dry run, a value does not
                fit a param, or only a run knows what a mapped job works on.
        """
        dag_id = self.watcher.strip()
        # Not a template field, which would make a text of the object.
        given = context["params"].get("params") or {}
        dag = _read(context, dag_id)
        try:
            values = _values(dag, given)
        except (RunConfError, ValueError) as error:
            raise AirflowFailException(str(error)) from error
        reports = {}
        for name, job in _jobs(dag).items():
            logger.info("Dry run of the task %s of %s", name, dag_id)
            inner: Any = {**context, "dag": dag, "task": job, "params": values}
            job.render_template_fields(inner)
            job.is_dry_run = True
            reports[name] = job.execute(inner)
        if not reports:
            raise AirflowFailException(f"{dag_id!r} has no job that can do a dry run")
        return {"watcher": dag_id, "dry_run": True, "reports": reports}


def _read(context: Context, dag_id: str) -> DAG:
    """Parse the file of a watcher, as Airflow does before each task."""
    from iam_watcher.airflow_internals import other_dag

    try:
        return other_dag.parse(context["ti"], dag_id)
    except (AirflowNotFoundException, LookupError) as error:
        raise AirflowFailException(f"watcher={dag_id!r} is not known to Airflow; {error}") from error


def _values(dag: DAG, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the watcher's params.

    Raises:
        RunConfError: a name is not a param of the watcher.
        ValueError: a value does not fit.
    """
    params = copy.deepcopy(dag.params)
    run_conf.check(given, names=params, values=given)
    params.update(given)
    values: dict[str, Any] = params.validate()
    return values


def _jobs(dag: DAG) -> dict[str, Any]:
    """Return name -> job, with each task of a mapped job.

    Raises:
        AirflowFailException: only a run knows the tasks of a mapped job, or Airflow can't make one of them.
    """
    found: dict[str, Any] = {}
    unknown = []
    for task in dag.tasks:
        if not is_job(task):
            continue
        parts = _parts(task)
        if parts is None:
            unknown.append(repr(task.task_id))
        else:
            found |= parts
    if unknown:
        raise AirflowFailException(
            f"{dag.dag_id!r} can't do a dry run here: only a run of it knows what its mapped tasks "
            f"{', '.join(unknown)} work on. No row was counted. Write all values into `expand` of the "
            "task itself; or unpause the watcher, and trigger a dry run of its own"
        )
    return found


def _parts(task: Any) -> dict[str, Any] | None:
    if dag_files.is_in_mapped_group(task):
        return None
    if not dag_files.is_mapped(task):
        return {task.task_id: task}
    try:
        parts = dag_files.parts_of(task)
    except Exception as error:
        raise AirflowFailException(
            f"Airflow can't make each task of the mapped task {task.task_id!r}: {error}. Correct the DAG file"
        ) from error
    return None if parts is None else {f"{task.task_id}/{n}": part for n, part in enumerate(parts)}
