"""Runs a Watcher without Redis, in your own tests. See docs/testing.md."""

from __future__ import annotations

from iam_watcher.lock.trial_run import without_locks

__all__ = ["without_locks"]
