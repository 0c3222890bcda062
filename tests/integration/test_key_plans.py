"""How the servers find the rows of a chunk by a key that is not one integer: by ranges, without a sort."""

from __future__ import annotations

from contextlib import closing

import pytest

from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk import walk
from iam_watcher.walk.pace import ChunkSize
from tests.integration.keys import ALL

pytestmark = pytest.mark.every_server

NAMES = [
    "day_id",
    "three",
    "texts",
    "desc_first",
    "unique_pair",
    "enum_year_bit",
    "varchar_utf8mb4_general_ci",
]
SHORT = {"day_id", "desc_first"}
KEYS = [
    pytest.param(key, id=key.name, marks=() if key.name in SHORT else pytest.mark.e2e)
    for key in ALL
    if key.name in NAMES
]

ROWS = 1_500


@pytest.fixture
def plans(monkeypatch):
    """Statement, way of reading, and what the server does besides, of each statement that names keys."""
    found = []
    change, read = Transactions.change, Transactions.read

    def note(db, query, values):
        if (
            "FORCE INDEX" not in query
            or " WHERE " not in query
            or "WHERE FALSE" in query
            or "WHERE TRUE" in query
        ):
            return
        if "EXPLAIN" in query:
            return
        with closing(db._connection.cursor()) as cursor:
            cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL {query}", values or {})
            names = [column[0] for column in cursor.description]
            plan = dict(zip(names, cursor.fetchone(), strict=True))
        found.append((query, plan["type"], str(plan["Extra"])))

    def changed(db, query, values=None):
        note(db, query, values)
        return change(db, query, values)

    def seen(db, query, values=None):
        note(db, query, values)
        return read(db, query, values)

    monkeypatch.setattr(Transactions, "change", changed)
    monkeypatch.setattr(Transactions, "read", seen)
    return found


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("archived", [False, True])
def test_no_statement_of_a_walk_scans_or_sorts(scratch, perform, monkeypatch, plans, tmp_path, key, archived):
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(0.05, rows=30, span=70))
    key.create(scratch)
    key.fill(scratch, ROWS, seed=1)
    scratch.run("ANALYZE TABLE t")
    old, _ = key.model(scratch)
    options = {"archive": f"file://{tmp_path}/archive"} if archived else {}
    job = PurgeRowsOperator(
        task_id="purge", table="t", age_column="age", older_than_days=1, mysql_conn_id="scratch", **options
    )
    assert perform(job)["changed"] == len(old)
    # The first and the last key, and the first window, have no lower limit.
    ranges = [plan for plan in plans if "LIMIT 1" not in plan[0] or "OFFSET" in plan[0]]
    assert len(ranges) > 3
    ways = {"range", "const", "ref", None}  # MySQL has none for a window without rows
    assert [plan for plan in ranges if plan[1] not in ways or "filesort" in plan[2]] == []
