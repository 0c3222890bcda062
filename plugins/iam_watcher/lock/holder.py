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
    """Who holds a lock, as Redis tells it.

    Args:
        key: the lock's key.
        owner: the key's value; what the Go iam-watcher writes is a random text.
        since: when the owner acquired it, or None if it left no record (the Go side).
        remaining: seconds until it expires unless renewed; None if it never does.
        busy: the live work processes under the lock, as `task_id/map_index`.
    """

    key: str
    owner: str
    since: datetime | None = None
    remaining: float | None = None
    busy: tuple[str, ...] = ()

    @property
    def deployment(self) -> str:
        """The deployment id in the owner, or `unknown (Go)`: only we leave a record."""
        return self.owner.split("/", 1)[0] if self.since else GO

    def __str__(self) -> str:
        left = "ever" if self.remaining is None else f"{self.remaining:.1f} s"
        if not self.since:
            return f"{self.key!r} is held by {GO}, value {self.owner!r}, for {left} more"
        work = f", at work: {', '.join(self.busy)}" if self.busy else ""
        since = f"{self.since:%Y-%m-%d %H:%M:%S}Z"
        # Whoever can write to Redis chooses these texts, and they stand in skips and errors of Airflow's own.
        return one_line(f"{self.key!r} is held by {self.owner} since {since}, for {left} more{work}")
