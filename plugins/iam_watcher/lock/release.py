"""ReleaseLockOperator: the last task of a Watcher, its teardown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from iam_watcher.airflow_internals import dag_files
from iam_watcher.airflow_internals.tasks import is_tasks_test
from iam_watcher.job_tasks import is_job
from iam_watcher.lock import ACQUIRE_TASK_ID, RELEASE_TASK_ID
from iam_watcher.log_lines import WAITING_EVERY, get_logger
from iam_watcher.run_conf import DRY_RUN

if TYPE_CHECKING:
    from airflow.sdk import Context

logger = get_logger(__name__)

PATIENCE = 60.0  # seconds; a task that is marked failed is gone after about 11
POLL = 0.25  # seconds


class ReleaseLockOperator(BaseOperator):
    """Releases the lock of this run when no task of the run works any more.

    Key and owner come from the XCom of `acquire`. If another run has acquired the lock in the meantime, that
    run keeps the lock.
    """

    ui_color = "#e6d8f2"

    def execute(self, context: Context) -> None:
        """Release the lock.

        Raises:
            AirflowSkipException: there is nothing to release.
            AirflowException: a task still works under the lock after PATIENCE; the lock stays.
            LockUnavailable: Redis does not answer; the lock ends with its lease.
        """
        from iam_watcher.lock import current, trial_run
        from iam_watcher.lock.grant import Grant

        current.stop()  # In `dags test` the work ran in this process.
        if trial_run.locks_are_off() or is_tasks_test():
            raise AirflowSkipException("this test holds no lock: nothing to release")
        grant = Grant.pull(context)
        if grant is None:
            raise AirflowSkipException("this run was not granted its lock: nothing to release")
        lease = grant.lease()
        done = grant.tick and _all_went_well(context) and not _was_dry_run(context)
        done_for = grant.tick_kept if done else 0.0
        deadline = time.monotonic() + PATIENCE
        log_at = 0.0
        while not lease.release(tick_done_for=done_for):
            holder = lease.holder()
            if holder is None or holder.owner != grant.owner:
                logger.warning(
                    "this run did not own the lock any more: key=%s owner=%s holder=%s",
                    grant.key,
                    grant.owner,
                    holder,
                )
                return
            now = time.monotonic()
            if now > deadline:
                raise AirflowException(
                    f"a task still works after {PATIENCE:g} s, so the lock is not released: {holder}"
                )
            if now >= log_at:
                log_at = now + WAITING_EVERY
                logger.info(
                    "waiting for tasks that still work: key=%s tasks=%s for=%.0fs",
                    grant.key,
                    ",".join(holder.busy),
                    deadline - now,
                )
            time.sleep(POLL)
        logger.info("lock released: key=%s owner=%s", grant.key, grant.owner)


def states_of_work(ti: Any) -> dict[str, str]:
    """Return the states of the tasks of a run, without those of the lock, by task id."""
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
    ours = (ACQUIRE_TASK_ID, RELEASE_TASK_ID)
    return {name: str(state) for name, state in states.items() if name not in ours}


def _all_went_well(context: Context) -> bool:
    """Return whether the tick is done: at least one task succeeded, and none failed."""
    work = set(states_of_work(context["ti"]).values())
    return "success" in work and work <= {"success", "skipped", "removed"}


def _was_dry_run(context: Context) -> bool:
    """Return whether a job has said so in its XCom DRY_RUN: another deployment must still do the work.

    `tick.tick_of` can't know it: the value of a template, or of a mapped task, is known to the job alone.
    """
    jobs = [task.task_id for task in context["dag"].tasks if _may_be_dry_run(task)]
    return bool(jobs) and True in context["ti"].xcom_pull(task_ids=jobs, key=DRY_RUN)


def _may_be_dry_run(task: Any) -> bool:
    """Return whether a task is a job that the DAG file does not simply give `dry_run=False`."""
    if not is_job(task):
        return False
    mapped = dag_files.is_mapped(task)
    given = dag_files.values_in_file(task, DRY_RUN, default=False) if mapped else [task.is_dry_run]
    return not given or any(str(value).strip().lower() != "false" for value in given)
