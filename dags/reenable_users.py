"""An Airflow DAG that enables users again whom a run of disable_inactive_users disabled.

`report` is the folder that the run's report names as `archive`: exactly those whom it disabled and who
were not changed since are enabled, and the secrets that it expired are restored. `names` (one a line)
picks some of them; without a report it enables these users, whoever disabled them. Their inactivity
counts from now.
"""

from airflow.sdk import Param

from iam_watcher import Watcher
from iam_watcher.jobs.reenable_users import ReenableUsersOperator

with Watcher(
    "reenable_users",
    schedule=None,
    lock="task",  # never beside a run that disables
    params={
        "report": Param(
            "",
            type=["string", "null"],
            description="Folder of the undo record: `archive` in the run report of disable_inactive_users.",
        ),
        "names": Param(
            [],
            type=["array", "null"],
            items={"type": "string"},
            description="User names, one a line. With a report: only these users of it. Without one: these "
            "users, whoever disabled them.",
        ),
        "dry_run": Param(False, type="boolean", description="Count the users, but enable nobody."),
    },
):
    ReenableUsersOperator(
        task_id="enable",
        report="{{ params.report }}",
        names="{{ params.names }}",
        dry_run="{{ params.dry_run }}",
    )
