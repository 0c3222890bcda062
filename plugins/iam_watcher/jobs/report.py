"""What a job tells about its run: one log line, and a plain dictionary as the task's XCom."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iam_watcher.jobs.rows import Walked


@dataclass
class Report:
    """The result of a job's run.

    Attributes:
        table: that was worked on.
        dry_run: nothing was written; `changed` is 0 and `examples` are given.
        now: the database's time that the run went by, ISO 8601 in UTC.
        cut_off: older rows were to be written; ISO 8601 in UTC.
        examined: rows that were looked at.
        matched: rows that were to be written.
        changed: rows that were written by this try of the task.
        changed_before: rows that earlier tries of the same run had written, as far as they were saved.
        skipped: reason → rows that were left.
        unconfirmed: rows whose commit got no answer, see `Walked`.
        chunks: transactions that wrote.
        retries: transactions that were tried again.
        longest_chunk_seconds: the longest transaction that wrote.
        duration_seconds: of the whole job.
        order: "key" or "index": what the walk went by.
        eligible: rows that the brake takes `matched` as a share of; None without a brake.
        stopped: "max_rows" or "time_budget" if that ended the run before the end of the table.
        position: the key up to which everything is done, if the run did not come to the end.
        began_after: the key behind which the run began, if it went on where another had stopped.
        examples: `{"key", "since", "age_days"}` of a few rows that a dry run found.
        archive: URL of the folder with what this run wrote down; None if it wrote nothing down.
        also: name → more that the job has counted.
        error: why the job ended early; None if it did not.
    """

    table: str
    dry_run: bool
    now: str = ""
    cut_off: str = ""
    examined: int = 0
    matched: int = 0
    changed: int = 0
    changed_before: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    unconfirmed: int = 0
    chunks: int = 0
    retries: int = 0
    longest_chunk_seconds: float = 0.0
    duration_seconds: float = 0.0
    order: str = "key"
    eligible: int | None = None
    stopped: str | None = None
    position: int | None = None
    began_after: int | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)
    archive: str | None = None
    also: dict[str, int] = field(default_factory=dict)
    error: str | None = None

    def take(self, walked: Walked) -> None:
        """Take over what a walk has done."""
        self.examined = walked.examined
        self.matched = walked.matched
        self.changed = walked.changed
        self.unconfirmed = walked.unconfirmed
        self.skipped = dict(sorted(walked.skipped.items()))
        self.chunks = walked.chunks
        self.stopped = walked.stopped
        self.longest_chunk_seconds = round(walked.longest_chunk, 4)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    def as_line(self) -> str:
        """Return it as one log line of key=value facts."""
        facts = {"event": "report", **self.as_dict()}
        return " ".join(
            f"{name}={value if isinstance(value, str) and ' ' not in value else json.dumps(value)}"
            for name, value in facts.items()
        )
