"""What the tests of the Watchers page share: users with roles, and runs as a scheduler leaves them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "/iam-watcher"
OURS = {"X-Requested-With": "iam-watcher"}
NOW = datetime(2027, 3, 10, 8, 0, tzinfo=UTC)


class PerDagAuthManager(SimpleAuthManager):
    """SimpleAuthManager, with a user `only` who has rights on one DAG, and `blind` who reads no XComs."""

    visible = "page_only"

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
        allowed = super().is_authorized_dag(
            method=method, user=user, access_entity=access_entity, details=details
        )
        if user.username == "only":
            return allowed and (details is None or details.id in (None, self.visible))
        if user.username == "blind" and access_entity is not None and access_entity.name == "XCOM":
            return False
        return allowed

    def filter_authorized_dag_ids(self, *, dag_ids, user, method="GET", team_name=None):
        found = super().filter_authorized_dag_ids(
            dag_ids=dag_ids, user=user, method=method, team_name=team_name
        )
        return found & {self.visible} if user.username == "only" else found


def report(**facts: Any) -> dict[str, Any]:
    """Return a run report as a table job returns it."""
    return {
        "table": "user",
        "dry_run": False,
        "examined": 2920,
        "matched": 1240,
        "changed": 1240,
        "skipped": {"admin": 5},
        "error": None,
        **facts,
    }


def add_run(
    session: Any,
    dag_id: str,
    hours_ago: float,
    state: str = "success",
    *,
    acquire: str = "success",
    xcoms: Mapping[tuple[str, str], Any] | None = None,
    user: str | None = None,
    run_id: str | None = None,
) -> str:
    """Put a run into the past and return its id.

    Args:
        session: of Airflow's database.
        dag_id: of a watcher that is stored.
        hours_ago: before NOW.
        state: of the run.
        acquire: state of its first task.
        xcoms: (task, key) -> value; "task/1" is a part of a mapped task.
        user: who triggered it.
        run_id: its name, if not the one that Airflow gives.
    """
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.xcom import XComModel
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    tick = NOW - timedelta(hours=hours_ago)
    kind = DagRunType.MANUAL if user else DagRunType.SCHEDULED
    run = SerializedDagModel.get_dag(dag_id, session=session).create_dagrun(
        run_id=run_id or f"{kind}__{tick.isoformat()}",
        logical_date=tick,
        data_interval=(tick, tick),
        run_after=tick,
        run_type=kind,
        triggered_by=DagRunTriggeredByType.TEST,
        triggering_user_name=user,
        state=state,
        session=session,
    )
    run.start_date = tick
    run.end_date = None if state in ("running", "queued") else tick + timedelta(seconds=3)
    for ti in run.get_task_instances(session=session):
        ti.state = acquire if ti.task_id == "acquire" else state
    session.flush()
    for (name, key), value in (xcoms or {}).items():
        task_id, _, part = name.partition("/")
        facts = {"dag_run_id": run.id, "dag_id": dag_id, "run_id": run.run_id, "key": key, "value": value}
        session.add(XComModel(task_id=task_id, map_index=int(part or -1), **facts))
    session.commit()
    return run.run_id


def parse_file(session: Any, dag_id: str, error: str | None) -> None:
    """Store what Airflow's dag-processor found in the file of a watcher, as it stores that itself.

    Args:
        session: of Airflow's database.
        dag_id: of a watcher that is stored.
        error: why the file can't be loaded; None: it can.
    """
    from airflow.dag_processing.collection import _update_import_errors
    from airflow.models.dag import DagModel

    model = session.get(DagModel, dag_id, populate_existing=True)
    model.relative_fileloc = f"{dag_id}.py"  # all watchers of a test are in one file
    session.commit()
    file = (model.bundle_name, model.relative_fileloc)
    errors = {} if error is None else {file: error}
    _update_import_errors({file}, model.bundle_name, errors, session)
    session.commit()


def body(answer: Any) -> Any:
    """Return the JSON of a good answer."""
    assert answer.status_code == 200, answer.text
    return json.loads(answer.content)
