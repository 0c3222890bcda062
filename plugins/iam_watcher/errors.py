"""Every error that iam-watcher raises on purpose, in one tree.

The first line of a class's docstring is the headline of its message; the facts follow. So a raise
names the value that was given, what was expected and what to do, and the class says what went wrong.
Plain Python: the operators decide which of them end a task without a retry.
"""

from __future__ import annotations


class IamWatcherError(Exception):
    """iam-watcher failed."""

    def __init__(self, facts: str = "") -> None:
        self.facts = facts
        headline = (type(self).__doc__ or "").splitlines()[0].rstrip(".")
        super().__init__(f"{headline}: {facts}" if facts else headline)


class SettingsError(IamWatcherError):
    """The settings are not valid."""


class WatcherError(IamWatcherError):
    """This Watcher can't be built."""


class InvalidSpec(IamWatcherError, ValueError):  # noqa: N818  the public name, see docs
    """The schedule is not valid."""
