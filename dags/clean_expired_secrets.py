"""An Airflow DAG that purges secrets which expired over `grace_days` days ago, and tells IAM's servers.

A secret whose `expires` is 0 never expires.
"""

from airflow.sdk import Param

from iam_watcher import Watcher
from iam_watcher.jobs.announce import SECRET_CHANGED
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

with Watcher(
    "clean_expired_secrets",
    schedule="@every 1d",
    lock="cleansecret",
    params={
        "grace_days": Param(0, type="integer", minimum=0, maximum=36500),
        "dry_run": Param(False, type="boolean"),
    },
):
    PurgeRowsOperator(
        task_id="purge",
        table="secret",
        age_column="expires",
        age_unit="unix_seconds",
        grace_days="{{ params.grace_days }}",
        announce=SECRET_CHANGED,
        dry_run="{{ params.dry_run }}",
    )
