"""An Airflow DAG that enables users again whom a run of disable_inactive_users disabled.

`undo_record` is the folder that the run report names as `undo_record`: the job enables exactly the users whom
the run disabled and who were not changed since, and restores the secrets that the run expired. `names` (one a
line) picks some of them; without an undo record, the job enables these users, whoever disabled them. Their
inactivity counts from now.
"""

from airflow.sdk import Param

from iam_watcher import Watcher
from iam_watcher.jobs.reenable_users import ReenableUsersOperator

with Watcher(
    "reenable_users",
    schedule=None,
    lock="task",  # never beside a run that disables
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
