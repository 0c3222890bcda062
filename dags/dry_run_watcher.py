"""An Airflow DAG that does a dry run of another watcher, which may be paused: it stays paused.

The Watchers page starts it. Leave it switched on: it has no schedule and changes no row. Whoever may
trigger it can do a dry run of every watcher, and read its run report.
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
    DryRunWatcherOperator(
        task_id="dry_run",
        watcher="{{ params.watcher }}",
        watcher_params="{{ params.params }}",
    )
