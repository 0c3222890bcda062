"""Making rows anonymous, or marking them deleted: what is set, and which rows are not done."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from iam_watcher.archive.column_formats import has_value
from iam_watcher.archive.format import ArchiveKind
from iam_watcher.archive.row_archive import kept_columns
from iam_watcher.database.column import SHORT_TEXTS
from iam_watcher.errors import TableError
from iam_watcher.jobs.new_values import Hashed, Now
from iam_watcher.jobs.table_job import conditions
from iam_watcher.jobs.table_job.age_column import DATES, DateColumn
from iam_watcher.jobs.table_job.hash_keys import HashKey
from iam_watcher.jobs.table_job.redaction import warn_of_absent
from iam_watcher.jobs.table_job.refused_values import check_new_values
from iam_watcher.jobs.table_job.retention_job import RetentionJob, Update
from iam_watcher.jobs.table_job.side_effects import warn_of_on_update, warn_of_side_effects
from iam_watcher.jobs.table_job.table_job_report import Words
from iam_watcher.jobs.table_job.value_trial import NewValues

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.plan import Plan

LEAST_DIGITS, MOST_DIGITS = 16, 64  # of a hash


@dataclass
class AnonymizeJob(RetentionJob):
    """Sets columns of old rows.

    Attributes:
        new_values: column → what it is set to.
        redact: names of columns whose old values the archive leaves out.
    """

    new_values: Mapping[str, Any]
    redact: Sequence[str]
    _keys: list[HashKey] = field(default_factory=list, init=False)
    _digits: dict[str, int] = field(default_factory=dict, init=False)

    @property
    def words(self) -> Words:
        """What the run report says in the log."""
        return Words(f"rows of {self.table}", "changed", "archive", "the old values can't be restored")

    def plan(self, table: Table, now: datetime) -> Plan:
        """Return the rows to change."""
        if self.location is not None:
            self.archived(table)
        return super().plan(table, now)

    def check(self, db: Transactions, plan: Plan, now: datetime, throttler: Throttler) -> None:
        """Give the session the keys of hashes; warn of triggers; check that the server takes the values."""
        db.run(lambda: self._set_keys(db, plan.table), what="the keys of Hashed")
        self.side_effects = warn_of_side_effects(db, plan.table, self.new_values)
        warn_of_on_update(db, plan.table, self.new_values)
        if self.location is not None:
            warn_of_absent([plan.table], self.redact)
        # Beside NOW, no condition compares the texts with their columns: the first write would fail.
        texts = [
            f"{plan.table.column(name).quoted} <=> %(set{number})s"
            for number, (name, value) in enumerate(self.new_values.items())
            if isinstance(value, str)
        ]
        if texts:
            conditions.rehearse(db, replace(plan, eligible=" AND ".join(texts)), "set")
        # The conditions of these read more than the row itself, so they can't be tried on a sample.
        plain = self.newest is None and self.orphans is None
        check_new_values(db, plan, self._new_values(), self.used_columns(), sample=plain)
        super().check(db, plan, now, throttler)

    def update(self, table: Table, now: datetime) -> Update:
        """Return what is set: the hashes first, since a column that is set has its new value from then on."""
        first, then, values = list[str](), list[str](), dict[str, object]()
        different, mark = list[str](), ""
        self._keys.clear()
        self._digits.clear()
        for number, (name, value) in enumerate(self.new_values.items()):
            column = self._settable(table, name)
            if isinstance(value, Hashed):
                first.append(f"{column.quoted} = {self._hash(table, column, value)}")
                continue
            if value is None:
                then.append(f"{column.quoted} = NULL")
                different.append(f"{column.quoted} IS NOT NULL")
                continue
            bound = f"set{number}"
            then.append(f"{column.quoted} = %({bound})s")
            if isinstance(value, Now):
                table.column(name, DATES)
                # Whole seconds: the undo looks for exactly this time, whatever precision the column has.
                values[bound] = DateColumn(column, self.zone).cut_off(now.replace(microsecond=0))
                mark = f"{column.quoted} IS NULL"
            else:
                values[bound] = conditions.value_to_set(value, column, table, self.zone)
                different.append(f"NOT ({has_value(column, bound)})")
        return Update(", ".join(first + then), values, mark or f"({' OR '.join(different)})")

    def archive_facts(self, plan: Plan) -> dict[str, Any]:
        """Return what a restore of the old values needs to know."""
        facts = super().archive_facts(plan)
        columns = self.new_values.keys() - facts["columns"].keys()
        return {
            **facts,
            "kind": ArchiveKind.CHANGED_ROWS,
            "redacted": sorted(columns),
            "set_to": self._set_to(plan),
            "hashed": dict(self._digits),
        }

    def used_columns(self) -> list[str]:
        """Return also the columns that show which rows are done."""
        return [*super().used_columns(), *self.new_values]

    def archived(self, table: Table) -> list[Column]:
        """Return the key and the columns that are set, but for the redacted ones."""
        wanted = {*table.key.names, *self.new_values}
        return [column for column in kept_columns(table, self.redact) if column.name in wanted]

    def _new_values(self) -> NewValues:
        given = self.new_values
        return NewValues(
            "set",
            bound={
                name: f"set{number}"
                for number, (name, value) in enumerate(given.items())
                if value is not None and not isinstance(value, Hashed)
            },
            null=[name for name, value in given.items() if value is None],
            hashed=[name for name, value in given.items() if isinstance(value, Hashed)],
        )

    def _set_to(self, plan: Plan) -> dict[str, Any]:
        """Return the columns that show whether a row is as this run left it, with their values.

        A hash is not among them, since no value of the plan has it.
        """
        found: dict[str, Any] = {}
        for number, (name, value) in enumerate(self.new_values.items()):
            if isinstance(value, Hashed):
                continue
            stored = None if value is None else plan.change.values.get(f"set{number}")
            if isinstance(stored, bytes):
                found[name] = {"base64": base64.b64encode(stored).decode()}
            else:
                found[name] = stored if stored is None or isinstance(stored, int) else str(stored)
        return found

    def _settable(self, table: Table, name: str) -> Column:
        column, value = table.column(name), self.new_values[name]
        must_be_null = value is None or isinstance(value, Now)
        why = (
            "is in the key, which must not change"
            if name in table.key.names
            else "is computed from other columns"
            if column.generated
            else "is the age column, by which the rows are found"
            if name == self.age_column
            else "can't be NULL"
            if must_be_null and not column.nullable
            else None
        )
        if why is not None:
            raise TableError(f"set has {name}={value!r}, but this column of {table.name} {why}")
        return column

    def _set_keys(self, db: Transactions, table: Table) -> None:
        for key in self._keys:
            key.set(db, table.name)
        db.commit()

    def _hash(self, table: Table, column: Column, value: Hashed) -> str:
        table.column(column.name, SHORT_TEXTS)
        source = table.column(value.column or column.name)
        other = self.new_values.get(source.name)
        if source.name != column.name and isinstance(other, Hashed):
            raise TableError(
                f"set has {column.name}={value!r}, but {source.name} is set to a Hashed as well; hash each "
                "column by itself"
            )
        if source.nullable and not column.nullable:
            raise TableError(
                f"set has {column.name}={value!r}, but {source.name} of {table.name} can be NULL and "
                f"{column.name} can't: the hash of NULL is NULL"
            )
        digits = min(MOST_DIGITS, *column.sizes[:1])
        if digits < LEAST_DIGITS:
            raise TableError(
                f"column {column.name!r} of {table.name} is {column.column_type}; expected {LEAST_DIGITS} "
                "characters or more for a Hashed"
            )
        self._digits[column.name] = digits
        self._keys.append(HashKey.of(value, source, number=len(self._keys)))
        return self._keys[-1].sql(digits)
