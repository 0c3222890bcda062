"""The operator that works on the rows of one table."""

from __future__ import annotations

from typing import Any

from iam_watcher import arguments
from iam_watcher.jobs.database_operator import DatabaseOperator


class TableOperator(DatabaseOperator):
    """Works on the rows of one table. It also takes the arguments of `DatabaseOperator`.

    :param table: name of the table, in the connection's database (schema).
    """

    def __init__(self, *, table: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = table
        arguments.identifier("table", table)
