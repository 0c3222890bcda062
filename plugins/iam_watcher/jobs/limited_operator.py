"""The operator that works on the rows of one table, with a row limit and a time limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.jobs.table_operator import TableOperator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta


class LimitedOperator(TableOperator):
    """Works on the rows of a table until a limit is reached.

    It also takes the arguments of `TableOperator` and `DatabaseOperator`.

    :param max_rows: row limit: work on at most this number of rows. (templated)
    :param time_budget: time limit of one try: after this time, begin no new transaction.
    """

    template_fields: Sequence[str] = (*TableOperator.template_fields, "max_rows")

    def __init__(
        self,
        *,
        max_rows: int | str | None = None,
        time_budget: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_rows = max_rows
        self._has_row_limit = max_rows is not None
        self.time_budget = time_budget
        arguments.check_literal(arguments.row_count, "max_rows", max_rows)
        if time_budget is not None:
            arguments.duration("time_budget", time_budget)

    @property
    def row_limit(self) -> int | None:
        """The row limit of this run.

        Raises:
            JobArgumentError: it is not valid, or its template was rendered to None.
        """
        given = "None" if self._has_row_limit and self.max_rows is None else self.max_rows
        return arguments.row_count("max_rows", given)
