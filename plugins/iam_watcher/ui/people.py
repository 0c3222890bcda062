"""The users whom a run disabled, from its undo record, page by page."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from iam_watcher.archive import reader
from iam_watcher.archive.format import ArchiveKind

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 100  # users
LONGEST_NAME = 200
PARTS = {"unix_seconds": 1, "unix_milliseconds": 1_000, "unix_microseconds": 1_000_000}


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
        accounts = written.manifest.get("accounts")
        unit = accounts.get("time_unit") if isinstance(accounts, dict) else None
        for row in written.rows():
            user = str(row.get("id"))  # the key of a table may have several columns
            if user not in seen:
                seen.add(user)
                name, seen_at = str(row.get("name")), _moment(row.get("loginedAt"), unit)
                yield {"name": name[:LONGEST_NAME], "seen": seen_at}


def _moment(value: Any, unit: object) -> str | None:
    """Return a last login as a date for people; None if the user never logged in."""
    if not isinstance(value, str) or value.startswith("0000"):
        return None
    if unit in PARTS and value.isdecimal():
        with suppress(OverflowError, ValueError, OSError):
            moment = datetime.fromtimestamp(int(value) / PARTS[str(unit)], UTC)
            return f"{moment:%Y-%m-%d %H:%M:%S}" if int(value) else None
    return value[:30]
