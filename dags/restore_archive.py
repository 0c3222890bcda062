"""An Airflow DAG that restores archived rows: it undoes a run of clean_policy_audit.

That watcher archives the rows that it deletes if `[iam_watcher] archive` names a location. `path` is the
folder that its run report names as `archive`. Rows that exist stay as they are. Restored rows are as old
as before: pause the purge or raise its days first, or the next run deletes them again.
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
        "path": Param(
            "", type="string", description="Folder of the archive: `archive` in the run report of the purge."
        ),
        "dry_run": Param(False, type="boolean", description="Verify and count the rows, but restore none."),
    },
):
    RestoreRowsOperator(
        task_id="restore",
        path="{{ params.path }}",
        tables=TABLES,
        dry_run="{{ params.dry_run }}",
    )
