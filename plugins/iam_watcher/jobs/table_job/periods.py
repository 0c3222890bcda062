"""The periods of a purge: one for all rows, or one for each kind that another column names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.database.catalogue import read_table
from iam_watcher.errors import JobArgumentError, TableError
from iam_watcher.jobs.conditions import ParentColumn
from iam_watcher.jobs.table_job import conditions
from iam_watcher.jobs.table_job.orphans import parent_key
from iam_watcher.jobs.table_job.period import Period, period

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.age_column import AgeColumn

# The kinds are compared as the column is, since its collation goes before that of a value.
DIFFERENT = (
    "SELECT COUNT(DISTINCT kind) FROM (SELECT {column} AS kind FROM {table} WHERE FALSE {selects}) AS kinds"
)

# The parent's row. In it, the names of columns are those of the parent's table.
OF_PARENT = "EXISTS (SELECT 1 FROM {parents} WHERE {parents}.{parent_key} = {table}.{key} AND {condition})"

COLUMN = "column"
OTHERS = None


@dataclass(frozen=True)
class Periods:
    """How old rows become.

    Attributes:
        others: the period of rows of no named kind; None if they are never old.
        column: the column that has the kind: its name, or one of the parent's row; None if all rows have one
            period.
        kinds: kind → its period.
    """

    others: Period | None
    column: str | ParentColumn | None = None
    kinds: Mapping[Any, Period] | None = None

    def __bool__(self) -> bool:
        """Return whether a period is longer than 0."""
        return any([self.others, *(self.kinds or {}).values()])

    def cut_offs(self, now: datetime, zone: ZoneInfo) -> list[datetime]:
        """Return the cut-offs: first the latest of all, then those of `kinds`, then that of the others.

        A period of 0 has none: rows of such a kind stay.
        """
        if self.column is None:
            return [(self.others or Period()).before(now, zone)]
        each = [one.before(now, zone) for one in self._each if one]
        return [max(each), *each]

    def read_parents(self, db: Transactions) -> Table | None:
        """Return the table of the parents, if one of their columns has the kind.

        Raises:
            TableError: there is none, or a walk could not go along its key.
        """
        return read_table(db, self.column.table) if isinstance(self.column, ParentColumn) else None

    def old(
        self, age: AgeColumn, table: Table, zone: ZoneInfo, parents: Table | None = None
    ) -> tuple[str, dict[str, object]]:
        """Return the condition for old rows, with the numbers of `cut_offs`, and the values of the kinds.

        Args:
            age: of the rows.
            table: of the rows.
            zone: of times that name none.
            parents: what `read_parents` returns.

        Raises:
            TableError: the column can't have a kind.
        """
        valid = f" AND {age.valid}" if age.valid else ""
        if self.column is None:
            return age.before() + valid, {}
        parts, values = list[str](), dict[str, object]()
        named = [(kind, one) for kind, one in (self.kinds or {}).items()]
        for kind, one in named:
            condition, value = self._condition("=", kind, table, parents, zone, f"kind{len(values)}_")
            values |= value
            if one:
                parts.append(f"({condition} AND {age.before(len(parts) + 1)})")
        if self.others:
            kinds = [kind for kind, _ in named]
            condition, value = self._condition("in", kinds, table, parents, zone, "kinds_")
            values |= value
            # Also of a row without a kind, or without a parent.
            parts.append(f"(({condition}) IS NOT TRUE AND {age.before(len(parts) + 1)})")
        return f"{age.before(0)} AND ({' OR '.join(parts)}){valid}", values

    def _condition(  # noqa: PLR0917
        self,
        operator: str,
        value: object,
        table: Table,
        parents: Table | None,
        zone: ZoneInfo,
        prefix: str,
    ) -> tuple[str, dict[str, object]]:
        """Return the condition for rows of a kind, and its values."""
        if parents is None or not isinstance(self.column, ParentColumn):
            return conditions.as_sql([(self.column_name, operator, value)], table, zone, prefix)
        key, parents_key = parent_key("older_than", table, self.column.key, parents)
        condition, values = conditions.as_sql([(self.column_name, operator, value)], parents, zone, prefix)
        found = OF_PARENT.format(
            parents=parents.quoted,
            parent_key=parents_key.quoted,
            table=table.quoted,
            key=key.quoted,
            condition=condition,
        )
        return found, values

    @property
    def column_name(self) -> str:
        """The name of the column that has the kind, in its own table."""
        return self.column.name if isinstance(self.column, ParentColumn) else str(self.column)

    def check(self, db: Transactions, table: Table) -> None:
        """Check that no two kinds are equal for the column: the shorter period would be that of both.

        Args:
            db: where.
            table: that has the column.

        Raises:
            TableError: two are.
        """
        if self.column is None or not self.kinds:
            return
        names = {f"kind{number}": kind for number, kind in enumerate(self.kinds)}
        selects = " ".join(f"UNION ALL SELECT %({name})s" for name in names)
        query = DIFFERENT.format(
            table=table.quoted, column=table.column(self.column_name).quoted, selects=selects
        )

        def ask() -> int:
            ((different,),) = db.read(query, names)
            db.commit()
            return int(different)

        if db.run(ask, what=f"the kinds in {self.column_name}") < len(names):
            raise TableError(
                f"older_than has the kinds {', '.join(map(repr, self.kinds))}; for column "
                f"{self.column_name!r} of {table.name} some of them are equal. Name each kind once"
            )

    @property
    def _each(self) -> list[Period]:
        return [*(self.kinds or {}).values(), *([self.others] if self.others is not None else [])]


def periods(name: str, value: object) -> Periods:
    """Return the periods that an argument names.

    Raises:
        JobArgumentError: it is no period, and no {"column": …, kind: period}.
    """
    if not isinstance(value, dict):
        return Periods(period(name, value))
    rest = dict(value)
    column: Any = rest.pop(COLUMN, None)
    for part in (column.name, column.table, column.key) if isinstance(column, ParentColumn) else (column,):
        arguments.identifier(f"{name}['column']", part)
    found = {kind: period(name, one) for kind, one in rest.items()}
    others = found.pop(OTHERS, None)
    if not found:
        raise JobArgumentError(
            f"{name} is {value!r}; expected a kind and its period, such as "
            '{"column": "level", "debug": "3d"}'
        )
    of = column.name if isinstance(column, ParentColumn) else column
    conditions.check([(of, "=", kind) for kind in found])
    return Periods(others, column, found)
