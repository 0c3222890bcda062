"""An Airflow DAG that deletes audit rows of policies that were deleted more than `max_reserve_days` days ago.

Rows with a zero date have no age, and stay. 0 days turns the job off. If `[iam_watcher] archive` is set,
the job archives the rows there before it deletes them, and `restore_archive` can restore them.
"""

from airflow.sdk import Asset, Param

from iam_watcher import Watcher, settings
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

with Watcher(
    "clean_policy_audit",
    schedule="@every 1d",
    lock="clean",  # the key of the Go iam-watcher: the two never work at the same time
    params={
        "max_reserve_days": Param(
            settings.clean.max_reserve_days,
            type="integer",
            minimum=0,
            maximum=36500,
            description="Delete audit rows whose policy was deleted more than this many days ago. 0: none.",
        ),
        "dry_run": Param(
            settings.clean.dry_run,
            type="boolean",
            description="Count and list the rows, but delete none. The settings file says what scheduled "
            "runs do (watcher.clean.dry-run).",
        ),
    },
):
    PurgeRowsOperator(
        task_id="purge",
        outlets=[Asset("iam.policy_audit")],
        table="policy_audit",
        age_column="deletedAt",
        older_than_days="{{ params.max_reserve_days }}",
        archive="configured",
        dry_run="{{ params.dry_run }}",
    )
