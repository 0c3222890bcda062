"""The run report of a table job."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.jobs.run_report import LIMITS, RunReport, left_alone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.walk.row_change import WalkResult


MOST_NAMED = 5


def partitions_named(names: Sequence[str]) -> str:
    """Return partitions as a part of a sentence: how many, and the names of the first and the last ones."""
    if len(names) == 1:
        return f"the partition {names[0]}"
    shown = names if len(names) <= MOST_NAMED else [*names[: MOST_NAMED - 1], "…", names[-1]]
    return f"{len(names)} partitions: {', '.join(shown)}"


@dataclass(frozen=True)
class Words:
    """What the log says of a job.

    Attributes:
        rows: such as "users" or "rows of session".
        done: with them, such as "disabled".
        record: what undoes the job: "archive" or "undo record". The report has its URL under this name, with
            "_" for the space.
        without_record: what is true without one.
    """

    rows: str
    done: str
    record: str
    without_record: str


@dataclass
class TableJobReport(RunReport):
    """The result of a job's run.

    Attributes:
        words: what the log says of the job; not in the XCom.
        dry_run: the run wrote nothing; `changed` is 0 and `examples` are given.
        connection: the Airflow connection of the database.
        now: the database's time that the run went by, ISO 8601 in UTC.
        cut_off: older rows were to be written; ISO 8601 in UTC.
        examined: rows that were looked at.
        matched: rows that were to be written.
        changed: rows that were written by this try of the task.
        changed_before: rows that earlier tries of the same run had written, as far as they were saved.
        unconfirmed: rows whose commit got no answer, see `WalkResult`.
        chunks: transactions that wrote.
        longest_chunk_seconds: the longest transaction that wrote.
        order: "key" or "index": what the walk went by.
        eligible: rows that the safety limit takes `matched` as a share of; None if they were not counted.
        max_share: the safety limit; None for none.
        stopped: "max_rows" or "time_budget" if that ended the run before the end of the table.
        position: the key up to which everything is done, if the run did not come to the end.
        began_after: the key behind which the run began, if it resumed where another had stopped.
        examples: `{"key", "name", "since", "age_days"}` of a few rows that a dry run found; without
            `name` if the table has no such column. Of a date that no calendar has, `since` is what the
            server shows, and `age_days` is None.
        listed: URL of the folder with the list of all rows that a dry run found; None if it wrote none.
        real_run: what would become of the real run, each as the end of "The real run would …".
        side_effects: foreign keys and triggers by which the server changes or deletes other rows, such as "ON
            DELETE CASCADE of shop.invoice (order_id)". Neither these counts nor the archive have such rows.
        partitions: `{"partition", "rows"}` of those that were dropped, or that the real run would drop. Their
            rows are in `examined`, `matched` and `changed` too.
        archive: URL of the folder with the archive of this run; None if it wrote none.
        undo_record: URL of the folder with the undo record of this run; None if it wrote none.
        archive_bytes: that this try of the task added to the archive or the undo record, compressed; None if
            the run writes none.
        tree: `{"table", "key", "depth"}` of each child table, from top to bottom; empty without children.
        children: child table → rows that were deleted by this try (dry run: that would be). `changed` and
            the like count the rows of `table` alone.
        unmatched: names and patterns of `exempt_names` that no account has.
        also: name → more that the job has counted.
    """

    in_sentences = RunReport.in_sentences | {
        *("archive", "children", "listed", "partitions", "real_run", "side_effects", "tree", "undo_record")
    }

    connection: str = ""
    now: str = ""
    cut_off: str = ""
    examined: int = 0
    matched: int = 0
    changed: int = 0
    changed_before: int = 0
    chunks: int = 0
    longest_chunk_seconds: float = 0.0
    order: str = "key"
    eligible: int | None = None
    max_share: float | None = None
    stopped: str | None = None
    position: Any = None
    began_after: Any = None
    listed: str | None = None
    real_run: list[str] = field(default_factory=list)
    side_effects: list[str] = field(default_factory=list)
    partitions: list[dict[str, Any]] = field(default_factory=list)
    archive: str | None = None
    undo_record: str | None = None
    archive_bytes: int | None = None
    tree: list[dict[str, Any]] = field(default_factory=list)
    children: dict[str, int] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    also: dict[str, int] = field(default_factory=dict)
    words: Words = Words("rows", "changed", "archive", "the rows can't be restored")

    def take(self, walked: WalkResult) -> None:
        """Take over what a walk has done, besides the rows of the dropped partitions."""
        dropped = self._rows_of_partitions
        self.examined = walked.examined + dropped
        self.matched = walked.matched + dropped
        self.changed = walked.changed + dropped
        self.unconfirmed = walked.unconfirmed
        self.skipped = Counter(walked.skipped)
        self.chunks = walked.chunks
        self.stopped = walked.stopped.value if walked.stopped else None
        self.longest_chunk_seconds = round(walked.longest_chunk, 4)
        self.children |= walked.descendants

    def dropped(self, partition: str, rows: int) -> None:
        """Take over that rows were dropped with their partition, before the walk."""
        earlier = sum(one["rows"] for one in self.partitions if one["partition"] == partition)
        others = [one for one in self.partitions if one["partition"] != partition]
        self.partitions = [*others, {"partition": partition, "rows": earlier + rows}]
        self.examined = self.matched = self.changed = self._rows_of_partitions

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {name: value for name, value in super().as_dict().items() if name != "words"}

    @property
    def record(self) -> str | None:
        """URL of what undoes this run."""
        return self.archive or self.undo_record

    @record.setter
    def record(self, url: str | None) -> None:
        setattr(self, self.words.record.replace(" ", "_"), url)

    @property
    def _rows_of_partitions(self) -> int:
        """The rows of the partitions that were dropped; a dry run has them in its count."""
        return 0 if self.dry_run else sum(one["rows"] for one in self.partitions)

    @property
    def over_limit(self) -> bool:
        """Whether the safety limit stops the run."""
        return self.max_share is not None and self.matched > self.max_share * (self.eligible or 0)

    def sentences(self) -> list[str]:
        """Return what the run did, and where its files are."""
        lines = [self._sentence(), *self._of_children()]
        if self.partitions and not self.dry_run:
            rows, names = self._rows_of_partitions, [one["partition"] for one in self.partitions]
            lines.append(f"{rows:,} of these rows were dropped with {partitions_named(names)}")
        if self.side_effects and self.changed:
            lines.append(f"The server may have changed other rows too: {', '.join(self.side_effects)}")
        if self.record:
            lines.append(f"{self.words.record.capitalize()}: {self.record}")
        if self.listed:
            lines.append(f"List of all of them: {self.listed}")
        return lines + [f"The real run would {what}" for what in self.real_run]

    def _of_children(self) -> list[str]:
        """Return a line for each table of the tree."""
        done = f"would be {self.words.done}" if self.dry_run else self.words.done
        return [
            f"{'  ' * one['depth']}{self.children[one['table']]:,} rows of {one['table']} {done} with them, "
            f"by {one['key'] if isinstance(one['key'], str) else ', '.join(one['key'])}"
            for one in self.tree
        ]

    def _sentence(self) -> str:
        words = self.words
        rows = self.matched if self.dry_run else self.changed
        text = f"{rows:,} of {self.examined:,} {words.rows} "
        text += f"would be {words.done}" if self.dry_run else words.done
        text += left_alone(dict(sorted(self.skipped.items())))
        text += f" in {self.duration_seconds:.1f} s"
        if self.changed_before:
            text += f"; {self.changed_before:,} more were {words.done} by earlier tries of this run"
        if self.unconfirmed:
            text += f"; {self.unconfirmed:,} more may be {words.done}, the answer to their commit was lost"
        if self.stopped:
            text += f"; stopped at the {LIMITS[self.stopped]}, the next run resumes there"
        if self.dry_run:
            return f"Dry run: {text}{'; there is no list of them' if rows and not self.listed else ''}"
        if (rows or self.changed_before) and not self.record:
            text += f"; no {words.record}: {words.without_record}"
        return text
