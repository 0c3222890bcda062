"""The watchers' locks, as Redis tells of them: one pipeline for each server, on clients that are kept."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowNotFoundException

from iam_watcher.errors import LockUnavailable
from iam_watcher.lock.admin.snapshot import LockState, snapshot
from iam_watcher.lock.clients import BRIEF_TIMEOUT, redis_client
from iam_watcher.ui.reports import without_none
from iam_watcher.ui.runs import seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis import Redis

    from iam_watcher.lock.admin.snapshot import Waiter
    from iam_watcher.lock.facts import LockFacts
    from iam_watcher.lock.progress import TaskProgress

KEPT = 60.0  # seconds that a client is kept: a connection that a person edits counts from then on
PAUSE = 10.0  # seconds that a server is left alone after it did not answer: each request waits for it


class Servers:
    """The Redis servers behind Airflow connections, each asked by one client that threads share."""

    def __init__(self) -> None:
        self._clients: dict[str, tuple[Redis, float]] = {}
        self._failed: dict[str, tuple[Exception, float]] = {}
        self._guard = threading.Lock()

    def client(self, conn_id: str) -> Redis:
        """Return the client for an Airflow connection.

        Raises:
            Exception: of a server that failed a moment ago, or of a connection that can't be used.
        """
        now = time.monotonic()
        with self._guard:
            error, until = self._failed.get(conn_id, (None, 0.0))
            if error is not None and now < until:
                raise error
            client, made = self._clients.get(conn_id, (None, 0.0))
        if client is None or now > made + KEPT:
            client = new_client(conn_id)
            with self._guard:
                self._clients[conn_id] = client, now
        return client

    def failed(self, conn_id: str, error: Exception) -> None:
        """Leave a server alone for a while."""
        with self._guard:
            if conn_id not in self._failed or self._failed[conn_id][0] is not error:
                self._failed[conn_id] = error, time.monotonic() + PAUSE
            self._clients.pop(conn_id, None)

    def look(self, locks: Mapping[str, Sequence[str]]) -> dict[str, LockState]:
        """Return key -> state of the locks, which are given as key -> connections."""
        return snapshot(locks, self.client, self.failed)


def all_servers(lock: LockFacts) -> list[Redis]:
    """Return new clients for all servers of a lock.

    Raises:
        LockUnavailable: one of the connections can't be used.
    """
    return [new_client(name) for name in lock.redis_conn_ids]


def new_client(conn_id: str) -> Redis:
    """Return a client for an Airflow connection.

    Raises:
        LockUnavailable: the connection can't be used. The message has no value of the connection: a value
            that is not valid may be a part of a password.
    """
    try:
        return redis_client(conn_id, answer_within=BRIEF_TIMEOUT)
    except LockUnavailable:  # a cluster that does not answer
        raise
    except AirflowNotFoundException:
        raise LockUnavailable(f"the Airflow connection {conn_id!r} is not defined; create it") from None
    except Exception as error:
        raise LockUnavailable(
            f"the Airflow connection {conn_id!r} can't be used ({type(error).__name__}). Run the doctor on "
            "the machine of the API server to see the reason"
        ) from error


def lock_json(state: LockState) -> dict[str, Any] | None:
    """Return a lock as JSON values; None if it is free and known to be."""
    holder = state.holder
    found = without_none(
        {
            "owner": holder and holder.owner[:600],
            "since": holder and seconds(holder.since),
            "left": holder and holder.remaining and round(holder.remaining, 1),
            "busy": [*holder.busy[:20]] if holder and holder.busy else None,
            "waiters": state.waiters or None,
            "tasks": [_task(task) for task in state.tasks[:20]] or None,
            "unknown": None if state.known else True,
            "errors": list(state.errors) or None,
        }
    )
    return found or None


def waiting_json(waiting: Iterable[Waiter]) -> list[dict[str, Any]]:
    """Return a lock's waiting queue as JSON values."""
    return [
        {"owner": waiter.owner[:600], "since": seconds(waiter.since), "until": seconds(waiter.until)}
        for waiter in waiting
    ]


def _task(task: TaskProgress) -> dict[str, Any]:
    return without_none(
        {
            "task": task.task,
            "examined": task.examined,
            "changed": task.changed,
            "rate": round(task.rows_per_second),
            "share": round(task.share, 4),
            "left": task.eta_seconds and round(task.eta_seconds),
            "age": _age(task.updated),
        }
    )


def _age(moment: str) -> int | None:
    try:
        return max(0, int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    except (TypeError, ValueError):
        return None
