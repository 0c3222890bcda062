"""Writes the watcher files, none over another, and says what became of each job."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iam_watcher.importer import names
from iam_watcher.importer.job import Job
from iam_watcher.importer.render import render
from iam_watcher.log_lines import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from iam_watcher.importer.job import Found, Refused


@dataclass
class Outcome:
    """What became of the jobs: lines for a person, and whether each has a file."""

    lines: list[str] = field(default_factory=list)
    complete: bool = True

    def add(self, text: str, more: tuple[str, ...] = ()) -> None:
        """Add what became of a job."""
        self.lines += [one_line(text), *(one_line(f"    {line}") for line in more)]


def write(found: Found, folder: Path, *, prefix: str = "") -> Outcome:
    """Write a file for each job.

    Args:
        found: the jobs.
        folder: for the files; made if it is not there.
        prefix: before the name of each watcher.

    Raises:
        OSError: the folder can't be made.
    """
    outcome = Outcome()
    taken: set[str] = set()
    count = {"translated": 0, "translated with a difference": 0, "not translated": 0}
    folder.mkdir(parents=True, exist_ok=True)
    for entry in found.entries:
        kind = _one(entry, folder, prefix, taken, outcome)
        count[kind] += 1
    if found.notes:
        outcome.add("For all of them:", tuple(found.notes))
    outcome.add(", ".join(f"{number} {kind}" for kind, number in count.items()))
    outcome.complete = count["not translated"] == 0
    return outcome


def _one(entry: Job | Refused, folder: Path, prefix: str, taken: set[str], outcome: Outcome) -> str:
    if not isinstance(entry, Job):
        outcome.add(f"{entry.place}: not translated: {entry.reason}")
        return "not translated"
    name = names.unique(prefix + entry.suggestion, taken)
    path = folder / f"{name}.py"
    try:
        text = render(entry, name)
        ast.parse(text)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        outcome.add(f"{entry.place}: not translated: {path} exists, and is left as it is")
        return "not translated"
    except (OSError, SyntaxError, ValueError) as error:
        outcome.add(f"{entry.place}: not translated: {path}: {error}")
        return "not translated"
    kind = "translated with a difference" if entry.differences else "translated"
    outcome.add(f"{entry.place}: {kind}: {path}", entry.differences)
    return kind
