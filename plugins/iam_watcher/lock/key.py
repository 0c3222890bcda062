"""The key of a lock in Redis: what may be one, and which one a run uses. Plain Python, no Airflow."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

MAX_KEY_LENGTH = 200


def check_key(key: str) -> str:
    """Return `key` if it can name a lock.

    Raises:
        ValueError: it can't; says what was expected.
    """
    if not 0 < len(key) <= MAX_KEY_LENGTH or not key.isprintable() or set(key) & set("{} "):
        raise ValueError(
            f"lock key {key!r}: expected 1 to {MAX_KEY_LENGTH} printable characters without spaces or braces"
        )
    return key


def key_of(name: str | None, dag_id: str, tick: datetime | None = None) -> str:
    """Return the key that a run uses.

    Args:
        name: the key that the DAG file gives; None: `iam-watcher:<dag_id>`.
        dag_id: of the Watcher.
        tick: the run's `run_after`, if runs of the Watcher may overlap: each run then has its own key.
    """
    key = name or f"iam-watcher:{dag_id}"
    return per_tick_key(key, tick) if tick else key


def per_tick_key(key: str, tick: datetime) -> str:
    """Return the key of one run of a Watcher whose runs may overlap."""
    return f"{key}:{tick.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
