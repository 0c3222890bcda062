"""An Airflow DAG that restores the rows that a run of clean_policy_audit archived and deleted.

Set `path` to the folder that the run report names as `archive`. Existing rows stay as they are. Restored
rows have their old age. Before you restore rows, pause clean_policy_audit or raise its number of days.
Otherwise its next run deletes the rows again.
"""

from airflow.sdk import Param

from iam_watcher import Watcher
from iam_watcher.jobs.restore_rows import RestoreRowsOperator

# The only tables that an archive can be restored into. Secrets can't be restored: their key is not archived.
TABLES = ("policy_audit",)

with Watcher(
    "restore_archive",
    schedule=None,
    lock="clean",  # never at the same time as the purge of these rows
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
