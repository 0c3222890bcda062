"""An Airflow DAG that deletes secrets which expired more than `grace_days` days ago.

It publishes a message to IAM's servers. A secret whose `expires` is 0 never expires. Deleted secrets are not
archived, so they can't be restored.
"""

from airflow.sdk import Asset, Param

from iam_watcher import Watcher, settings
from iam_watcher.jobs.announce import SECRET_CHANGED
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

with Watcher(
    "clean_expired_secrets",
    schedule="@every 1d",
    lock="cleansecret",
    params={
        "grace_days": Param(
            0,
            type="integer",
            minimum=0,
            maximum=36500,
            description="Delete secrets that expired over this many days ago. 0: as soon as they expire.",
        ),
        "dry_run": Param(
            settings.cleansecret.dry_run,
            type="boolean",
            description="Count and list the secrets, but delete none. The settings file says what scheduled "
            "runs do (watcher.cleansecret.dry-run).",
        ),
    },
):
    PurgeRowsOperator(
        task_id="purge",
        outlets=[Asset("iam.secret")],
        table="secret",
        age_column="expires",
        age_unit="unix_seconds",
        grace_days="{{ params.grace_days }}",
        announce=SECRET_CHANGED,
        dry_run="{{ params.dry_run }}",
    )
