"""Watchers for Apache Airflow: a schedule, a job, and a Redis lock that lets only one run work at a time."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iam_watcher import settings as settings
    from iam_watcher.lock import Lock
    from iam_watcher.notices import Mail, Notify, Webhook
    from iam_watcher.watcher_dag import Watcher
    from iam_watcher.watcher_dag.decorator import watcher

__all__ = ["Lock", "Mail", "Notify", "Watcher", "Webhook", "__version__", "settings", "watcher"]

__version__ = "0.1.0"

_MODULES = {
    "Lock": "iam_watcher.lock",
    "Mail": "iam_watcher.notices",
    "Notify": "iam_watcher.notices",
    "Webhook": "iam_watcher.notices",
    "Watcher": "iam_watcher.watcher_dag",
    "watcher": "iam_watcher.watcher_dag.decorator",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use: workers load this package without needing most of it."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name == "settings":
        return import_module("iam_watcher.settings")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names too, imported or not."""
    return sorted({*globals(), *__all__})
