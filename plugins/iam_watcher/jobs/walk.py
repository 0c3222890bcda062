"""Walks a table along its integer key and deletes or updates the rows it is told to, in short transactions.

Behaviour:
1. It reads the smallest and the largest key once. Rows that come later wait for the next walk.
2. A chunk begins with a probe: a read without locks that finds at most `rows` keys to write within the
   next `span` keys. Then one statement writes them and repeats the condition, so a row that changed
   between the two is left alone. Then it commits.
3. `rows` and `span` follow the time that chunks take, so a transaction stays near `Pace.target` seconds.
4. It can be stopped between two transactions, and nowhere else: see `Transactions`.
5. A chunk that meets a lock wait time-out, a deadlock or a statement time-out is rolled back and tried
   again with half the rows. Trying again is safe: the rows that are done don't match any more.

It does not follow the order of ages and so never stops early: the order of the keys is another one.
It knows nothing of Airflow.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from iam_watcher.jobs.pace import PACES, ChunkSize, Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iam_watcher.jobs.transaction import Transactions

logger = logging.getLogger(__name__)

# The keys to walk between.
EDGES = "SELECT MIN({key}), MAX({key}) FROM {table}"

# The next keys to write, and for rows that are only counted the reason why.
PROBE = (
    "SELECT {key}, {reason} FROM {table} FORCE INDEX (PRIMARY)"
    " WHERE {key} > %(after)s AND {key} <= %(upto)s AND ({wanted}) ORDER BY {key} LIMIT %(limit)s"
)

# What a span of keys holds, without writing: one number for each condition.
TALLY = (
    "SELECT COUNT(*){sums} FROM {table} FORCE INDEX (PRIMARY) WHERE {key} > %(after)s AND {key} <= %(upto)s"
)

# A few rows of a span that would be written.
EXAMPLES = (
    "SELECT {key}, {age} FROM {table} FORCE INDEX (PRIMARY)"
    " WHERE {key} > %(after)s AND {key} <= %(upto)s AND ({predicate}) ORDER BY {key} LIMIT %(limit)s"
)

# Writes the keys of a probe that lie close together, by their range: the shortest statement.
WRITE_RANGE = "{write} WHERE {key} BETWEEN %(first)s AND %(last)s AND ({predicate})"

# Writes the keys of a probe that lie far apart.
WRITE_LIST = "{write} WHERE {key} IN ({keys}) AND ({predicate})"

# How many rows this session has asked the storage engine for, by key order.
READS = (
    "SHOW SESSION STATUS WHERE Variable_name IN"
    " ('Handler_read_first', 'Handler_read_key', 'Handler_read_next')"
)

MOST_EXAMPLES = 5
DENSE = 10  # a range is written as such if at least one key in so many is to be written
PROGRESS_EVERY = 10.0  # seconds

Result = TypeVar("Result")


@dataclass(frozen=True)
class Rows:
    """Which rows of a table are to be written, and how.

    All text is SQL that the caller vouches for; values stand in it as `%(name)s`. The names after,
    upto, limit, first and last belong to the walk.

    Attributes:
        table: quoted name.
        key: quoted name of its primary key, one integer column.
        predicate: the condition for a row to be written.
        write: `DELETE FROM …` or `UPDATE … SET …`, without WHERE; a written row must not match
            `predicate` any more.
        values: of the placeholders.
        left_out: reason → condition of the rows that are counted under that reason and not written.
            No row may match two of them, or one of them and `predicate`.
    """

    table: str
    key: str
    predicate: str
    write: str
    values: Mapping[str, object] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Walked:
    """What a walk has done or, as a tally, would do so far.

    Attributes:
        examined: rows that were looked at.
        matched: rows that were to be written.
        changed: rows that were written and committed.
        skipped: reason → rows that were counted and not written; `changed_meanwhile` are rows that
            did not match any more when they were to be written.
        chunks: transactions that wrote.
        longest_chunk: seconds of the longest of them, its probe included.
        position: the key up to which everything is done; None before the first chunk.
        also: name → rows that a tally was to count besides.
        examples: key and age of a few rows that a tally found to match.
    """

    examined: int = 0
    matched: int = 0
    changed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    longest_chunk: float = 0.0
    position: int | None = None
    also: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[int, Any]] = field(default_factory=list)


class Walk:
    """One walk over one table.

    Args:
        transactions: on the database.
        rows: what to write.
        pace: how hard to work.
        before_write: called before each statement that writes; what it raises ends the walk.

    Attributes:
        done: what it has done so far, also after an error stopped it.
    """

    def __init__(
        self,
        transactions: Transactions,
        rows: Rows,
        *,
        pace: Pace = PACES["fast"],
        before_write: Callable[[], None] = lambda: None,
    ) -> None:
        self.done = Walked()
        self._db = transactions
        self._rows = rows
        self._pace = pace
        self._before_write = before_write
        self._size = ChunkSize(pace.target)
        self._progress_at = 0.0

    def write(self) -> Walked:
        """Write every row that matches, and return what was done.

        Raises:
            WalkError: a chunk failed too often, or in a way that trying again can't mend.
        """
        self._each_chunk(self._write_chunk)
        return self.done

    def tally(self, also: Mapping[str, str] | None = None, *, age: str = "NULL") -> Walked:
        """Count what `write` would do, without writing, and return it.

        Args:
            also: name → condition of rows to be counted besides, into `Walked.also`.
            age: SQL for the age of a row, for the examples.

        Raises:
            WalkError: as `write`.
        """
        rows, done = self._rows, self.done
        names = {"matched": rows.predicate, **rows.left_out, **(also or {})}
        sums = [f", SUM(CASE WHEN {condition} THEN 1 ELSE 0 END)" for condition in names.values()]
        query = TALLY.format(sums="".join(sums), table=rows.table, key=rows.key)
        example = EXAMPLES.format(table=rows.table, key=rows.key, age=age, predicate=rows.predicate)

        def count_chunk(after: int, end: int) -> int:
            upto = min(after + self._size.span, end)
            values = {**rows.values, "after": after, "upto": upto}
            began = time.monotonic()
            examined, *numbers = (int(number or 0) for number in self._db.read(query, values)[0])
            self._size.read(time.monotonic() - began, whole_span=True)
            counts = dict(zip(names, numbers, strict=True))
            wanted = MOST_EXAMPLES - len(done.examples) if counts["matched"] else 0
            examples = self._db.read(example, {**values, "limit": wanted}) if wanted else ()
            self._db.commit()
            done.examined += examined
            done.matched += counts["matched"]
            done.skipped.update({reason: counts[reason] for reason in rows.left_out if counts[reason]})
            done.also.update({name: counts[name] for name in also or {}})
            done.examples.extend(examples)
            return upto

        self._each_chunk(count_chunk)
        return done

    def _each_chunk(self, chunk: Callable[[int, int], int]) -> None:
        """Call `chunk(after, end)`, which returns the key up to which it did everything, to the end."""
        edges = self._run(self._edges)
        if edges is None:
            return
        first, last = edges
        self._progress_at = time.monotonic() + PROGRESS_EVERY
        begin = after = first - 1
        while after < last:
            began = time.monotonic()
            after = self._run(lambda after=after: chunk(after, last))  # type: ignore[misc]
            self.done.position = after
            self._log_progress((after - begin) / (last - begin))
            self._db.nap(self._pace.rest(time.monotonic() - began))

    def _edges(self) -> tuple[int, int] | None:
        ((first, last),) = self._db.read(EDGES.format(table=self._rows.table, key=self._rows.key))
        self._db.commit()
        return None if first is None else (first, last)

    def _write_chunk(self, after: int, end: int) -> int:
        db, size, done = self._db, self._size, self.done
        limit, upto = size.rows, min(after + size.span, end)
        began = time.monotonic()
        reads = self._reads()
        found = db.read(self._probe(), {**self._rows.values, "after": after, "upto": upto, "limit": limit})
        full = len(found) == limit
        size.read(time.monotonic() - began, whole_span=not full)
        # The engine was also asked for the row after the last one, unless the limit came first.
        examined = self._reads() - reads - (0 if full else 1)
        keys = [key for key, reason in found if reason is None]
        if keys:
            changed = self._write_keys(keys)
        else:
            changed = 0
            db.commit()
        done.examined += max(examined, len(found))
        # A row may begin to match between probe and write, so a range can change more than was found.
        done.matched += max(len(keys), changed)
        done.changed += changed
        done.skipped.update(reason for _, reason in found if reason is not None)
        if changed < len(keys):
            done.skipped["changed_meanwhile"] += len(keys) - changed
        if keys:
            done.chunks += 1
            done.longest_chunk = max(done.longest_chunk, time.monotonic() - began)
        return int(found[-1][0]) if full else upto

    def _write_keys(self, keys: list[int]) -> int:
        self._before_write()
        began = time.monotonic()
        rows, first, last = self._rows, keys[0], keys[-1]
        parts = {"write": rows.write, "key": rows.key, "predicate": rows.predicate}
        if len(keys) * DENSE >= last - first + 1:
            query = WRITE_RANGE.format(**parts)
        else:
            query = WRITE_LIST.format(**parts, keys=",".join(map(str, keys)))
        changed = self._db.change(query, {**rows.values, "first": first, "last": last})
        self._db.commit()
        self._size.wrote(len(keys), time.monotonic() - began)
        return changed

    def _probe(self) -> str:
        rows = self._rows
        cases = " ".join(f"WHEN {condition} THEN '{why}'" for why, condition in rows.left_out.items())
        return PROBE.format(
            table=rows.table,
            key=rows.key,
            reason=f"CASE {cases} END" if cases else "NULL",
            wanted=" OR ".join(f"({condition})" for condition in (rows.predicate, *rows.left_out.values())),
        )

    def _reads(self) -> int:
        return sum(int(value) for _, value in self._db.read(READS))

    def _run(self, transaction: Callable[[], Result]) -> Result:
        verb = self._rows.write.split()[0]
        what = f"{verb} on {self._rows.table} after {self._rows.key} {self.done.position}"
        return self._db.run(transaction, what=what, before_retry=self._size.halve)

    def _log_progress(self, share: float) -> None:
        if time.monotonic() < self._progress_at:
            return
        self._progress_at = time.monotonic() + PROGRESS_EVERY
        done = self.done
        logger.info(
            "event=progress table=%s examined=%d changed=%d walked=%.1f%% rows_per_chunk=%d",
            self._rows.table,
            done.examined,
            done.changed,
            100 * share,
            self._size.rows,
        )
