"""Drops partitions that are old as a whole: their rows are not deleted one by one.

A partition is old if its range ends at or before the cut-off, and not before 1980. Its rows are counted
first: if one of them stays, such as a row without an age, the partition is left to the walk.
`database.detached_table` has the steps of the drop. The walk follows, and deletes the old rows of the other
partitions. One class has the checks and what follows from them, so that one reader can follow a partition:
hence the length.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from iam_watcher.database.detached_table import DetachedTable, detached_name, left_behind
from iam_watcher.database.partitions import read_partitions
from iam_watcher.database.table_lock import TableLock
from iam_watcher.errors import ArchiveError, JobError
from iam_watcher.jobs.table_job.age_column import DateColumn
from iam_watcher.jobs.table_job.table_job_report import partitions_named
from iam_watcher.log_lines import get_logger
from iam_watcher.walk.count import count_rows
from iam_watcher.walk.record import record_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from iam_watcher.archive.row_archive import RowArchive
    from iam_watcher.database.connection import Connection
    from iam_watcher.database.partitions import Partition
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.table_job.age_column import AgeColumn
    from iam_watcher.jobs.table_job.plan import Plan
    from iam_watcher.walk.pace import Pace
    from iam_watcher.walk.progress import ProgressReporter
    from iam_watcher.walk.row_change import RowChange, WalkResult

logger = get_logger(__name__)

# Whether a partition ends at or before a moment. The bound may be a day where the moment is none.
DATE_ENDS_BY = "SELECT CAST({end} AS DATETIME(6)) <= CAST(%(moment)s AS DATETIME(6))"
NUMBER_ENDS_BY = "SELECT {end} <= %(moment)s"

AGELESS = "SELECT 1 FROM {rows} FORCE INDEX ({index}) WHERE {condition} LIMIT 1"


class PartitionDrop:
    """The partitions of a table that are old as a whole, and how they are dropped.

    Args:
        db: the transactions.
        plan: of the purge.
        age: the age column.
        connect: returns another connection to the same server.
        archive_of: returns what archives the rows of a change; None for no archive.
        pace: how hard to work.
        throttler: waits while the server is busy.
        reporter: gets the progress.
    """

    def __init__(
        self,
        db: Transactions,
        plan: Plan,
        age: AgeColumn,
        connect: Callable[[], Connection],
        *,
        archive_of: Callable[[RowChange], RowArchive] | None,
        pace: Pace,
        throttler: Throttler,
        reporter: ProgressReporter,
    ) -> None:
        self._db = db
        self._plan = plan
        self._age = age
        self._connect = connect
        self._archive_of = archive_of
        self._pace = pace
        self._throttler = throttler
        self._reporter = reporter

    def expected(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the partitions that a run would drop, with their rows, and what else would become of them.

        The partitions are `{"partition", "rows"}`; the texts are ends of "The real run would …".
        """
        found, texts = list[dict[str, Any]](), list[str]()
        name = self._plan.table.name
        earlier = self._db.run(
            lambda: left_behind(self._db, name),
            what="a look for a detached partition",
        )
        if earlier is not None:
            texts.append(
                f"go on with the partition {earlier}, whose rows an earlier run left in {detached_name(name)}"
            )
        for partition, _ in self._old():
            counted = self._count(self._rows_of(partition))
            if stay := counted.examined - counted.matched:
                texts.append(f"not drop the partition {partition.name}: {stay:,} of its rows stay")
            else:
                found.append({"partition": partition.name, "rows": counted.examined})
        if found:
            rows, names = sum(one["rows"] for one in found), [one["partition"] for one in found]
            texts.insert(0, f"drop {rows:,} of these rows with {partitions_named(names)}")
        return found, texts

    def run(
        self,
        before_write: Callable[[], None],
        is_over: Callable[[], bool],
        dropped: Callable[[str, int], None],
    ) -> None:
        """Drop the partitions, each after the one before it; first the one that an earlier run has left.

        Args:
            before_write: called before each change; what it raises ends the run.
            is_over: returns whether to begin with no other partition.
            dropped: called with the name of a partition and the number of its rows when the rows are gone.

        Raises:
            WalkError: others used the table for too long, or a statement failed.
            ArchiveError: the rows could not be archived. They are in their partition again, if possible.
        """
        database, table = self._plan.table.database, self._plan.table.name
        detached = DetachedTable(self._db, database, table, TableLock(self._db, self._connect))
        earlier = detached.find()
        if earlier is not None:
            if detached.has_rows:
                logger.warning(
                    "An earlier run was interrupted while it dropped the partition %s of %s. This run goes "
                    "on with its rows, which are in %s",
                    earlier,
                    table,
                    detached.name,
                )
                self._finish(detached, earlier, before_write, dropped)
            else:
                detached.drop()
        for partition, begins_early in self._old():
            if is_over():
                break
            if stay := self._staying(partition, begins_early=begins_early):
                logger.warning(
                    "The partition %s of %s is not dropped, because %s. The others are deleted one by one",
                    partition.name,
                    table,
                    stay,
                )
            else:
                self._drop(detached, partition, before_write, dropped)
        detached.release()

    def _staying(self, partition: Partition, *, begins_early: bool) -> str | None:
        """Return why a partition can't be dropped as a whole; None if nothing is known against it.

        Only a partition that begins before FIRST_TIME takes rows without an age. In the others all rows are
        as old as the bounds say, unless a value of that range is no time, or an archive can't bring a row
        back. `_finish` checks each row again when no row can be added any more; this check spares a partition
        the exchange.
        """
        refusal = None
        if self._archive_of is not None:
            refusal = self._archive_of(self._change(self._rows_of(partition))).refusal
        if refusal is None and not self._age.valid:
            if not begins_early:
                return None
            if self._plan.table.key.names[0] == self._age.column.name:
                return "rows without an age are in it" if self._has_ageless(partition) else None
        counted = self._count(self._rows_of(partition), refusal)
        stay = counted.examined - counted.matched + counted.also["refused"]
        return f"{stay} of its {counted.examined} rows stay" if stay else None

    def _has_ageless(self, partition: Partition) -> bool:
        """Return whether a row without an age is in a partition; the key begins with the age."""
        change = self._plan.change
        query = AGELESS.format(
            rows=self._rows_of(partition),
            index=change.key.index,
            condition=" OR ".join(f"({condition})" for condition in change.left_out.values()),
        )

        def ask() -> bool:
            found = self._db.read(query, change.values)
            self._db.commit()
            return bool(found)

        return self._db.run(ask, what=f"rows without an age in {partition.name}")

    def _drop(
        self,
        detached: DetachedTable,
        partition: Partition,
        before_write: Callable[[], None],
        dropped: Callable[[str, int], None],
    ) -> None:
        name = partition.name
        before_write()
        detached.create(name)
        try:
            exchanged = detached.exchange(name)
        except JobError:
            with suppress(JobError):  # The first error is the one to report; the next run drops it too.
                detached.drop_empty()
            raise
        if exchanged:
            self._finish(detached, name, before_write, dropped)
        else:
            detached.drop_empty()

    def _finish(
        self,
        detached: DetachedTable,
        name: str,
        before_write: Callable[[], None],
        dropped: Callable[[str, int], None],
    ) -> None:
        """Check and archive the rows of the detached table, then drop it and its partition."""
        change, archived = self._change(detached.quoted), None
        try:
            if self._archive_of is not None:
                archived = record_rows(
                    self._db,
                    change,
                    self._archive_of(change),
                    pace=self._pace,
                    throttler=self._throttler,
                    reporter=self._reporter,
                )
        except ArchiveError:
            with suppress(JobError):  # The next run goes on.
                detached.reattach(name)
            raise
        counted = self._count(detached.quoted)
        table, rows = self._plan.table.name, counted.examined
        if counted.matched != rows or archived not in {None, rows}:
            # One came in the last moment before the exchange, or the period was made longer since.
            detached.reattach(name)
            logger.warning(
                "The partition %s of %s is not dropped, because some of its rows stay: rows=%d old=%d "
                "archived=%s. The rows are in the partition again",
                name,
                table,
                rows,
                counted.matched,
                archived,
            )
            return
        before_write()
        detached.drop()
        dropped(name, rows)
        if detached.drop_partition(name):
            logger.info("The partition %s of %s was dropped with %d rows", name, table, rows)
        else:
            logger.info(
                "The %d rows of the partition %s of %s were dropped. The partition stays until a later run, "
                "because it has new rows",
                rows,
                name,
                table,
            )

    def _old(self) -> list[tuple[Partition, bool]]:
        """Return the partitions that end at or before the cut-off, and whether each begins before FIRST_TIME.

        In those that end before FIRST_TIME no row has an age: they stay. The last one takes new rows, and
        stays.
        """
        cut_off = self._plan.change.values["cut_off0"]
        query = DATE_ENDS_BY if isinstance(self._age, DateColumn) else NUMBER_ENDS_BY

        def ask() -> list[tuple[Partition, bool]]:
            found, old = read_partitions(self._db, self._plan.table.name), []

            def ends_by(partition: Partition, moment: object) -> bool:
                values = {"bound": partition.bound, "moment": moment}
                ((answer,),) = self._db.read(query.format(end=found.end), values)
                return bool(answer)

            begins_early = True
            for partition in found.all[:-1]:
                if not ends_by(partition, cut_off):
                    break
                ends_early = ends_by(partition, self._age.first)
                if not ends_early:
                    old.append((partition, begins_early))
                begins_early = ends_early
            self._db.commit()
            return old

        return self._db.run(ask, what=f"partitions of {self._plan.table.name}")

    def _count(self, rows: str, refusal: str | None = None) -> WalkResult:
        """Count rows, those that are old, and of these the ones that an archive could not bring back."""
        change = self._change(rows)
        also = {} if refusal is None else {"refused": f"({change.predicate}) AND {refusal}"}
        return count_rows(
            self._db,
            change,
            also=also,
            pace=self._pace,
            throttler=self._throttler,
            reporter=self._reporter,
        )

    def _change(self, rows: str) -> RowChange:
        return replace(self._plan.change, table=rows)

    def _rows_of(self, partition: Partition) -> str:
        return f"{self._plan.table.quoted} PARTITION ({partition.quoted})"
