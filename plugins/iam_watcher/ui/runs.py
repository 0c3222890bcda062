"""A run of a watcher as the page gets it: how it ended, what it did, and the height of its bar."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.ui.reports import read_report, shown_reports, text_of, without_none

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

UNFINISHED = ("queued", "running")
WAITS = ("scheduled", "queued", "running", "deferred", "up_for_retry")  # of `acquire`


@dataclass(eq=False)
class Run:
    """One run.

    Args:
        number: Airflow's own number of the run, which grows.
        dag_id: its watcher.
        run_id: its name.
        kind: "scheduled", "manual", …
        state: of the run.
        acquire: state of its task `acquire`; None if it has none.
        run_after: the moment that it is for.
        start: when it began.
        end: when it ended.
        user: who triggered it.
        failed_task: a task of it that failed.
        worked: how many of its tasks succeeded, without those of the lock; None if that was not asked.
        holder: who held the lock in the end, as `acquire` wrote it.
        is_tick_done: another deployment did its scheduled time.
        reports: task -> run report.
        changed: rows that it wrote, in all of its tries; None if its tasks don't say.
        dry_run: all of its reports are of a dry run.
    """

    number: int
    dag_id: str
    run_id: str
    kind: str
    state: str
    acquire: str | None
    run_after: datetime
    start: datetime | None
    end: datetime | None
    user: str | None
    failed_task: str | None
    worked: int | None = None
    holder: Any = None
    is_tick_done: bool = False
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: int | None = None
    dry_run: bool = False

    @property
    def outcome(self) -> str:
        """How it ended: success, skipped, failed; or queued, running."""
        return "skipped" if self.state == "success" and self.acquire == "skipped" else self.state

    @property
    def elsewhere(self) -> bool:
        """Whether it was skipped because another deployment did its scheduled time."""
        return self.outcome == "skipped" and self.is_tick_done

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.start is None or self.end is None else (self.end - self.start).total_seconds()

    def take_holder(self, value: Any, *, done: Any) -> None:
        """Take over what `acquire` wrote: who held the lock (None for an older run), the text of `done`."""
        self.holder, self.is_tick_done = value, bool(_FLAGS.get(done))

    def take(
        self, task_id: str, map_index: int, value: Any, *, written: Any, before: Any, dry_run: Any
    ) -> None:
        """Take over what a task returned: its report, or of an older run only the three facts of a bar.

        Args:
            task_id: the task.
            map_index: of the task.
            value: what it returned; None for an older run.
            written: of this, the text of the first of WRITTEN.
            before: of this, the text of WRITTEN_BEFORE.
            dry_run: of this, the text of `dry_run`, which each run report has.
        """
        is_dry_run = _FLAGS.get(dry_run)
        if is_dry_run is None:
            return
        self.dry_run = is_dry_run and (self.dry_run or self.changed is None)
        rows = 0 if is_dry_run else (_whole(written) or 0) + (_whole(before) or 0)
        self.changed = (self.changed or 0) + rows
        if not isinstance(value, dict):
            return
        several = value.get("reports")  # of the jobs of another watcher, see jobs/dry_run_watcher.py
        found = several if isinstance(several, dict) else {_task_name(task_id, map_index): value}
        for name, report in found.items():
            if isinstance(report, dict):
                self.reports[str(name)[:250]] = read_report(report)

    def as_json(self, dag_id: str | None = None) -> dict[str, Any]:
        """Return it as JSON values: times in seconds since 1970.

        Args:
            dag_id: the DAG of the run, if it is not the watcher that it is shown for.
        """
        holder = self.holder if isinstance(self.holder, dict) and self.outcome == "skipped" else None
        return without_none(
            {
                "n": self.number,
                "id": self.run_id,
                "dag": dag_id,
                "kind": self.kind,
                "state": self.outcome,
                "after": seconds(self.run_after),
                "start": seconds(self.start),
                "end": seconds(self.end),
                "took": None if self.seconds is None else round(self.seconds, 1),
                "user": self.user,
                "failed": self.failed_task if self.state == "failed" else None,
                "nothing": (self.outcome == "success" and self.worked == 0) or None,
                "waits": (self.state == "running" and self.acquire in WAITS) or None,
                "holder": holder
                and without_none(
                    {name: text_of(holder.get(name)) for name in ("owner", "since", "deployment")}
                ),
                "reports": shown_reports(self.reports) or None,
                "changed": self.changed,
                "dry": self.dry_run or None,
                "elsewhere": self.elsewhere or None,
            }
        )


def shown_whole(runs: Sequence[Run]) -> list[Run]:
    """Return those of the runs, newest first, that the list needs whole: see `verdict` of page/story.js.

    They are the unfinished ones, the last that ended, and a failure that no later run has made good.
    """
    ended = [run for run in runs if run.state not in UNFINISHED]
    tried = [run for run in ended if run.outcome != "skipped"]
    real = [run for run in tried if not run.dry_run]
    failed = [run for some in (tried, real) for run in some[:1] if run.outcome == "failed"]
    return [run for run in runs if run.state in UNFINISHED or run in (*ended[:1], *failed)]


def bars(runs: Iterable[Run]) -> dict[str, Any]:
    """Return runs, oldest first, as columns: a letter of each state, rows, seconds, times as differences."""
    ordered = list(runs)
    times = [seconds(run.run_after) or 0 for run in ordered]
    changed = [run.changed for run in ordered]
    return {
        "s": "".join(map(_letter, ordered)),
        "r": changed if any(number is not None for number in changed) else None,
        "d": [None if took is None else round(took, 1) for took in (run.seconds for run in ordered)],
        "t": [later - earlier for earlier, later in zip([0, *times], times, strict=False)],
    }


def _letter(run: Run) -> str:
    if run.elsewhere:
        return "e"
    return "d" if run.dry_run and run.outcome == "success" else _LETTERS.get(run.outcome, "?")


# A JSON value as SQLite, PostgreSQL and MySQL make it a text.
_FLAGS = {
    **dict.fromkeys(("true", "True", "1", 1), True),
    **dict.fromkeys(("false", "False", "0", 0), False),
}
_LETTERS = {"success": "s", "failed": "f", "skipped": "k", "running": "r", "queued": "q"}


def seconds(moment: datetime | None) -> int | None:
    """Return a moment as the seconds since 1970."""
    return None if moment is None else int(moment.timestamp())


def _task_name(task_id: str, map_index: int) -> str:
    return task_id if map_index < 0 else f"{task_id}/{map_index}"


def _whole(text: Any) -> int | None:
    return int(text) if text is not None and str(text).isdecimal() else None
