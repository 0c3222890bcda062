"""The run report of row processing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from iam_watcher.jobs.run_report import LIMITS, RunReport
from iam_watcher.walk.claim.outcome import Kind

if TYPE_CHECKING:
    from iam_watcher.walk.claim.outcome import Processed

MOST_EXCEPTIONS = 5
LONGEST_MESSAGE = 200  # characters of an exception's message
MOST_REMAINING = 10_000  # rows that are counted after a run

MODES = {
    "claim": "claims that are marked and renewed",
    "hold": "row locks that are held while the function works",
}


@dataclass
class ProcessRowsReport(RunReport):
    """The result of row processing.

    Attributes:
        mode: "claim" or "hold".
        claimed: rows that this run claimed, the ones that were taken over included.
        taken_over: rows that were claimed because their claim was not renewed.
        done: rows that were processed.
        failed: rows that can't be processed.
        retried: rows that are pending again after an exception.
        not_ready: rows that are pending again because the function said so.
        given_back: rows that were claimed and not begun, and are pending again.
        lost: rows that another worker had claimed when their outcome was to be written; it is not written.
        worker_died: rows that failed because each of their attempts ended with its worker.
        attempts: attempt → rows that were claimed for it.
        exceptions: the most frequent classes of exceptions, each with the number of rows, and the key and the
            message of the first one.
        remaining: rows that are pending after the run, at most MOST_REMAINING; a dry run: rows that are.
        oldest_pending_seconds_before: age of the first pending row, in the order of the key, before the run.
        oldest_pending_seconds_after: the same after the run; None if there is no such row or no `age_column`.
        longest_claim_seconds: the longest transaction that claimed.
        longest_finish_seconds: the longest transaction that wrote outcomes.
        late_renewals: renewals that came after two thirds of `claim_timeout`.
        idle_seconds: how long the run waited for rows, with `max_idle_time`.
        stopped: "max_rows" or "time_budget" if that ended the run.
    """

    mode: str = "claim"
    claimed: int = 0
    taken_over: int = 0
    done: int = 0
    failed: int = 0
    retried: int = 0
    not_ready: int = 0
    given_back: int = 0
    lost: int = 0
    worker_died: int = 0
    attempts: Counter[str] = field(default_factory=Counter)
    exceptions: list[dict[str, Any]] = field(default_factory=list)
    remaining: int | None = None
    oldest_pending_seconds_before: float | None = None
    oldest_pending_seconds_after: float | None = None
    longest_claim_seconds: float = 0.0
    longest_finish_seconds: float = 0.0
    late_renewals: int = 0
    idle_seconds: float = 0.0
    stopped: str | None = None

    in_sentences: ClassVar[frozenset[str]] = RunReport.in_sentences | {"exceptions"}

    def take(self, processed: Processed) -> None:
        """Take over what a run has done."""
        for kind in Kind:
            setattr(self, kind.value, processed.outcomes[kind])
        self.failed += processed.worker_died
        for name in ("claimed", "taken_over", "lost", "worker_died", "late_renewals"):
            setattr(self, name, getattr(processed, name))
        self.attempts = Counter({str(attempt): rows for attempt, rows in processed.attempts.items()})
        self.exceptions = []
        for name, rows in processed.exceptions.most_common(MOST_EXCEPTIONS):
            key, message = processed.examples[name]
            self.exceptions.append(
                {"exception": name, "rows": rows, "key": key, "message": message[:LONGEST_MESSAGE]}
            )
        self.longest_claim_seconds = round(processed.longest_claim, 4)
        self.longest_finish_seconds = round(processed.longest_finish, 4)
        self.idle_seconds = round(processed.idle_seconds, 3)
        self.stopped = processed.stopped.value if processed.stopped else None

    def sentences(self) -> list[str]:
        """Return what became of the rows, then the exceptions."""
        if self.dry_run:
            return [
                f"Dry run: {self._counted(self.remaining)} rows of {self.table} are pending ({self.mode})"
            ]
        counts = {
            name: getattr(self, name) for name in ("failed", "retried", "not_ready", "given_back", "lost")
        }
        others = "".join(f", {rows:,} {name.replace('_', ' ')}" for name, rows in counts.items() if rows)
        text = f"{self.done:,} rows of {self.table} done{others} in {self.duration_seconds:.1f} s"
        if self.idle_seconds:
            text += f", of which it waited {self.idle_seconds:.1f} s for rows"
        if self.stopped:
            text += f"; stopped at the {LIMITS[self.stopped]}"
        if self.remaining:
            text += f"; {self._counted(self.remaining)} pending"
        ends = [
            f"{one['rows']:,} rows ended with {one['exception']}, first the one with the key "
            f"{one['key']}: {one['message']}"
            for one in self.exceptions
        ]
        return [text, *ends]

    @staticmethod
    def _counted(rows: int | None) -> str:
        return f"{rows or 0:,}{' or more' if rows == MOST_REMAINING else ''}"
