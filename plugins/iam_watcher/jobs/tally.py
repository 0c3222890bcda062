"""Counts what a walk would do, without writing: for a dry run, and for the brake."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iam_watcher.jobs.order import KeyOrder
from iam_watcher.jobs.pace import PACES, ChunkSize, Pace
from iam_watcher.jobs.progress import Teller
from iam_watcher.jobs.rows import Rows, Walked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.jobs.throttle import Hold
    from iam_watcher.jobs.transaction import Transactions

# A few rows of a span that would be written.
EXAMPLES = (
    "SELECT {key}, {age} FROM {table} FORCE INDEX (PRIMARY)"
    " WHERE {key} > %(after)s AND {key} <= %(upto)s AND ({predicate}) ORDER BY {key} LIMIT %(limit)s"
)

MOST_EXAMPLES = 5


def tally(
    db: Transactions,
    rows: Rows,
    *,
    also: Mapping[str, str] | None = None,
    age: str = "NULL",
    pace: Pace = PACES["fast"],
    hold: Hold | None = None,
    teller: Teller | None = None,
) -> Walked:
    """Count the rows that match, those that are left out, and all, span by span.

    Args:
        db: where.
        rows: what would be written.
        also: name → condition of rows to be counted besides, into `Walked.also`.
        age: SQL for the age of a row, for the examples.
        pace: how hard to work.
        hold: waits before each span for as long as it has to.
        teller: told how far the count has come.

    Raises:
        WalkError: as `Walk.write`.
    """
    also = also or {}
    done, size = Walked(), ChunkSize(pace.target)
    order = KeyOrder(db, rows, size)
    conditions = {"matched": rows.predicate, **rows.left_out, **also}
    example = EXAMPLES.format(table=rows.table, key=rows.key, age=age, predicate=rows.predicate)

    def begin() -> None:
        order.begin()
        db.commit()

    def chunk() -> None:
        window = order.window()
        began = time.monotonic()
        examined, counts = order.tally(window, conditions)
        size.read(time.monotonic() - began, whole_span=True)
        wanted = MOST_EXAMPLES - len(done.examples) if counts["matched"] else 0
        examples = db.read(example, {**rows.values, **window, "limit": wanted}) if wanted else ()
        db.commit()
        order.position = window["upto"]
        done.examined += examined
        done.matched += counts["matched"]
        done.skipped.update({reason: counts[reason] for reason in rows.left_out if counts[reason]})
        done.also.update({name: counts[name] for name in also})
        done.examples.extend(examples)

    teller = teller or Teller(rows.table)

    def tell() -> None:
        teller.tell(examined=done.examined, changed=0, share=order.share)

    what = f"count of {rows.table}"
    db.run(begin, what=what, before_retry=size.halve)
    teller.begin(0.0)
    while not order.finished:
        if hold is not None:
            hold.wait(meanwhile=tell)
        began = time.monotonic()
        db.run(chunk, what=f"{what}, {order.window_name}", before_retry=size.halve)
        tell()
        db.nap(pace.rest(time.monotonic() - began))
    return done
