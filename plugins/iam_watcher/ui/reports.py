"""The run reports of a run as the page gets them: in a fixed order, and cut to what the page can show.

What tasks return can be anything, and anybody's: nothing in it is taken for granted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What the reports of the jobs call the rows that they wrote: each report has one of them.
WRITTEN = ("changed", "enabled", "restored", "done")
WRITTEN_BEFORE = "changed_before"  # by earlier tries of the same run, which WRITTEN does not count
# Numbers of several reports that can be added.
ADDABLE = (
    *("examined", "matched", "changed", WRITTEN_BEFORE, "unconfirmed", "retries"),
    *("enabled", "listed", "restored", "rows", "secrets_restored"),
    *("claimed", "done", "failed", "retried", "not_ready", "remaining", "lost"),
)
NUMBER_FACTS = (
    *ADDABLE,
    *("eligible", "max_share", "longest_chunk_seconds", "duration_seconds"),
)
TEXT_FACTS = ("table", "cut_off", "stopped", "error", "archive", "undo_record", "listed")
COUNTS = ("skipped", "also", "altered", "secrets_left")
LONGEST_TEXT = 2_000  # characters
MOST_REASONS = 30
MOST_LISTED = 5  # entries of a list in a report
MOST_REPORTS = 20  # of one run: a mapped task has one for each of its parts
REST = "+"  # in place of a map index: the sum of all other parts of a task


def read_report(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a run report, cut to a size that it can show."""
    found: dict[str, Any] = {name: _number(value.get(name)) for name in NUMBER_FACTS}
    found |= {name: text for name in TEXT_FACTS if (text := text_of(value.get(name))) is not None}
    found |= {name: counts for name in COUNTS if (counts := _counts(value.get(name)))}
    found["dry_run"] = value.get("dry_run") is True
    found["real_run"] = [
        text_of(line) for line in _listed(value.get("real_run")) if isinstance(line, str)
    ] or None
    found["examples"] = [
        {
            str(name)[:40]: text_of(fact) if isinstance(fact, str) else _number(fact)
            for name, fact in list(one.items())[:6]
        }
        for one in _listed(value.get("examples"))
        if isinstance(one, dict)
    ] or None
    return without_none(found)


def shown_reports(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return reports by task and map index, at most MOST_REPORTS; the others are added up for each task.

    A report with an error is among those that are not added up, if there are not too many.

    Args:
        reports: name -> report, as `read_report` returns it. The name of a mapped one is "task/map index".
    """
    ordered = sorted(reports, key=_place)
    whole = set(sorted(ordered, key=lambda name: "error" not in reports[name])[:MOST_REPORTS])
    rest: dict[str, list[Mapping[str, Any]]] = {}
    for name in ordered:
        if name not in whole:
            kind = "dry" if reports[name].get("dry_run") else ""
            rest.setdefault(f"{name.partition('/')[0]}/{REST}{kind}", []).append(reports[name])
    found = {name: reports[name] for name in whole} | {name: _sum(some) for name, some in rest.items()}
    return {name: found[name] for name in sorted(found, key=_place)}


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is there."""
    return {name: value for name, value in values.items() if value is not None}


def text_of(value: Any) -> str | None:
    """Return a text, cut to LONGEST_TEXT; None for anything else."""
    return value[:LONGEST_TEXT] if isinstance(value, str) else None


def _place(name: str) -> tuple[str, bool, int, str]:
    task, _, part = name.partition("/")
    return task, part.startswith(REST), int(part) if part.isdecimal() else -1, part


def _sum(reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return several reports of a task as one: `parts` says how many."""
    found: dict[str, Any] = {"parts": 0}
    for report in reports:
        found["parts"] += 1
        found["dry_run"] = report.get("dry_run")
        found = {name: report[name] for name in ("error", "stopped") if name in report} | found
        for name in ADDABLE:
            if isinstance(report.get(name), int | float):
                found[name] = found.get(name, 0) + report[name]
        for name in COUNTS:
            for reason, count in report.get(name, {}).items():
                counts = found.setdefault(name, {})
                counts[reason] = counts.get(reason, 0) + count
    return found


def _listed(value: Any) -> list[Any]:
    return value[:MOST_LISTED] if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if good else None


def _counts(value: Any) -> dict[str, float] | None:
    if not isinstance(value, dict):
        return None
    pairs = ((str(name)[:60], _number(count)) for name, count in list(value.items())[:MOST_REASONS])
    return {name: count for name, count in pairs if count}
