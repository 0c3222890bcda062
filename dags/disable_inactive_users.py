"""An Airflow DAG that disables users who have not logged in for `max_inactive_days` days.

Administrators (`isAdmin`) and users with exempt names are never disabled. 0 days turns the job off.
"""

from airflow.sdk import Asset, Param

from iam_watcher import Watcher, settings
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator

EXEMPT = ("svc-*",)

with Watcher(
    "disable_inactive_users",
    schedule="@every 1d",
    lock="task",  # the key of the Go iam-watcher: the two never work at the same time
    doc_md=f"{__doc__}\nExempt names: {', '.join(f'`{name}`' for name in EXEMPT) or 'none'}",
    params={
        "max_inactive_days": Param(
            settings.task.max_inactive_days,
            type="integer",
            minimum=0,
            maximum=36500,
            description="Disable users whose last login is more than this many days ago. 0: nobody.",
        ),
        "max_share": Param(
            0.5,
            type="number",
            exclusiveMinimum=0,
            maximum=1,
            description="Safety limit: if a larger share of the active, non-exempt users would be disabled, "
            "the run disables nobody and fails.",
        ),
        "dry_run": Param(
            settings.task.dry_run,
            type="boolean",
            description="Count and list the users, but disable nobody. The settings file says what "
            "scheduled runs do (watcher.task.dry-run).",
        ),
    },
):
    DisableInactiveUsersOperator(
        task_id="disable",
        outlets=[Asset("iam.user")],
        max_inactive_days="{{ params.max_inactive_days }}",
        exempt_names=EXEMPT,
        max_share="{{ params.max_share }}",
        dry_run="{{ params.dry_run }}",
    )
