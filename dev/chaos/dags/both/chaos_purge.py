"""An Airflow DAG of `make chaos`, in both deployments: deletes old rows."""

from datetime import timedelta

from dev.chaos.periods import cron
from iam_watcher import Lock, Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

with Watcher(
    "chaos_purge", schedule=cron("chaos_purge"), lock=Lock("chaos_purge", lease=timedelta(seconds=15))
):
    PurgeRowsOperator(
        task_id="purge", table="chaos_purge", age_column="createdAt", older_than_days=30, archive="configured"
    )
