"""Airflow DAGs of `make chaos`: a watcher of each other kind."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, Context, task

from dev.chaos.periods import AFTER, EVERY, cron
from iam_watcher import Lock, Watcher
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.process_rows import RowFailed, process_rows
from iam_watcher.jobs.rows_in_state import rows_in_state

LEASE = timedelta(seconds=15)
ROWS: dict[str, Any] = {
    "table": "chaos_rows",
    "state_column": "status",
    "claim": "pending",
    "working": "work",
    "claimed_at_column": "claimedAt",
    "claimed_by_column": "claimedBy",
    "attempts_column": "attempts",
    "retry_at_column": "retryAt",
    "error_column": "error",
    "claim_timeout": timedelta(seconds=10),
}


@task(task_id="work")
def short_work() -> None:
    """Write some steps."""
    from dev.chaos.steps import write_steps

    write_steps(4, 0.25)


SCHEDULES = {
    "chaos_cron": cron("chaos_cron"),
    "chaos_every": f"@every {EVERY}s",
    "chaos_after": f"@after {AFTER}s",
}
for name, schedule in SCHEDULES.items():
    with Watcher(name, schedule=schedule, lock=Lock(lease=LEASE)):
        short_work()

with Watcher("chaos_bash", schedule=cron("chaos_bash"), lock=Lock(lease=LEASE)):
    BashOperator(
        task_id="work",
        bash_command="set -e; hold={{ run_id }}/$RANDOM$RANDOM;"
        " step() { $CHAOS_STEP chaos_bash $hold '{{ dag_run.run_after }}' $1; };"
        " step begin; for i in 1 2 3 4; do sleep 0.5; step step; done; step end",
    )


class Wait(BaseOperator):
    """Waits in the triggerer between its first and its last step."""

    def execute(self, context: Context) -> None:  # noqa: ARG002
        """Defer for some seconds."""
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=8)), method_name="go_on")

    def go_on(self, context: Context, event: Any = None) -> None:  # noqa: ARG002
        """Write some steps."""
        from dev.chaos.steps import write_steps

        write_steps(2, 0.25)


with Watcher("chaos_deferred", schedule=cron("chaos_deferred"), lock=Lock(lease=LEASE)):
    Wait(task_id="work")

with Watcher("chaos_users", schedule=cron("chaos_users"), lock=Lock("task", lease=LEASE)):
    DisableInactiveUsersOperator(task_id="disable", max_inactive_days=30, exempt_names=["svc-*"], max_share=1)

for number in (1, 2):
    # Without a lock, two runs work at the same time: the claims keep them apart.
    with Watcher(f"chaos_rows_{number}", schedule=rows_in_state(**ROWS), lock=None):

        @process_rows(**ROWS, done="done", failed="failed")
        def work(row: Mapping[str, Any]) -> None:
            """Have an effect, slowly."""
            from dev.chaos.steps import write_effect

            write_effect(int(row["id"]))
            if row["fails"]:
                raise RowFailed("it always fails")

        work()
