"""Marks in Redis: a machine that doesn't see the mark of another one uses another Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.lock.admin.server_state import clock_ahead, examined, servers

if TYPE_CHECKING:
    from datetime import timedelta

KEY = "iam-watcher:doctor:{mark}"


def leave_mark(conn_id: str, mark: str, *, kept: timedelta) -> timedelta:
    """Store a mark behind an Airflow connection.

    Args:
        conn_id: the connection.
        mark: a text that no other machine uses.
        kept: after this time, the mark expires.

    Returns:
        By how much the server's clock is ahead of this machine's.

    Raises:
        LockError: the connection is missing or not valid, or a server refuses or does not answer.
    """
    key = KEY.format(mark=mark)
    with examined(conn_id, asked=key) as client:
        client.set(key, "", px=kept)
        return clock_ahead(servers(client)[0])


def has_mark(conn_id: str, mark: str) -> bool:
    """Return whether the Redis behind an Airflow connection has a mark.

    Raises:
        LockError: see `leave_mark`.
    """
    key = KEY.format(mark=mark)
    with examined(conn_id, asked=key) as client:
        return client.get(key) is not None
