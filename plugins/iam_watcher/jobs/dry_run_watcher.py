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
from iam_watcher.errors import RunConfError
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.sdk import DAG, Context

logger = get_logger(__name__)


class DryRunWatcherOperator(BaseOperator):
    """Does a dry run of the jobs of another watcher, and returns their run reports.

    The dry run acquires no lock, because it changes no row.

    :param watcher: DAG id of the other watcher. (templated)
    :param watcher_params: values for its params, as an object. The other params have their defaults.
        (templated)
    """

    template_fields: Sequence[str] = ("watcher", "watcher_params")

    def __init__(self, *, watcher: str, watcher_params: Mapping[str, Any] | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.watcher = watcher
        self.watcher_params = watcher_params

    def execute(self, context: Context) -> dict[str, Any]:
        """Return task -> run report.

        Raises:
            AirflowFailException: there is no such watcher, it has no job with a dry run, or a value does
                not fit a param.
        """
        dag_id = self.watcher.strip()
        # Not `self.watcher_params`: a template makes a text of it.
        given = context["params"].get("params") or {}
        dag = _read(context, dag_id)
        try:
            values = _values(dag, given)
        except (RunConfError, ValueError) as error:
            raise AirflowFailException(str(error)) from error
        reports = {}
        for job in _jobs(dag):
            logger.info("Dry run of the task %s of %s", job.task_id, dag_id)
            inner: Any = {**context, "dag": dag, "task": job, "params": values}
            job.render_template_fields(inner)
            job.is_dry_run = True
            reports[job.task_id] = job.execute(inner)
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


def _jobs(dag: DAG) -> Iterator[Any]:
    for task in dag.tasks:
        if "is_dry_run" in task.template_fields and isinstance(task, BaseOperator):
            yield task
