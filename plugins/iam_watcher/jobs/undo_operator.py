"""The operator that undoes what a run did, by the files that the run wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.archive.location import location_or_configured
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.database_operator import DatabaseOperator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class UndoOperator(DatabaseOperator):
    """Undoes a run, from its archive or its undo record. It also takes the arguments of `DatabaseOperator`.

    :param location: URL of the location of archives and undo records: the folder of the run must be below it.
        Default: `[iam_watcher] archive`. (templated)
    :param from_database: name of the database (schema) that the run changed, if the job undoes it in another
        one. Default: the database of `mysql_conn_id`. (templated)
    """

    template_fields: Sequence[str] = ("location", "from_database", *DatabaseOperator.template_fields)

    def __init__(
        self, *, location: str | None = None, from_database: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.location = location
        self.from_database = from_database
        if from_database is not None:
            arguments.check_literal(arguments.text, "from_database", from_database)
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

    def check_databases(self, url: str, manifests: Iterable[Mapping[str, Any]], database: str) -> None:
        """Check that a run changed the database in which this job undoes it.

        Args:
            url: of the run's folder.
            manifests: of the run's tries. Without a name of a database, there is nothing to compare.
            database: name of the one that the job is connected with.

        Raises:
            JobArgumentError: it was another one.
        """
        expected = database if self.from_database in {None, "", "None"} else self.from_database
        for manifest in manifests:
            changed = manifest.get("database", expected)
            if changed != expected:
                raise JobArgumentError(
                    f"{url} is of a run in the database {changed!r}; expected {expected!r}. To undo it in "
                    f"{database!r} all the same, set from_database={changed!r}"
                )
