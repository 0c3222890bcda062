"""The users whom a run disabled, from its undo record, page by page."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from iam_watcher.archive import reader
from iam_watcher.archive.format import ArchiveKind

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 100  # users
LONGEST_NAME = 200


def disabled_users(url: str, *, below: str, begin: int) -> dict[str, Any]:
    """Return a page of users: name, last login, and whether there are more.

    Args:
        url: of the undo record, as the run report names it.
        below: the location that nothing may lead out of.
        begin: the number of users before this page.

    Raises:
        IamWatcherError: there is no such undo record, or it is not what was written.
    """
    found = list(islice(_users(url, below), begin, begin + PAGE + 1))
    return {"users": found[:PAGE], "more": len(found) > PAGE}


def _users(url: str, below: str) -> Iterator[dict[str, Any]]:
    seen = set()
    for written in reader.find(url, kind=ArchiveKind.DISABLED_USERS, below=below):
        for row in written.rows():
            if row.get("id") not in seen:
                seen.add(row.get("id"))
                yield {"name": str(row.get("name"))[:LONGEST_NAME], "seen": _moment(row.get("loginedAt"))}


def _moment(value: Any) -> str | None:
    return value[:30] if isinstance(value, str) and not value.startswith("0000") else None
