"""Names of the Airflow Variables in which a task stores data for its next run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import Context


def task_variable(name: str, context: Context) -> str:
    """Return the name of a task's Variable. Each mapped task has its own name."""
    ti = context["ti"]
    mapped = "" if ti.map_index is None or ti.map_index < 0 else f":{ti.map_index}"
    return name.format(dag_id=ti.dag_id, task_id=ti.task_id) + mapped
