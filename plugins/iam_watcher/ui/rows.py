"""A watcher as a row of the list gets it: what it is, its last runs, its lock."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from iam_watcher.ui import data
from iam_watcher.ui.locks import lock_json
from iam_watcher.ui.reports import without_none
from iam_watcher.ui.runs import UNFINISHED, bars, seconds, shown_whole
from iam_watcher.watcher_dag import TAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from iam_watcher.lock.admin.snapshot import LockState
    from iam_watcher.lock.facts import LockFacts
    from iam_watcher.ui.facts import Facts
    from iam_watcher.ui.runs import Run


def watcher_json(row: Any, facts: Facts) -> dict[str, Any]:
    """Return what a watcher is."""
    return without_none(
        {
            "id": row.dag_id,
            "name": row.display_name,
            "paused": bool(row.is_paused) or None,
            "broken": bool(row.is_broken) or None,
            "words": row.timetable_description,
            "spec": row.timetable_summary,
            "next": seconds(row.next_dagrun_create_after),
            "tags": [tag for tag in facts.tags if tag != TAG] or None,
            "jobs": {job.task_id: job.kind for job in facts.jobs} or None,
            "drydefault": facts.dry_run or None,
            "ownlimit": [job.task_id for job in facts.jobs if job.has_own_limit] or None,
            "key": facts.lock.key if facts.lock else None,
        }
    )


def next_json(row: Any) -> list[Any]:
    """Return whether it is paused, when it runs next, and whether its file can be loaded."""
    return [
        row.dag_id,
        int(row.is_paused),
        seconds(row.next_dagrun_create_after),
        int(bool(row.is_broken)),
    ]


def runs_json(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the last runs whole, as far as the row needs them, and the others as bars."""
    whole = shown_whole(runs)
    rest = [run for run in runs if run not in whole]
    return {"runs": [run.as_json() for run in whole], "bars": bars(reversed(rest))}


def earlier_json(row: Any, runs: Iterable[Run], since: datetime) -> dict[str, Any]:
    """Return how many runs after `since` failed and were skipped that are older than the runs of the bars."""
    recent = [run.outcome for run in runs if run.run_after > since]
    earlier = {name: max(0, getattr(row, name) - recent.count(name)) for name in data.COUNTED}
    return {"earlier": earlier} if any(earlier.values()) else {}


def lock_of(facts: Facts, runs: Iterable[Run], locks: Mapping[str, LockState]) -> dict[str, Any]:
    """Return the lock of a watcher, if it is not free; of several, the first that is held."""
    if facts.lock is None:
        return {}
    found = (lock_json(locks[key]) for key in _keys(facts.lock, runs))
    return without_none({"lock": next((one for one in found if one), None)})


def wanted_locks(facts: Mapping[str, Facts], runs: Mapping[str, Iterable[Run]]) -> dict[str, Sequence[str]]:
    """Return key -> connections of the locks that matter now."""
    found: dict[str, Sequence[str]] = {}
    for dag_id, fact in facts.items():
        if fact.lock is not None:
            for key in _keys(fact.lock, runs.get(dag_id, ())):
                found[key] = fact.lock.redis_conn_ids
    return found


def _keys(lock: LockFacts, runs: Iterable[Run]) -> list[str]:
    if not lock.per_tick:
        return [lock.key]
    return [lock.key_at(run.run_after) for run in runs if run.state in UNFINISHED]


def digest(rows: Iterable[Any]) -> int:
    """Return a number that differs when a `next_json` does."""
    return zlib.crc32(json.dumps([next_json(row) for row in rows]).encode())
