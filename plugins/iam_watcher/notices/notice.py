"""What a notice says."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from iam_watcher.airflow_internals.tasks import masked
from iam_watcher.errors import LockLost
from iam_watcher.lock import current
from iam_watcher.log_lines import fact_lines, one_line
from iam_watcher.notices.returned import reports_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LONGEST = 1000  # characters of an error
_MOST_TASKS = 5  # that are named
_EXIT_STATUS = re.compile(r"\bexit (?:code|status)(?: =)? (-?\d{1,3})\b")
# Of a run report, what a reader of a notice looks for.
_FACTS = (
    "connection",
    "table",
    "dry_run",
    "examined",
    "matched",
    "changed",
    "changed_before",
    "restored",
    "claimed",
    "done",
    "failed",
    "retried",
    "lost",
    "remaining",
    "stopped",
    "archive",
    "undo_record",
    "listed",
)


@dataclass(frozen=True)
class Notice:
    """A message about what happened to a run.

    Attributes:
        event: the event, as `on` of `Notify` names it.
        watcher: the DAG id.
        run: the run id.
        what: what happened, as a sentence without a full stop.
        url: the page of the run, or of the task, in Airflow.
        reports: the run reports of the run's tasks, by task id.
        holder: who holds the lock: key, owner, deployment, since. None: not known.
        exit_status: the exit status of the command that failed, 1 to 255. None: no command failed.
    """

    event: str
    watcher: str
    run: str
    what: str
    url: str
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    holder: Mapping[str, Any] | None = None
    exit_status: int | None = None

    @property
    def subject(self) -> str:
        """The notice in a line."""
        return one_line(f"{self.watcher}: {self.what}")[:200]

    @property
    def text(self) -> str:
        """The notice as lines: what happened, which run, what it did, and where to look."""
        lines = [one_line(f"{self.watcher}: {self.what}"), f"run: {one_line(self.run)}"]
        for task_id, report in self.reports.items():
            facts = {name: report[name] for name in _FACTS if report.get(name) not in (None, False)}
            lines += fact_lines(task_id, facts)
        return "\n".join([*lines, self.url])

    @property
    def html(self) -> str:
        """The text for a mail."""
        return f"<pre>{html.escape(self.text)}</pre>"

    def as_json(self) -> dict[str, Any]:
        """Return the notice for a webhook: `text` is what Slack, Mattermost and others show.

        Of the run reports, it has the numbers and what `text` has, but no keys and no names of rows.
        """
        return {
            "text": self.text,
            "event": self.event,
            "watcher": self.watcher,
            "run": self.run,
            "what": self.what,
            "url": self.url,
            "reports": {task_id: _without_rows(report) for task_id, report in self.reports.items()},
            "holder": dict(self.holder) if self.holder else None,
            "exit_status": self.exit_status,
        }


def of_failure(context: Any) -> Notice:
    """Return the notice of a task that failed for good."""
    ti, error = context["ti"], context.get("exception")
    loss = lost_lock(error)
    event = "lost" if loss else "failure"
    reason = f": {_short(error)}" if error else ": its process was killed"
    if loss and str(loss) not in reason:
        reason += f". {loss}"
    reports = reports_of(context, [context["task"]]) if "task" in context else {}
    what = f"task {ti.task_id} failed{reason}"
    return _notice(event, ti, what, ti.log_url, reports=reports, exit_status=_exit_status(error))


def of_failed_run(context: Any) -> Notice:
    """Return the notice of a failed run, for receivers that got none from its tasks."""
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    what = (
        "the run failed. You got no notice from its task: the process of the task was killed, a person ended "
        "the run or the task, or the notice did not arrive"
    )
    return Notice("failure", dag_id, run_id, what, _page(dag_id, run_id))


def of_skip(context: Any, *, event: str = "skip", more: str = "") -> Notice:
    """Return the notice of a run whose lock was busy."""
    ti = context["ti"]
    holder = ti.xcom_pull(task_ids=ti.task_id, key="holder")
    by = ""
    if holder and holder.get("done"):
        by = f": {holder['owner']} did this scheduled time already"
    elif holder:
        since = f" since {holder['since']}" if holder["since"] else ""
        by = f": {holder['key']} is held by {holder['owner']}{since}"
    return _notice(event, ti, f"the run was skipped{by}{more}", ti.log_url, holder=holder)


def of_nothing_done(dag_id: str, run_id: str, tasks: Sequence[str]) -> Notice:
    """Return the notice of a run whose tasks were all skipped: these tasks."""
    which = f"the task {tasks[0]} was" if len(tasks) == 1 else f"the tasks {', '.join(tasks)} were"
    if len(tasks) > _MOST_TASKS:
        which = f"all of its {len(tasks)} tasks were"
    return Notice("skip", dag_id, run_id, f"the run did nothing: {which} skipped", _page(dag_id, run_id))


def of_keyword(context: Any, event: str, line: str) -> Notice:
    """Return the notice of a try of a task whose log has the keyword of an event."""
    ti, keyword = context["ti"], event.partition(":")[2]
    return _notice(event, ti, f"the log of task {ti.task_id} has {keyword!r}: {_short(line)}", ti.log_url)


def of_success(context: Any) -> Notice:
    """Return the notice of a run that worked, with its run reports."""
    ti = context["ti"]
    reports = reports_of(context)
    dry = any(report.get("dry_run") for report in reports.values())
    what = f"the run worked{' (dry run)' if dry else ''}"
    return _notice("success", ti, what, _page(ti.dag_id, ti.run_id), reports=reports)


def of_overrun(dag_id: str, run_id: str, expected: str) -> Notice:
    """Return the notice of a run that takes longer than expected."""
    what = f"the run takes longer than the {expected} that were expected"
    return Notice("overrun", dag_id, run_id, what, _page(dag_id, run_id))


def lost_lock(error: BaseException | None) -> LockLost | None:
    """Return why the run lost the lock, if a task of this process failed because of that.

    A job says so by its error. Any other task is ended by SIGTERM, and fails with an error of its own.
    """
    while error is not None:
        if isinstance(error, LockLost):
            return error
        error = error.__cause__
    loss = current.loss()
    return loss if isinstance(loss, LockLost) else None


def _exit_status(error: object) -> int | None:
    """Return the exit status that the error of a command names, as BashOperator and CommandOperator do.

    A command that was ended by a signal has 128 and the signal's number, as in a shell.
    """
    found = _EXIT_STATUS.search(str(error or ""))
    status = int(found[1]) if found else 0
    status = 128 - status if status < 0 else status
    return status if 1 <= status <= 255 else None  # noqa: PLR2004  of POSIX


def _without_rows(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is sent of a run report: numbers, the facts of the text, and the error."""

    def number(value: object) -> bool:
        return value is None or isinstance(value, (int, float))

    kept: dict[str, Any] = {}
    for name, value in report.items():
        counts = isinstance(value, dict) and all(map(number, value.values()))
        if name in _FACTS or number(value) or counts:
            kept[name] = value
        elif name == "error":
            kept[name] = _short(value)
    return kept


def _short(error: object) -> str:
    # Before the cut: Airflow does not know the beginning of a secret.
    text = masked(str(error) or type(error).__name__)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _page(dag_id: str, run_id: str) -> str:
    from airflow.configuration import conf

    base = conf.get("api", "base_url", fallback="") or "http://localhost:8080"
    return f"{base.rstrip('/')}/dags/{quote(dag_id)}/runs/{quote(run_id)}"


def _notice(event: str, ti: Any, what: str, url: str, **more: Any) -> Notice:
    # Airflow hides secrets in the log; an error or a line of the log can have one here, too.
    return Notice(event, ti.dag_id, ti.run_id, masked(what), url, **more)
