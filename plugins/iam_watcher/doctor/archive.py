"""The location of archives and undo records: can this machine write there?"""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from iam_watcher.archive.location import configured_location
from iam_watcher.archive.storage import Folder
from iam_watcher.doctor.finding import Finding
from iam_watcher.errors import ArchiveError, JobArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iam_watcher.doctor.watchers import Watchers


def locations(watchers: Watchers) -> list[str]:
    """Return the valid locations: `[iam_watcher] archive`, and those that jobs name."""
    found: set[object] = set()
    with suppress(JobArgumentError):  # reported by `check_archives`
        found.add(configured_location())
    for name in ("archive", "undo_location"):
        found |= {getattr(job, name, None) for job in watchers.jobs} | watchers.half_known_values(name)
    return sorted(one for one in found if isinstance(one, str) and "://" in one and "{{" not in one)


def check_archives(watchers: Watchers) -> Iterator[Finding]:
    """Write a small file to `[iam_watcher] archive` and to each location that a job names, and remove it."""
    try:
        configured_location()
    except JobArgumentError as error:
        yield Finding(str(error))
    for location in locations(watchers):
        name = f"doctor-{uuid.uuid4().hex}"
        folder = Folder(location)
        try:
            folder.check_connection()
            folder.write(name, b"")
            folder.remove(name)
        except (ArchiveError, JobArgumentError) as error:
            yield Finding(
                f"The archive location {location} can't be used from this machine: {error}. Correct the "
                "location, its rights or its connection"
            )
