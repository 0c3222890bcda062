"""What tests of whole runs look at."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import task

from iam_watcher import Lock

BRIEF = Lock("clean", wait=timedelta(0))


def states(run) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()} | {"run": str(run.state)}


def xcom(run, task_id: str, key: str = "return_value"):
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        row = session.scalars(
            XComModel.get_many(run_id=run.run_id, dag_ids=run.dag_id, task_ids=task_id, key=key)
        ).first()
        return None if row is None else XComModel.deserialize_value(row)


def extra_of(asset: str) -> dict:
    """Return the extra of the one event of an asset."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        event = select(AssetEvent).join(AssetModel, AssetEvent.asset_id == AssetModel.id)
        return session.scalars(event.where(AssetModel.name == asset)).one().extra


@task
def look(context_key: str = "seen") -> dict:
    """Return what Redis says of the lock while the work goes on."""
    from airflow.sdk import get_current_context

    from iam_watcher.lock import current

    current.safe_point()
    holder = current._renewer.lease.holder()
    return {"owner": holder.owner, "busy": list(holder.busy), "run_id": get_current_context()["run_id"]}
