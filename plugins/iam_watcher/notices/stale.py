"""How long a Watcher has not worked, because each of its runs was skipped.

The moment is in an Airflow Variable. Airflow finds earlier runs by their logical dates, which runs of assets
don't have.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.sdk import Variable

from iam_watcher.lock import ACQUIRE_TASK_ID
from iam_watcher.task_variable import task_variable

if TYPE_CHECKING:
    from airflow.sdk import Context

VARIABLE = "iam_watcher:worked:{dag_id}:{task_id}"


def note_work(context: Context) -> datetime:
    """Store that a run of this Watcher works now, for the task `acquire`; return the time."""
    now = datetime.now(UTC)
    Variable.set(task_variable(VARIABLE, context), now.isoformat())
    return now


def skipped_since(context: Context) -> datetime:
    """Return since when no run has worked, for the task `acquire` of a run that is skipped.

    It is when the last run got the lock, or else when the first run was skipped. If another deployment did
    this scheduled time, the Watcher has worked now.
    """
    holder = context["ti"].xcom_pull(task_ids=ACQUIRE_TASK_ID, key="holder")
    done_by_another = bool(holder and holder.get("done"))
    stored = None if done_by_another else Variable.get(task_variable(VARIABLE, context), default=None)
    return note_work(context) if stored is None else datetime.fromisoformat(stored)
