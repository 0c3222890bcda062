"""The operator that undoes what a run did, by the files that the run wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.archive.location import location_or_configured
from iam_watcher.jobs.database_operator import DatabaseOperator

if TYPE_CHECKING:
    from collections.abc import Sequence


class UndoOperator(DatabaseOperator):
    """Undoes a run, from its archive or its undo record. It also takes the arguments of `DatabaseOperator`.

    :param location: URL of the location of archives and undo records: the folder of the run must be below it.
        Default: `[iam_watcher] archive`. (templated)
    """

    template_fields: Sequence[str] = ("location", *DatabaseOperator.template_fields)

    def __init__(self, *, location: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.location = location
        arguments.check_literal(arguments.location, "location", location)

    def below_location(self, name: str, folder: object) -> tuple[str, str]:
        """Return the URL of the folder that an argument names, and the URL of the location.

        Args:
            name: the argument, for errors.
            folder: its rendered value: a URL below the location, or the part of it that follows the location.

        Raises:
            JobArgumentError: no location is set, or the folder is not below it.
        """
        location = location_or_configured(self.location)
        return arguments.below(name, folder, location), location
