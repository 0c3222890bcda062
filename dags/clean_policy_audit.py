"""An Airflow DAG that purges audit rows whose policy was deleted over `max_reserve_days` days ago.

Rows with the zero date have no known age and stay. 0 days is off.
"""

from airflow.sdk import Param

from iam_watcher import Watcher, settings
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

with Watcher(
    "clean_policy_audit",
    schedule="@every 1d",
    lock="clean",  # the key of the Go iam-watcher: both can run side by side
    params={
        "max_reserve_days": Param(settings.clean.max_reserve_days, type="integer", minimum=0, maximum=36500),
        "dry_run": Param(False, type="boolean"),
    },
):
    PurgeRowsOperator(
        task_id="purge",
        table="policy_audit",
        age_column="deletedAt",
        older_than_days="{{ params.max_reserve_days }}",
        archive="configured",  # in [iam_watcher] archive, if that is set: restore_archive can undo the purge
        dry_run="{{ params.dry_run }}",
    )
