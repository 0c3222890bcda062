"""Marks: what a run of the doctor leaves where all machines of an Airflow must meet.

A machine that doesn't see the mark of another machine uses another Redis, or another disk.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from iam_watcher.archive.storage import Folder
from iam_watcher.errors import ArchiveError, JobArgumentError, LockError
from iam_watcher.lock.admin import marks as redis_marks

if TYPE_CHECKING:
    from collections.abc import Iterable

KEPT = timedelta(hours=1)  # for so long, other machines are compared with the result of a machine
FILE = "doctor-{mark}"


@dataclass
class Marks:
    """The marks of one run of the doctor.

    Attributes:
        mark: a text that no other run uses.
        archives: the archive locations that have a file with this name.
        redis_ahead: connection of a Redis that has the mark -> seconds by which its clock is ahead.
        errors: connection of a Redis, or location, that could not be marked -> why.
    """

    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    archives: list[str] = field(default_factory=list)
    redis_ahead: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def leave_marks(redis_conn_ids: Iterable[str], archives: Iterable[str]) -> Marks:
    """Leave a mark in each Redis, where the mark expires, and in each archive location.

    Args:
        redis_conn_ids: Airflow connections.
        archives: URLs of locations.
    """
    marks = Marks()
    for conn_id in redis_conn_ids:
        try:
            ahead = redis_marks.leave_mark(conn_id, marks.mark, kept=KEPT)
        except LockError as error:
            marks.errors[conn_id] = error.facts
        else:
            marks.redis_ahead[conn_id] = ahead.total_seconds()
    for location in archives:
        try:
            folder = Folder(location)
            folder.check_connection()
            folder.write(FILE.format(mark=marks.mark), b"")
        except (ArchiveError, JobArgumentError) as error:
            marks.errors[location] = str(error)
        else:
            marks.archives.append(location)
    return marks


def has_file(location: str, mark: str) -> bool:
    """Return whether an archive location has the mark.

    Raises:
        ArchiveError: the location can't be read.
    """
    return FILE.format(mark=mark) in Folder(location).names()


def remove_files(mark: str, locations: Iterable[str]) -> None:
    """Remove a mark from archive locations."""
    for location in locations:
        # A mark that is not there was removed by another machine, or is on the disk of another machine.
        with suppress(ArchiveError):
            Folder(location).remove(FILE.format(mark=mark))
