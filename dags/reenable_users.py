"""An Airflow DAG that re-enables users that a run of disable_inactive_users disabled.

Set `undo_record` to the folder that the run report names as `undo_record`. The job re-enables exactly the
users that the run disabled and that were not changed since then. It also restores the secrets that the run
expired. With `names` (one on each line), the job re-enables only these users of the undo record. Without an
undo record, it re-enables these users, whoever disabled them. Their inactivity counts from now.
"""

from airflow.sdk import Param

from iam_watcher import Watcher
from iam_watcher.jobs.reenable_users import ReenableUsersOperator

with Watcher(
    "reenable_users",
    schedule=None,
    lock="task",  # never at the same time as a run that disables users
    params={
        "undo_record": Param(
            "",
            type=["string", "null"],
            description="Folder of the undo record, as the run report of disable_inactive_users names it.",
        ),
        "names": Param(
            [],
            type=["array", "null"],
            items={"type": "string"},
            description="User names, one a line. With an undo record: only these users of it. Without one: "
            "these users, whoever disabled them.",
        ),
        "dry_run": Param(False, type="boolean", description="Count the users, but enable nobody."),
    },
):
    ReenableUsersOperator(
        task_id="enable",
        undo_record="{{ params.undo_record }}",
        names="{{ params.names }}",
        dry_run="{{ params.dry_run }}",
    )
