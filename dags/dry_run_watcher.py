"""An Airflow DAG that does a dry run of another watcher. If that watcher is paused, it stays paused.

The Watchers page triggers this DAG. Don't pause it: it has no schedule and changes no row. A person who may
trigger it can do a dry run of every watcher, and read the run report.
"""

from airflow.sdk import Param

from iam_watcher import Watcher
from iam_watcher.jobs.dry_run_watcher import DryRunWatcherOperator

with Watcher(
    "dry_run_watcher",
    schedule=None,
    lock=None,  # it only reads
    is_paused_upon_creation=False,
    params={
        "watcher": Param("", type="string", description="The dag id of the watcher."),
        "params": Param(
            {},
            type="object",
            description="Values for the params of that watcher; the others have their defaults.",
        ),
    },
):
    DryRunWatcherOperator(task_id="dry_run", watcher="{{ params.watcher }}")
