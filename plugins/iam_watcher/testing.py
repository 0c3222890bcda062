"""For your tests of a Watcher: run it without Redis. See docs/testing.md."""

from __future__ import annotations

from iam_watcher.lock.trial_run import without_locks

__all__ = ["without_locks"]
