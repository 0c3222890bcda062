"""Counts what a walk would do, without writing: for a dry run, and for the safety limit."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from iam_watcher.walk.key_order import KeyOrder
from iam_watcher.walk.pace import PACES, ChunkSize, Pace
from iam_watcher.walk.progress import ProgressReporter
from iam_watcher.walk.row_change import RowChange, WalkResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions

# Rows of a span that would be written. The age as a text: the driver has no date with a month of zero.
EXAMPLES = (
    "SELECT {selected}, CAST({age} AS CHAR), {label} FROM {table} FORCE INDEX ({index})"
    " WHERE {within} AND ({predicate}) ORDER BY {order} LIMIT {limit}"
)


def count_rows(
    db: Transactions,
    rows: RowChange,
    *,
    also: Mapping[str, str] | None = None,
    age: str = "NULL",
    label: str = "NULL",
    each: Callable[[Sequence[Any]], None] = lambda _: None,
    most: int | None = 0,
    descendants: Callable[[str], Counter[str]] = lambda _: Counter(),
    pace: Pace = PACES["fast"],
    expected: int | None = None,
    throttler: Throttler | None = None,
    reporter: ProgressReporter | None = None,
) -> WalkResult:
    """Count the rows that match, the rows that are left out, and all rows, span by span.

    Args:
        db: where.
        rows: the change that would be made.
        also: name → condition of rows to be counted besides, into `WalkResult.also`.
        age: SQL for the age of a row.
        label: SQL for the name of a row, as UTF-8.
        each: called after each span with key, age and name of rows that match.
        most: give `each` at most so many rows of the table; None for all.
        descendants: called in the transaction of each span with its condition; returns table → rows that
            belong to the rows of the span, for `WalkResult.descendants`.
        pace: how hard to work.
        expected: rows of the table, as far as that is known, for the reporter.
        throttler: waits before each span for as long as it has to.
        reporter: gets the progress of the count.

    Raises:
        WalkError: as `Walk.write`.
    """
    also = also or {}
    done, size = WalkResult(), ChunkSize(pace.target)
    order = KeyOrder(db, rows, size, expected=expected)
    conditions = {"matched": rows.predicate, **rows.left_out, **also}
    left = most

    def begin() -> None:
        order.begin()
        db.commit()

    def chunk() -> None:
        nonlocal left
        began = time.monotonic()
        window = order.window()
        examined, counts = order.count(window, conditions)
        wanted = counts["matched"] if left is None else min(left, counts["matched"])
        below = descendants(window.condition) if counts["matched"] else Counter[str]()
        found: list[Any] = []
        if wanted:
            key = rows.key
            query = EXAMPLES.format(
                selected=key.selected,
                table=rows.table,
                index=key.index,
                age=age,
                label=label,
                within=window.condition,
                predicate=rows.predicate,
                order=key.ordered,
                limit=wanted,
            )
            found = [(key.shown(key.take(row)), *row[-2:]) for row in db.read(query, rows.values)]
        size.read(time.monotonic() - began, whole_span=True)
        db.commit()
        order.advance_to(window.upto, examined)
        done.examined += examined
        done.matched += counts["matched"]
        done.skipped.update({reason: counts[reason] for reason in rows.left_out if counts[reason]})
        done.descendants += below
        done.also.update({name: counts[name] for name in also})
        if left is not None:
            left -= len(found)
        each(found)

    reporter = reporter or ProgressReporter(rows.table)

    def report_progress() -> None:
        reporter.report(examined=done.examined, changed=0, share=order.share)

    what = f"count of {rows.table}"
    db.run(begin, what=what, before_retry=size.halve)
    reporter.begin(0.0)
    while not order.finished:
        if throttler is not None:
            throttler.wait(meanwhile=report_progress)
        began = time.monotonic()
        db.run(chunk, what=f"{what}, {order.window_name}", before_retry=size.halve)
        report_progress()
        db.sleep(pace.rest(time.monotonic() - began))
    return done
