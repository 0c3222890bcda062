"""An Airflow DAG that purges old audit rows and takes minutes for it, so that one can watch it.

`make run ROWS=1000000` has it, and so many more audit rows.
"""

from airflow.sdk import Param

from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.throttle import Pace

with Watcher(
    "clean_slowly",
    schedule="@every 1d",
    lock="clean",
    params={"dry_run": Param(False, type="boolean", description="Count the rows, but delete none.")},
):
    PurgeRowsOperator(
        task_id="purge",
        table="policy_audit",
        age_column="deletedAt",
        older_than_days=180,
        pace=Pace(target=0.05, duty=0.05),
        dry_run="{{ params.dry_run }}",
    )
