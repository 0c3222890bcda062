"""Many watchers with thirty runs each, for measurements: copies of one sample."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def write_copies(session: Session, copies: int) -> None:
    """Copy clean_sessions and its runs, by plain statements: a scheduler would take hours for so many."""
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagrun import DagRun
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import insert, select

    source = "clean_sessions"
    rows = {
        model: [
            row._asdict()
            for row in session.execute(
                select(*model.__table__.columns).where(model.__table__.c.dag_id == source)
            )
        ]
        for model in (DagModel, DagTag, DagVersion, SerializedDagModel, DagRun, TaskInstance, XComModel)
    }
    largest = max(session.scalars(select(DagRun.id)))
    for number in range(copies):
        dag_id = f"watcher_{number:04}"
        ids: dict[Any, Any] = {row["id"]: uuid.uuid4() for row in rows[DagVersion]}
        for row in rows[DagRun]:
            largest += 1
            ids[row["id"]] = largest
        for model, originals in rows.items():
            copied = []
            for original in originals:
                row = {**original, "dag_id": dag_id}
                for name in ("id", "dag_version_id", "created_dag_version_id", "dag_run_id"):
                    if name in row:
                        row[name] = ids.get(row[name]) or (uuid.uuid4() if name == "id" else row[name])
                if model is SerializedDagModel:
                    row["data"] = {**row["data"], "dag": _renamed(row["data"]["dag"], dag_id)}
                copied.append(row)
            session.execute(insert(model.__table__), copied)
    session.commit()


def _renamed(dag: dict[str, Any], dag_id: str) -> dict[str, Any]:
    tasks = []
    for task in dag["tasks"]:
        values = task["__var"]
        if values["task_id"] == "acquire":
            values = {**values, "lock_facts": {**values["lock_facts"], "key": dag_id}}
        tasks.append({**task, "__var": values})
    return {**dag, "dag_id": dag_id, "tasks": tasks}
