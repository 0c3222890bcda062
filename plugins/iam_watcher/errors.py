"""All errors that iam-watcher raises itself, in one tree of classes.

The first line of a class's docstring is the beginning of the message. The facts follow: the value that was
given, what was expected, and what to do. The operators decide which errors end a task without a retry.
"""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from iam_watcher.log_lines import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = TypeVar("Kind", bound=type)


class IamWatcherError(Exception):
    """iam-watcher failed."""

    def __init__(self, facts: str = "") -> None:
        self.facts = facts
        headline = (type(self).__doc__ or "").splitlines()[0].rstrip(".")
        super().__init__(one_line(f"{headline}: {facts}") if facts else headline)


class SettingsError(IamWatcherError):
    """The settings are not valid."""


class InstalledTwice(IamWatcherError):  # noqa: N818  a state, named as one
    """iam-watcher is here twice: in the plugins folder and as an installed package."""


class UntestedAirflow(IamWatcherError, ImportError):  # noqa: N818  a state, named as one
    """iam-watcher was not tested with this version of Airflow."""


class WatcherError(IamWatcherError):
    """This Watcher can't be built."""


class RunConfError(IamWatcherError):
    """The conf of this run is not valid; nothing was changed."""


class InvalidSpec(IamWatcherError, ValueError):  # noqa: N818  the public name, see docs
    """The schedule is not valid."""

    def __init__(self, spec: str, *, field: str, part: str, expected: str) -> None:
        self.spec = spec
        self.field = field
        self.part = part
        self.expected = expected
        super().__init__(f"in {spec!r}, {field}: {part!r}; expected {expected}")


class LockError(IamWatcherError):
    """The lock failed."""


class LockUnavailable(LockError):  # noqa: N818  a state, named as one
    """Redis can't be asked for the lock."""


class LockLost(LockError):  # noqa: N818  a state, named as one
    """The run lost the lock while it worked."""


class LockBusy(LockError):  # noqa: N818  a state, named as one
    """Someone else holds the lock."""

    def __init__(self, holder: object, key: str) -> None:
        """Store the `Holder`, or None if the key has become free."""
        self.holder = holder
        super().__init__(str(holder) if holder else f"{key!r} was held by another a moment ago")


class DeploymentIdError(LockError):
    """The deployment id is missing or not valid."""


class NoticeError(IamWatcherError):
    """The notice was not sent."""


class JobError(IamWatcherError):
    """The job can't go on."""


class JobArgumentError(JobError, ValueError):
    """An argument of the job is not valid."""


class DatabaseUnavailable(JobError):  # noqa: N818  a state, named as one
    """The database can't be reached."""


class ConnectionRefused(DatabaseUnavailable):
    """The database connection can't be used."""


class TableError(JobError):
    """The job can't work on this table."""


class ClockError(JobError):
    """The clocks of the database and of this worker differ."""


class SafetyLimitError(JobError):
    """The safety limit stopped the run; this try changed nothing."""


class WalkError(JobError):
    """The walk stopped before its end."""


class HalfDone(WalkError):  # noqa: N818  a state, named as one
    """A row stays, and rows that belonged to it are deleted."""


class RowsFailing(JobError):  # noqa: N818  a state, named as one
    """Too many rows in a row failed in the same way."""


class RowFailed(IamWatcherError):  # noqa: N818  an outcome, which a function raises for its row
    """The row can't be processed."""


class ValueTooLarge(RowFailed):
    """The server can't send a value of the row."""


class RowNotReady(IamWatcherError):  # noqa: N818  an outcome, which a function raises for its row
    """The row is not ready to be processed.

    Args:
        after: time until the next try. Default: the job's `backoff`. If the table has no column for the time
            of the next try, the next run tries again.
    """

    def __init__(self, after: timedelta | None = None) -> None:
        if after is not None and not (isinstance(after, timedelta) and after >= timedelta(0)):
            raise TypeError(f"after is {after!r}; expected a timedelta of 0 or more")
        self.after = after
        super().__init__("" if after is None else f"try again after {after}")


class WrongResult(IamWatcherError, TypeError):  # noqa: N818  counted by its name, beside what functions raise
    """The function returned a result that can't be written to its row."""


class AnnouncementError(JobError):
    """A message could not be published; the next run publishes it."""


class TickDropped(IamWatcherError):  # noqa: N818  a decision, not a fault
    """The scheduler creates no run for this scheduled time."""


class DatabaseLockTaken(JobError):  # noqa: N818  a state, named as one
    """Another session holds the database lock."""


class CommandFailed(JobError):  # noqa: N818  the outcome of the command, named as one
    """The command failed."""


class ArchiveError(JobError):
    """The archive can't be used."""


class ArchiveDamaged(ArchiveError):  # noqa: N818  a state, named as one
    """The archive is damaged."""


def shown_at_the_call(kind: Kind) -> Kind:
    """Return a dataclass whose errors show the line that makes the object.

    Airflow shows the last two lines of a traceback. Without this, both lines would be in the dataclass.
    """
    init: Callable[..., None] = vars(kind)["__init__"]

    @functools.wraps(init)
    def checked(self: object, *arguments: Any, **keywords: Any) -> None:
        try:
            init(self, *arguments, **keywords)
        except (TypeError, ValueError, IamWatcherError) as error:
            raise error.with_traceback(None)  # noqa: B904  it is the error itself

    type.__setattr__(kind, "__init__", checked)
    return kind
