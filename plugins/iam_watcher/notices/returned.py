"""The run reports of a run, as a task or a callback of the same run can read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iam_watcher.job_tasks import is_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def reports_of(context: Any, tasks: Iterable[Any] = ()) -> dict[str, Mapping[str, Any]]:
    """Return what the jobs of a run returned, by task_id; of a mapped one, with its map index.

    Args:
        context: of a task of the run.
        tasks: default: all of the DAG.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for task in tasks or context["dag"].tasks:
        if not is_job(task):
            continue
        values = context["ti"].xcom_pull(task_ids=task.task_id)
        if not values:
            continue
        indexes = _map_indexes(context["ti"], task.task_id)
        if not indexes:
            found[task.task_id] = values
            continue
        # Airflow returns the values without their map indexes, and a single one without a list.
        values = [values] if isinstance(values, dict) else values
        if len(values) != len(indexes):
            values = [context["ti"].xcom_pull(task_ids=task.task_id, map_indexes=index) for index in indexes]
        found |= {
            f"{task.task_id}[{index}]": value for index, value in zip(indexes, values, strict=True) if value
        }
    return found


def _map_indexes(ti: Any, task_id: str) -> list[int]:
    """Return the map indexes of a task of the same run; none if it is not mapped."""
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id])
    # The name of an instance that is mapped is "task_id_index".
    return sorted(int(name[len(task_id) + 1 :]) for name in states.get(ti.run_id, {}) if name != task_id)
