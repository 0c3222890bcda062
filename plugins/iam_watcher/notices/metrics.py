"""Metrics of the Watchers, by Airflow's own statistics (StatsD or OpenTelemetry, as `[metrics]` says)."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = get_logger(__name__)

RUNS = "iam_watcher.runs"
LOCK_WAIT = "iam_watcher.lock.wait"
LOCK_HELD = "iam_watcher.lock.held"
LOCK_LOST = "iam_watcher.lock.lost"
FAILED_RENEWALS = "iam_watcher.lock.failed_renewals"
LAST_SUCCESS = "iam_watcher.last_success"
ROWS_EXAMINED = "iam_watcher.rows.examined"
ROWS_CHANGED = "iam_watcher.rows.changed"
ROWS_SKIPPED = "iam_watcher.rows.skipped"
LONGEST_CHUNK = "iam_watcher.chunk.longest"
ARCHIVE_BYTES = "iam_watcher.archive.bytes"
OLDEST_PENDING = "iam_watcher.rows.oldest_pending"
# Outcomes of runs that had their lock; the last one: each task was skipped.
SUCCESS, FAILED, NOTHING_DONE = "success", "failed", "nothing_done"

TAGS = {
    RUNS: ("counter", ("watcher", "outcome")),
    LOCK_WAIT: ("timer", ("watcher",)),
    LOCK_HELD: ("timer", ("watcher",)),
    LOCK_LOST: ("counter", ("watcher",)),
    FAILED_RENEWALS: ("counter", ("watcher", "task")),
    LAST_SUCCESS: ("gauge", ("watcher",)),
    ROWS_EXAMINED: ("counter", ("watcher", "task")),
    ROWS_CHANGED: ("counter", ("watcher", "task")),
    ROWS_SKIPPED: ("counter", ("watcher", "task", "reason")),
    LONGEST_CHUNK: ("timer", ("watcher", "task")),
    ARCHIVE_BYTES: ("counter", ("watcher", "task")),
    OLDEST_PENDING: ("gauge", ("watcher", "task")),
}
"""Each metric: its kind and its tags. docs/notices.md has the same table."""


def acquired(ti: Any) -> None:
    """Emit how long a run waited for its lock."""
    if ti.start_date is not None:
        _emit("timing", LOCK_WAIT, datetime.now(UTC) - ti.start_date, watcher=ti.dag_id)


def released(ti: Any, since: str | None, outcome: str) -> None:
    """Emit how a run ended, and how long it held its lock, from `since` (ISO 8601) on."""
    _emit("incr", RUNS, 1, watcher=ti.dag_id, outcome=outcome)
    if outcome == SUCCESS:
        _emit("gauge", LAST_SUCCESS, int(time.time()), watcher=ti.dag_id)
    if since:
        _emit("timing", LOCK_HELD, datetime.now(UTC) - datetime.fromisoformat(since), watcher=ti.dag_id)


def failed(ti: Any) -> None:
    """Emit that a run failed at its lock: its `acquire` or its `release` failed."""
    _emit("incr", RUNS, 1, watcher=ti.dag_id, outcome=FAILED)


def skipped(ti: Any, *, done: bool) -> None:
    """Emit that a run was skipped: another did its scheduled time (`done`), or held the lock."""
    _emit("incr", RUNS, 1, watcher=ti.dag_id, outcome="done_by_another" if done else "lock_busy")


def lost(ti: Any) -> None:
    """Emit that a run lost its lock."""
    _emit("incr", LOCK_LOST, 1, watcher=ti.dag_id)


def renewed(ti: Any, failed: int) -> None:
    """Emit how many renewals of a task's lease failed, if any did."""
    if failed:
        _emit("incr", FAILED_RENEWALS, failed, watcher=ti.dag_id, task=ti.task_id)


def worked(ti: Any, report: Mapping[str, Any]) -> None:
    """Emit the counts of the run report of a job that has ended or failed, but for a dry run."""
    if report.get("dry_run"):
        return
    tags = {"watcher": ti.dag_id, "task": ti.task_id}
    for metric, names in ((ROWS_EXAMINED, ("examined", "claimed")), (ROWS_CHANGED, ("changed", "done"))):
        for name in set(names).intersection(report):
            _emit("incr", metric, report[name], **tags)
    for reason, rows in (report.get("skipped") or {}).items():
        _emit("incr", ROWS_SKIPPED, rows, **tags, reason=reason)
    if longest := report.get("longest_chunk_seconds"):
        _emit("timing", LONGEST_CHUNK, timedelta(seconds=longest), **tags)
    if archived := report.get("archive_bytes"):
        _emit("incr", ARCHIVE_BYTES, archived, **tags)
    pending = report.get("oldest_pending_seconds_after")
    if pending is None and report.get("remaining") == 0:
        pending = 0
    if pending is not None:
        _emit("gauge", OLDEST_PENDING, pending, **tags)


def _emit(kind: str, name: str, value: Any, **tags: str) -> None:
    from airflow.sdk.observability import stats

    send: Callable[..., None] = getattr(stats, kind)
    try:
        send(name, value, tags=tags)
    except Exception as error:  # noqa: BLE001  a run's result is not the metric's business
        logger.warning("the metric %s was not sent: %s: %s", name, type(error).__name__, error)
