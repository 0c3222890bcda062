"""Watchers for Apache Airflow: a schedule, a job, and a Redis lock that lets only one run work at a time."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iam_watcher import settings as settings
    from iam_watcher.lock import Lock
    from iam_watcher.watcher import Watcher, watcher

__all__ = ["Lock", "Watcher", "settings", "watcher"]

_HOME = {"Lock": "iam_watcher.lock", "Watcher": "iam_watcher.watcher"}


def __getattr__(name: str) -> object:
    """Import a public name on first use: workers load this package without needing most of it."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
