"""An Airflow DAG that puts archived rows back into their table: the way back from a purge.

`path` is the folder that the report of the purge names as `archive`. Rows that are there stay as they
are. What comes back is as old as before: pause the purge or raise its days first, or it deletes them anew.
"""

from airflow.sdk import Param

from iam_watcher import Watcher
from iam_watcher.jobs.restore_rows import RestoreRowsOperator

# Nothing else is written into, whatever an archive says. Secrets can't come back: their key is left out.
TABLES = ("policy_audit",)

with Watcher(
    "restore_archive",
    schedule=None,
    lock="clean",  # never beside the purge of these rows
    params={
        "path": Param("", type="string", description="Folder below [iam_watcher] archive"),
        "dry_run": Param(False, type="boolean"),
    },
):
    RestoreRowsOperator(
        task_id="restore",
        path="{{ params.path }}",
        tables=TABLES,
        dry_run="{{ params.dry_run }}",
    )
