"""How long a Watcher has not worked, because each of its runs was skipped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from iam_watcher.lock import ACQUIRE_TASK_ID

_KEY = "skipped_since"  # XCom of `acquire`: since when no run of this Watcher has worked


def skipped_since(context: Any) -> datetime:
    """Return since when no run has worked, for the task `acquire` of a run that is skipped, and store it.

    It is when the last run that got the lock began, or else when the first run was skipped. If another
    deployment did this scheduled time, the Watcher has worked now.
    """
    ti, now = context["ti"], datetime.now(UTC)
    since = now
    if not _done_by_another(ti):
        earlier = ti.xcom_pull(task_ids=ACQUIRE_TASK_ID, key=_KEY, map_indexes=-1, include_prior_dates=True)
        last = ti.get_previous_ti(state="success")
        moments = [datetime.fromisoformat(earlier)] if earlier else []
        if last is not None and last.start_date is not None:
            moments.append(last.start_date)
        since = max(moments, default=now)
    ti.xcom_push(key=_KEY, value=since.isoformat())
    return since


def _done_by_another(ti: Any) -> bool:
    holder = ti.xcom_pull(task_ids=ACQUIRE_TASK_ID, key="holder")
    return bool(holder and holder.get("done"))
