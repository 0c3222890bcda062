"""The watchers of the samples, as DAGs. They never run: the page shows what the database says of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param

from iam_watcher import Lock, Watcher
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.dry_run_watcher import DryRunWatcherOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.reenable_users import ReenableUsersOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

DRY_RUN = {"dry_run": Param(False, type="boolean", description="Count and list the rows, change nothing.")}


def sample_watchers() -> Iterator[DAG]:
    """Yield the watchers, each with another story."""
    yield _purge("clean_policy_audit", "policy_audit", "@every 1d", lock="clean")
    yield _purge("clean_sessions", "session", "0 3 * * *", lock="sessions")
    yield _purge(
        "clean_sessions_gently", "session", "CRON_TZ=Europe/Berlin 0 4 * * *", lock="sessions_gently"
    )
    yield _purge("clean_expired_secrets", "secret", "~ * * * *", lock="cleansecret")
    with Watcher(
        "disable_inactive_users",
        schedule="CRON_TZ=America/New_York 0 0 0 * * *",
        lock=Lock("task", wait=timedelta(minutes=5)),
        tags=["user"],
        params={
            "max_inactive_days": Param(90, type="integer", minimum=0, description="0: nobody."),
            "max_share": Param(
                0.5, type="number", exclusiveMinimum=0, maximum=1, description="Safety limit."
            ),
            **DRY_RUN,
        },
    ) as dag:
        DisableInactiveUsersOperator(
            task_id="disable",
            max_inactive_days="{{ params.max_inactive_days }}",
            max_share="{{ params.max_share }}",
            exempt_names=["svc-*"],
            dry_run="{{ params.dry_run }}",
        )
    yield dag
    with Watcher("collect_bounces", schedule="@after 5m", tags=["mail"]) as dag:
        EmptyOperator(task_id="collect")
    yield dag
    params = {"undo_record": Param("", type="string"), "names": Param([], type="array"), **DRY_RUN}
    with Watcher("reenable_users", schedule=None, lock="task", params=params) as dag:
        ReenableUsersOperator(
            task_id="enable",
            undo_record="{{ params.undo_record }}",
            names="{{ params.names }}",
            dry_run="{{ params.dry_run }}",
        )
    yield dag


def other_dags() -> Iterator[DAG]:
    """Yield the DAG that does dry runs, and one that is no watcher."""
    params = {"watcher": Param("", type="string"), "params": Param({}, type="object")}
    with Watcher("dry_run_watcher", schedule=None, lock=None, params=params) as dag:
        DryRunWatcherOperator(task_id="dry_run", watcher="{{ params.watcher }}")
    yield dag
    with DAG("plain", schedule=None) as plain:
        EmptyOperator(task_id="nothing")
    yield plain


def _purge(dag_id: str, table: str, schedule: str, **arguments: Any) -> DAG:
    with Watcher(dag_id, schedule=schedule, tags=[table], params=DRY_RUN, **arguments) as dag:
        PurgeRowsOperator(
            task_id="purge",
            table=table,
            age_column="deletedAt",
            older_than_days=180,
            dry_run="{{ params.dry_run }}",
        )
    return dag
