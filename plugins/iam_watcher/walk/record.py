"""Records all rows of a table that nobody else writes to, without changing them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iam_watcher.walk.key_order import KeyOrder
from iam_watcher.walk.pace import PACES, ChunkSize, Pace
from iam_watcher.walk.progress import ProgressReporter

if TYPE_CHECKING:
    from iam_watcher.database.throttle import Throttler
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.row_change import RowChange, RowRecorder


LONGER = 10


def record_rows(
    db: Transactions,
    rows: RowChange,
    recorder: RowRecorder,
    *,
    pace: Pace = PACES["fast"],
    throttler: Throttler | None = None,
    reporter: ProgressReporter | None = None,
) -> int:
    """Record the rows that match, chunk by chunk, and return how many were recorded.

    Args:
        db: where.
        rows: the table, and the condition of the rows.
        recorder: of these rows.
        pace: how hard to work.
        throttler: waits before each chunk for as long as it has to.
        reporter: gets the progress.

    Raises:
        WalkError: as `Walk.write`.
    """
    # Nobody waits for locks on this table, so that a transaction may last longer than in a walk.
    size, recorded = ChunkSize(LONGER * pace.target), 0
    order = KeyOrder(db, rows, size)

    def begin() -> None:
        order.begin()
        db.commit()

    def chunk() -> int:
        began = time.monotonic()
        found = order.next_chunk(size.rows, exact=True)
        keys = recorder.lock(found.keys) if found.keys else []
        if keys:
            recorder.record(keys)
        db.commit()
        size.wrote(len(keys), time.monotonic() - began)
        order.advance(found)
        return len(keys)

    reporter = reporter or ProgressReporter(rows.table)
    what = f"archive of {rows.table}"
    db.run(begin, what=what, before_retry=size.halve)
    while not order.finished:
        if throttler is not None:
            throttler.wait()
        began = time.monotonic()
        recorded += db.run(chunk, what=f"{what}, {order.window_name}", before_retry=size.halve)
        reporter.report(examined=recorded, changed=0, share=order.share)
        db.sleep(pace.rest(time.monotonic() - began))
    return recorded
