"""An Airflow DAG that disables users who have not logged in for `max_inactive_days` days.

Admins and the names in `EXEMPT` stay as they are. 0 days is off.
"""

from airflow.sdk import Param

from iam_watcher import Watcher, settings
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator

EXEMPT = ("svc-*",)

with Watcher(
    "disable_inactive_users",
    schedule="@every 1d",
    lock="task",  # the key of the Go iam-watcher: both can run side by side
    params={
        "max_inactive_days": Param(settings.task.max_inactive_days, type="integer", minimum=0, maximum=36500),
        "max_share": Param(0.5, type="number", exclusiveMinimum=0, maximum=1),
        "dry_run": Param(False, type="boolean"),
    },
):
    DisableInactiveUsersOperator(
        task_id="disable",
        max_inactive_days="{{ params.max_inactive_days }}",
        exempt_names=EXEMPT,
        max_share="{{ params.max_share }}",
        dry_run="{{ params.dry_run }}",
    )
