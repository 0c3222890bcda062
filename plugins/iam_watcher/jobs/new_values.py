"""What `AnonymizeRowsOperator` can set besides a value: `NOW` and `Hashed`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError, shown_at_the_call


class Now:
    """The time of the run; see `NOW`."""

    def __repr__(self) -> str:
        return "NOW"


NOW: Final = Now()
"""The database's time at the begin of the run, for a column that is NULL in rows that the job has not
changed."""


@shown_at_the_call
@dataclass(frozen=True)
class Hashed:
    """A hash of the old value, made with a key. Equal values stay equal.

    Without the key, nobody can compute the old value from the hash. The result is a text of up to 64
    hexadecimal digits, as many as the column holds. NULL stays NULL.

    Attributes:
        column: name of the column whose old value is hashed. Default: the column that is set.
        key_conn_id: id of the Airflow connection whose password is the key, so that equal values stay equal
            over all runs. Default: each try of a run has its own random key, which is not stored.
    """

    column: str | None = None
    key_conn_id: str | None = None

    def __post_init__(self) -> None:
        if self.column is not None and (not isinstance(self.column, str) or not self.column):
            raise JobArgumentError(f"column of a Hashed is {self.column!r}; expected a text, or None")
        if self.key_conn_id is not None:
            arguments.connection_id("key_conn_id of a Hashed", self.key_conn_id)
