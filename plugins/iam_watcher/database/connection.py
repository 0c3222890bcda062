"""What a connection has to have, and a cursor whose end does not hide why its block ended."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Connection(Protocol):
    """The part of a PEP 249 connection that is needed; autocommit is off."""

    Error: type[Exception]

    def cursor(self, kind: Any = None) -> Any:
        """Return a new cursor; another kind than that of PEP 249 is MySQLdb's."""

    def commit(self) -> None:
        """Commit."""

    def rollback(self) -> None:
        """Roll back."""

    def close(self) -> None:
        """Close."""


@contextmanager
def open_cursor(connection: Connection) -> Iterator[Any]:
    """Open a cursor, and close it at the end of the block.

    Airflow's alarm and its signals raise wherever the main thread is, also between a statement and its
    answer. The driver then can't close the cursor (error 2014, "Commands out of sync"), and this error would
    take the place of what was raised.
    """
    cursor = connection.cursor()
    try:
        yield cursor
    except BaseException:
        with suppress(connection.Error):
            cursor.close()
        raise
    cursor.close()
