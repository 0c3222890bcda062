"""A job of another system as the importer reads it, on its way to a watcher file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = ("pass", "pwd", "secret", "token", "apikey", "api_key", "credential", "private")


class NotTranslated(Exception):  # noqa: N818  an outcome, not a fault
    """There is no watcher for this job; the message says why."""


@dataclass(frozen=True)
class Call:
    """A call in a watcher file: `name(keyword=value, …)`, with `name` imported from `module`."""

    module: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """What a watcher file is made of.

    Attributes:
        place: its place, for the report: `line 7`, or the job's name.
        source: its place, for the file: `line 7 of crontab`.
        suggestion: a text of which the watcher's name is made.
        watcher: arguments of `Watcher`.
        task: the call that makes its task.
        differences: what is another than it was there.
        function: instead of `task`: the name of a body in `render`, with the values that it uses.
    """

    place: str
    source: str
    suggestion: str
    watcher: Mapping[str, Any]
    task: Call | None = None
    function: tuple[str, Mapping[str, Any]] | None = None
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A job, or something else in a file, that has no watcher."""

    place: str
    reason: str


@dataclass
class Found:
    """What a reader found in a file.

    Attributes:
        entries: in the file's order.
        notes: what is true of all of them.
    """

    entries: list[Job | Refused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def mails(addresses: list[str]) -> dict[str, Call]:
    """Return the argument of a Watcher that mails failed runs."""
    to = [Call("iam_watcher", "Mail", {"": address}) for address in addresses]
    return {"notify": Call("iam_watcher", "Notify", {"to": to})}


def secrets_in(names: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a difference for variables whose names say that their values are secrets."""
    found = [name for name in names if any(word in name.lower() for word in SECRET)]
    if not found:
        return ()
    reader = "which people who may see the DAG can read: keep the value in an Airflow connection"
    return (f"{', '.join(found)} is in the DAG file now, {reader}",)
