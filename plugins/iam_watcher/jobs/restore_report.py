"""The run report of a restore."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.jobs.run_report import REASONS, RunReport, counted, left_alone

if TYPE_CHECKING:
    from iam_watcher.archive.row_inserter import Put

# Why a row of an archive was not restored, for one row and for more.
NOT_RESTORED = REASONS | {
    "foreign_key": ("without the row that it refers to", "without the row that they refer to"),
    "unique_key": ("with a unique value of another row", "with a unique value of another row"),
    "replaced": ("whose parent was replaced", "whose parent was replaced"),
    "check": ("refused by a CHECK constraint", "refused by a CHECK constraint"),
    "trigger": ("refused by a trigger", "refused by a trigger"),
    "does_not_fit": ("that does not fit its column", "that do not fit their columns"),
    "gone": ("that is gone", "that are gone"),
    "changed_since": ("changed since", "changed since"),
}


@dataclass
class RestoreReport(RunReport):
    """The result of a restore.

    Attributes:
        archive: URL of the folder.
        dry_run: nothing was written; `restored` says what would have been, as far as that is known
            without trying.
        rows: in the archive; one that is in two parts, after a crash, counts twice.
        complete: whether every try of the archived run ended in order. If not, its last part could be
            missing without being missed.
        restored: rows that were inserted.
        altered: column → restored rows in which the table has another value than the archive: a BEFORE
            INSERT trigger made it, or the column was changed meanwhile.
        unconfirmed: rows whose commit got no answer, and that exist now: it took place, or someone else
            inserted them meanwhile.
        skipped: reason → rows that were not. `exists`: a row of that key is there. Refused by the server:
            `unique_key` (another row has a value that must be unique), `foreign_key` (the row that it
            refers to is gone), `check`, `trigger`, `does_not_fit` (a column was changed meanwhile). Not
            tried: `replaced` (another row now has the key or a unique value of the parent).
        children: child table → the same report of its rows; empty without children. The other fields are
            those of `table` alone.
        lost: columns that the archive does not have: a deleted row gets their defaults, and a changed row
            keeps what the run wrote.
        examples: `{"key", "why"}` of a few rows that were refused.
    """

    in_sentences = RunReport.in_sentences | {"children"}

    archive: str = ""
    rows: int = 0
    complete: bool = True
    restored: int = 0
    altered: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    children: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, put: Put) -> None:
        """Take over what a transaction has done."""
        self.restored += len(put.inserted)
        self.unconfirmed += len(put.unconfirmed)
        self.altered += put.altered
        self.skipped["exists"] += len(put.there)
        self.skipped.update(why for _, why in put.refused)
        for key, why in put.refused:
            self.add_example(key=key, why=why)

    def refused(self) -> str:
        """Return how many rows were not restored though the table does not have them, and why; "" if none."""
        found = counted({why: rows for why, rows in self.skipped.items() if why != "exists"}, NOT_RESTORED)
        return found and f"{self.table}: {found}"

    def sentences(self) -> list[str]:
        """Return how many rows were restored."""
        were = "Dry run: {} would be" if self.dry_run else "{} were"
        rows = were.format(f"{self.restored:,} of {self.rows:,} rows of {self.table}")
        lines = [f"{rows} restored{left_alone(+self.skipped, NOT_RESTORED)}"]
        for table, one in self.children.items():
            of_them = f"{one['restored']:,} of {one['rows']:,} rows of {table}"
            lines.append(f"  With them {of_them}{left_alone(one['skipped'], NOT_RESTORED)}")
        return lines
