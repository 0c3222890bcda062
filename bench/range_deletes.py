"""A simple loop of DELETE … BETWEEN over the keys, on one or several connections.

It counts nothing, can't be stopped and reports nothing. So its time is the database's part of a walk.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from iam_watcher.database.session import set_up

if TYPE_CHECKING:
    from dev.servers import MariaDB

TARGET = 0.1  # seconds of a transaction, as in the pace "fast"
FIRST_SPAN = 5_000

EDGES = "SELECT MIN(id) - 1, MAX(id) FROM policy_audit"
DELETE = (
    "DELETE FROM policy_audit WHERE id BETWEEN %(first)s AND %(last)s"
    " AND deletedAt < NOW() - INTERVAL %(days)s DAY"
)


def range_deletes(server: MariaDB, days: int, *, connections: int = 1) -> float:
    """Delete old rows of policy_audit; return the seconds of the longest transaction."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(EDGES)
        after, end = cursor.fetchone()
    edges = [after + (end - after) * part // connections for part in range(connections + 1)]
    with ThreadPoolExecutor(connections) as threads:
        return max(threads.map(partial(_delete_range, server, days), pairwise(edges)))


def _delete_range(server: MariaDB, days: int, keys: tuple[int, int]) -> float:
    after, end = keys
    span, longest = FIRST_SPAN, 0.0
    with closing(server.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        set_up(connection)
        while after < end:
            last = min(after + span, end)
            began = time.monotonic()
            cursor.execute(DELETE, {"first": after + 1, "last": last, "days": days})
            connection.commit()
            seconds = time.monotonic() - began
            longest = max(longest, seconds)
            span = min(max(int(span * TARGET / seconds), span // 2), span * 2)
            after = last
    return longest
