"""Who holds a lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.log_lines import one_line

if TYPE_CHECKING:
    from datetime import datetime

GO = "unknown (Go)"


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, according to Redis.

    Args:
        key: the lock's key.
        owner: the key's value; the Go iam-watcher writes a random text.
        since: when the owner acquired it, or None for the Go iam-watcher, which stores no time.
        remaining: seconds until the lease ends unless renewed; None if the key never expires.
        busy: the tasks that have a heartbeat, as `task_id/map_index`.
    """

    key: str
    owner: str
    since: datetime | None = None
    remaining: float | None = None
    busy: tuple[str, ...] = ()

    @property
    def deployment(self) -> str:
        """The deployment id in the owner, or `unknown (Go)`."""
        return self.owner.partition("/")[0] if self.since else GO

    def __str__(self) -> str:
        left = "ever" if self.remaining is None else f"{self.remaining:.1f} s"
        if not self.since:
            return f"{self.key!r} is held by {GO}, value {self.owner!r}, for {left} more"
        # A task that is not mapped has the index -1, which tells nobody anything.
        tasks = ", ".join(task.removesuffix("/-1") for task in self.busy)
        work = f", at work: {tasks}" if tasks else ""
        since = f"{self.since:%Y-%m-%d %H:%M:%S}Z"
        # Anybody who can write to Redis chooses these texts, and Airflow logs them in skips and errors.
        return one_line(f"{self.key!r} is held by {self.owner} since {since}, for {left} more{work}")
