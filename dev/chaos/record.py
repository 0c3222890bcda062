"""What happened during the chaos, as the servers tell it after the end: the facts that are judged.

Triggers of MariaDB logged each change of a row, in the transaction of the change, and MariaDB kept the order
of the commits. Airflow's databases have the runs. The schedulers' logs say why a scheduled time has no run.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dev.chaos.place import QUEUE
from dev.cluster.cluster import SCHEDULERS

if TYPE_CHECKING:
    from pathlib import Path

    from dev.chaos.place import Place

_RUNS = (
    "SELECT run.dag_id, run.run_id, run.run_type, run.state, EXTRACT(EPOCH FROM run.run_after) AS tick,"
    " EXTRACT(EPOCH FROM run.queued_at) AS queued, EXTRACT(EPOCH FROM run.end_date) AS ended,"
    " (SELECT state FROM task_instance AS task WHERE task.dag_id = run.dag_id AND task.run_id = run.run_id"
    " AND task.task_id IN ('work', 'purge', 'disable')) AS work FROM dag_run AS run"
)
_OTHERS = (
    "SELECT run.dag_id, run.run_after FROM dag_run AS run JOIN task_instance AS task"
    " ON task.dag_id = run.dag_id AND task.run_id = run.run_id"
    " WHERE task.task_id IN ('work', 'purge') AND task.state = 'success' AND run.run_type = 'scheduled'"
)
_UNFINISHED = (
    "SELECT dag_id, task_id, state FROM task_instance"
    " WHERE state IN ('scheduled', 'queued', 'running', 'deferred', 'up_for_retry', 'restarting')"
)
# Each try of a task has an id of its own. A retry moves the try before it to the history.
_ENDED = "('success', 'failed', 'skipped', 'upstream_failed')"
_OVER = (
    f"SELECT id FROM task_instance WHERE state IN {_ENDED}"
    f" UNION SELECT task_instance_id AS id FROM task_instance_history WHERE state IN {_ENDED}"
)
_STEPS = (
    "SELECT watcher, deployment, worker, tick, hold, what, UNIX_TIMESTAMP(at) + 0e0"
    " FROM chaos_step ORDER BY id"
)
_CHANGES = (
    "SELECT log.kind, log.row_id, log.good, log.session, UNIX_TIMESTAMP(log.at) FROM chaos_log AS log"
    " JOIN mysql.transaction_registry AS commits ON commits.transaction_id = log.began"
    " ORDER BY commits.commit_id, log.id"
)
# What a scheduler logs about a scheduled time that gets no run (iam_watcher.timetables).
_DROPPED = re.compile(r"the run of '(\w+)' at ([\dT:.+-]+): (.+?); the next is at")


LOCKS = (
    *(f"iam-watcher:chaos_{kind}" for kind in ("cron", "every", "after", "bash", "deferred")),
    "chaos_purge",
    "task",
)


@dataclass(frozen=True)
class Run:
    """A run of deployment `a`; times are seconds since 1970.

    Args:
        dag_id: Of its watcher.
        tick: Its scheduled time.
        queued: When it was created.
        ended: When it ended; None if it did not.
        state: Of the run.
        work: The state of the task that works, or None.
        scheduled: Whether a schedule made it.
    """

    dag_id: str
    tick: float
    queued: float
    ended: float | None
    state: str
    work: str | None
    scheduled: bool = True


@dataclass(frozen=True)
class Step:
    """A step of a job that changes no row."""

    watcher: str
    deployment: str
    worker: str
    tick: str
    hold: str
    what: str
    at: float


@dataclass(frozen=True)
class Change:
    """A change of a row, in the order of the commits."""

    kind: str
    row_id: int
    good: bool
    session: int
    at: float


@dataclass
class Record:
    """All facts. `pending` and the like are those at the end."""

    runs: list[Run] = field(default_factory=list)
    dropped: dict[tuple[str, float], str] = field(default_factory=dict)
    done_by_other: set[tuple[str, float]] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    effects: Counter[int] = field(default_factory=Counter)
    rows: dict[int, str] = field(default_factory=dict)
    purge_rows: dict[int, bool] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    queue: list[str] = field(default_factory=list)
    locks: list[str] = field(default_factory=list)


def read(place: Place) -> Record:
    """Return the facts of a chaos that is over."""
    record = Record()
    for row in place.airflow_rows(_RUNS):
        record.runs.append(
            Run(
                row["dag_id"],
                float(row["tick"]),
                float(row["queued"] or row["tick"]),
                None if row["ended"] is None else float(row["ended"]),
                row["state"],
                row["work"],
                row["run_type"] == "scheduled",
            )
        )
    for name in SCHEDULERS:
        record.dropped |= dropped(place.cluster.home / f"{name}.log")
    with closing(sqlite3.connect(place.other.home / "airflow.db")) as connection:
        record.done_by_other = {(dag_id, _seconds(after)) for dag_id, after in connection.execute(_OTHERS)}
    record.steps = [Step(*row) for row in place.rows(_STEPS)]
    record.changes = [
        Change(kind, int(row_id), bool(good), int(session), float(at))
        for kind, row_id, good, session, at in place.rows(_CHANGES)
    ]
    record.effects = Counter(int(row_id) for (row_id,) in place.rows("SELECT row_id FROM chaos_effect"))
    record.rows = {int(row): state for row, state in place.rows("SELECT id, status FROM chaos_rows")}
    old = "createdAt < NOW() - INTERVAL 30 DAY"
    record.purge_rows = {
        int(row): bool(is_old) for row, is_old in place.rows(f"SELECT id, {old} FROM chaos_purge")
    }
    record.unfinished = [
        f"{row['dag_id']}.{row['task_id']} {row['state']}" for row in place.airflow_rows(_UNFINISHED)
    ]
    record.queue = left_in_queue(place)
    with place.redis.client() as client:
        record.locks = [f"the lock {key} is held" for key in LOCKS if client.exists(key)]
    return record


def left_in_queue(place: Place) -> list[str]:
    """Return the messages of tries of tasks that are not over yet.

    The message of a try that a worker had when it was killed stays unacknowledged until the visibility
    time-out. If Redis then gives it to a worker, Airflow refuses to start this try again.
    """
    over = {row["id"] for row in place.airflow_rows(_OVER)}
    with place.redis.client(db=QUEUE, decode_responses=True) as client:
        messages: list[str] = [*client.lrange("default", 0, -1), *client.hvals("unacked")]
    tasks = [_task_of(json.loads(message)) for message in messages]
    return [f"a message of {name}" for identity, name in tasks if identity not in over]


def _task_of(message: Any) -> tuple[str, str]:
    """Return the id and the name of a task instance, from a message of the queue."""
    envelope = message[0] if isinstance(message, list) else message  # with what else `unacked` has
    (workload, *_), *_ = json.loads(base64.b64decode(envelope["body"]))
    task = json.loads(workload)["ti"]
    return task["id"], f"{task['dag_id']}.{task['task_id']}"


def dropped(log: Path) -> dict[tuple[str, float], str]:
    """Return the scheduled times that a scheduler gave no run, and the reasons, as its log has them."""
    text = log.read_text(errors="replace")
    return {
        (dag_id, _seconds(tick)): reason.partition(",")[0] for dag_id, tick, reason in _DROPPED.findall(text)
    }


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
