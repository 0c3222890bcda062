"""The run report: what a job did, as a plain dictionary (the task's XCom) and as log lines."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.log_lines import fact_lines
from iam_watcher.walk.pace import Limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.walk.row_change import WalkResult

# Why rows were left alone, for one row and for more.
REASONS = {
    "admin": ("admin", "admins"),
    "exempt_name": ("exempt name", "exempt names"),
    "new_account": ("new account", "new accounts"),
    "zero_date": ("with a zero date", "with a zero date"),
    "no_date": ("without a date", "without a date"),
    "never_expires": ("that never expires", "that never expire"),
    "foreign_key": ("protected by a foreign key", "protected by a foreign key"),
    "exists": ("that exists", "that exist"),
    "changed_meanwhile": ("changed meanwhile", "changed meanwhile"),
}

LIMITS = {Limit.ROWS.value: "row limit", Limit.TIME.value: "time limit"}

OWN_LINES = frozenset({"archive", "error", "examples", "listed", "real_run"})


@dataclass(frozen=True)
class Words:
    """What the log says of a job.

    Attributes:
        rows: such as "users" or "rows of session".
        done: with them, such as "disabled".
        record: what makes it possible to undo that, such as "archive".
        without_record: what is true without one.
    """

    rows: str
    done: str
    record: str
    without_record: str


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
        unconfirmed: rows whose commit got no answer, see `WalkResult`.
        chunks: transactions that wrote.
        retries: transactions that were tried again.
        longest_chunk_seconds: the longest transaction that wrote.
        duration_seconds: of the whole job.
        order: "key" or "index": what the walk went by.
        eligible: rows that the safety limit takes `matched` as a share of; None if they were not counted.
        max_share: the safety limit; None for none.
        stopped: "max_rows" or "time_budget" if that ended the run before the end of the table.
        position: the key up to which everything is done, if the run did not come to the end.
        began_after: the key behind which the run began, if it went on where another had stopped.
        examples: `{"key", "name", "since", "age_days"}` of a few rows that a dry run found; without
            `name` if the table has no such column. Of a date that no calendar has, `since` is what the
            server shows, and `age_days` is None.
        listed: URL of the folder with the list of all rows that a dry run found; None if it wrote none.
        real_run: what would become of the real run, each as the end of "The real run would …".
        archive: URL of the folder with the archive or undo record of this run; None if it wrote none.
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
    max_share: float | None = None
    stopped: str | None = None
    position: int | None = None
    began_after: int | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)
    listed: str | None = None
    real_run: list[str] = field(default_factory=list)
    archive: str | None = None
    also: dict[str, int] = field(default_factory=dict)
    error: str | None = None

    def take(self, walked: WalkResult) -> None:
        """Take over what a walk has done."""
        self.examined = walked.examined
        self.matched = walked.matched
        self.changed = walked.changed
        self.unconfirmed = walked.unconfirmed
        self.skipped = dict(sorted(walked.skipped.items()))
        self.chunks = walked.chunks
        self.stopped = walked.stopped.value if walked.stopped else None
        self.longest_chunk_seconds = round(walked.longest_chunk, 4)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    @property
    def over_limit(self) -> bool:
        """Whether the safety limit stops the run."""
        return self.max_share is not None and self.matched > self.max_share * (self.eligible or 0)

    def as_lines(self, words: Words) -> list[str]:
        """Return it as short log lines: a sentence, facts as key=value, then examples."""
        lines = [self._sentence(words)]
        if self.error:
            lines.append(f"The run ended early: {self.error}")
        if self.archive:
            lines.append(f"{words.record.capitalize()}: {self.archive}")
        if self.listed:
            lines.append(f"List of all of them: {self.listed}")
        lines += [f"The real run would {what}" for what in self.real_run]
        facts = {name: value for name, value in self.as_dict().items() if name not in OWN_LINES}
        return [*lines, *fact_lines("report", facts, self.examples)]

    def _sentence(self, words: Words) -> str:
        rows = self.matched if self.dry_run else self.changed
        text = f"{rows:,} of {self.examined:,} {words.rows} "
        text += f"would be {words.done}" if self.dry_run else words.done
        text += left_alone(self.skipped)
        text += f" in {self.duration_seconds:.1f} s"
        if self.unconfirmed:
            text += f"; {self.unconfirmed:,} more may be {words.done}, the answer to their commit was lost"
        if self.stopped:
            text += f"; stopped at the {LIMITS[self.stopped]}, the next run goes on there"
        if self.dry_run:
            return f"Dry run: {text}{'; there is no list of them' if rows and not self.listed else ''}"
        return f"{text}; no {words.record}: {words.without_record}" if rows and not self.archive else text


def left_alone(skipped: Mapping[str, int]) -> str:
    """Return how many rows were left alone for which reason, as a part of a sentence; "" if none was."""
    left = [_counted(reason, number) for reason, number in skipped.items() if number]
    if not left:
        return ""
    return f" ({' and '.join([', '.join(left[:-1]), left[-1]] if left[1:] else left)} left alone)"


def _counted(reason: str, number: int) -> str:
    one, more = REASONS.get(reason, (reason.replace("_", " "),) * 2)
    return f"{number:,} {one if number == 1 else more}"
