"""The periods of a purge: one for all rows, or one for each kind that another column names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.errors import JobArgumentError, TableError
from iam_watcher.jobs.table_job import conditions
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

COLUMN = "column"
OTHERS = None


@dataclass(frozen=True)
class Periods:
    """How old rows become.

    Attributes:
        others: the period of rows of no named kind; None if they are never old.
        column: name of the column that has the kind; None if all rows have one period.
        kinds: kind → its period.
    """

    others: Period | None
    column: str | None = None
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

    def old(self, age: AgeColumn, table: Table, zone: ZoneInfo) -> tuple[str, dict[str, object]]:
        """Return the condition for old rows, with the numbers of `cut_offs`, and the values of the kinds.

        Raises:
            TableError: the column can't have a kind.
        """
        valid = f" AND {age.valid}" if age.valid else ""
        if self.column is None:
            return age.before() + valid, {}
        parts, values = list[str](), dict[str, object]()
        named = [(kind, one) for kind, one in (self.kinds or {}).items()]
        column = table.column(self.column).quoted
        for kind, one in named:
            condition, value = conditions.as_sql(
                [(self.column, "=", kind)], table, zone, f"kind{len(values)}_"
            )
            values |= value
            if one:
                parts.append(f"({condition} AND {age.before(len(parts) + 1)})")
        if self.others:
            condition, value = conditions.as_sql(
                [(self.column, "not in", [kind for kind, _ in named])], table, zone, "kinds_"
            )
            values |= value
            parts.append(f"(({condition} OR {column} IS NULL) AND {age.before(len(parts) + 1)})")
        return f"{age.before(0)} AND ({' OR '.join(parts)}){valid}", values

    def check(self, db: Transactions, table: Table) -> None:
        """Check that no two kinds are equal for the column: the shorter period would be that of both.

        Raises:
            TableError: two are.
        """
        if self.column is None or not self.kinds:
            return
        names = {f"kind{number}": kind for number, kind in enumerate(self.kinds)}
        selects = " ".join(f"UNION ALL SELECT %({name})s" for name in names)
        query = DIFFERENT.format(table=table.quoted, column=table.column(self.column).quoted, selects=selects)

        def ask() -> int:
            ((different,),) = db.read(query, names)
            db.commit()
            return int(different)

        if db.run(ask, what=f"the kinds in {self.column}", before_retry=lambda: None) < len(names):
            raise TableError(
                f"older_than has the kinds {', '.join(map(repr, self.kinds))}; for column {self.column!r} of "
                f"{table.name} some of them are equal. Name each kind once"
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
    column = arguments.identifier(f"{name}['column']", rest.pop(COLUMN, None))
    found = {kind: period(name, one) for kind, one in rest.items()}
    others = found.pop(OTHERS, None)
    if not found:
        raise JobArgumentError(
            f"{name} is {value!r}; expected a kind and its period, such as "
            '{"column": "level", "debug": "3d"}'
        )
    conditions.check([(column, "=", kind) for kind in found])
    return Periods(others, column, found)
