"""A dry run: which rows the real run would change, and what else would become of it.

The run report shows a few of the rows. A list of all rows is written below the location of archives, in
the format of an archive. It lies in a folder of its own: nothing in it is to be restored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from iam_watcher.archive.writer import Packed
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.run_report import RunReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.job import TableJob
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.jobs.table_job.table_job_report import TableJobReport

FOLDER = "dry-runs"
PART_ROWS = 10_000


class DryRunList:
    """The rows that a dry run found.

    Args:
        archive: where the list is written; None if there is no location for it.
        describe: returns the facts of a row from what the count read of it.

    Attributes:
        examples: the facts of the first few rows.
    """

    def __init__(self, archive: Archive | None, describe: Callable[..., dict[str, Any]]) -> None:
        self.examples: list[dict[str, Any]] = []
        self._archive = archive
        self._describe = describe
        self._lines: list[bytes] = []

    def add(self, rows: Iterable[Any]) -> None:
        """Take over the rows of a span.

        Raises:
            ArchiveError: the list could not be written.
        """
        for row in rows:
            if self._archive is None and len(self.examples) == RunReport.most_examples:
                return
            facts = self._describe(*row)
            if len(self.examples) < RunReport.most_examples:
                self.examples.append(facts)
            self._lines.append(msgspec.json.encode(facts) + b"\n")
        if len(self._lines) >= PART_ROWS:
            self._write()

    def close(self) -> str | None:
        """Complete the list and return the URL of its folder; None if there is no list.

        Raises:
            ArchiveError: it could not be written.
        """
        if self._archive is None:
            return None
        if self._lines:
            self._write()
        self._archive.close()
        return self._archive.url()

    def _write(self) -> None:
        if self._archive is not None:
            self._archive.add(Packed.of(len(self._lines), self._lines))
        self._lines = []


def real_run(job: TableJob, db: Transactions, plan: Plan, report: TableJobReport) -> list[str]:
    """Return what would become of the real run, each as the end of "The real run would …"."""
    if report.over_limit:
        of = f"{report.matched:,} of {report.eligible:,}"
        return [f"be stopped by the safety limit: {of}, more than max_share={report.max_share:g}"]
    found = []
    most = job.max_rows
    if most is not None and most < report.matched:
        found.append(f"change {most:,} of them (row limit); later runs change the rest")
    words, location = job.words, job.location
    if report.side_effects:
        which = f"no {words.record} has" if location is None else f"the {words.record} does not have"
        found.append(f"also change what {which}: {', '.join(report.side_effects)}")
    if location is not None:
        found.append(f"write its {words.record} below {location}")
        return found
    try:
        job.recorder(db, plan, None)
    except JobArgumentError as error:
        return [f"fail before its first write: {error.facts}"]
    return [*found, f"write no {words.record}: {words.without_record}"]


def described(
    key: Any, name: bytes | None, age: str, since: datetime | None, now: datetime
) -> dict[str, Any]:
    """Return the facts of a row that a dry run found.

    Args:
        key: of the row.
        name: of the row, for people; None if the table has no such column.
        age: as the server shows it.
        since: the moment that `age` means; None if no calendar has it.
        now: the database's time.
    """
    named = {} if name is None else {"name": name.decode(errors="replace")}
    if since is None:
        return {"key": key, **named, "since": age, "age_days": None}
    days = (now - since).total_seconds() / 86_400
    return {"key": key, **named, "since": since.isoformat(), "age_days": round(days, 1)}
