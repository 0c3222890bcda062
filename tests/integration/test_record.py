"""The record of all rows of a table, which keeps no row locked."""

from __future__ import annotations

from iam_watcher.database.transactions import Transactions
from iam_watcher.walk import progress, record
from iam_watcher.walk.pace import ChunkSize
from iam_watcher.walk.progress import ProgressReporter
from iam_watcher.walk.record import record_rows
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.row_locks import RowLocks
from tests.integration.conftest import ID

OLD = RowChange(table="`t`", key=ID, predicate="`age` < 100")


def test_no_row_is_locked_between_two_chunks(scratch, session, monkeypatch):
    monkeypatch.setattr(record, "ChunkSize", lambda _: ChunkSize(1e-9, rows=10, span=10))
    scratch.run("CREATE TABLE t (id bigint PRIMARY KEY, age int NOT NULL)")
    rows = [(key, 1 if key % 5 else 200) for key in range(40)]
    scratch.run_many("INSERT INTO t VALUES (%s, %s)", rows)
    found = []
    monkeypatch.setattr(Transactions, "sleep", lambda *_: found.append(scratch.transactions()))
    db = Transactions(session)
    assert record_rows(db, OLD, RowLocks(db, OLD)) == 32
    assert len(found) > 1
    assert found == [{}] * len(found)


def test_the_progress_of_a_record_counts_no_changed_row(scratch, session, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(progress, "FIRST", 0.0)
    scratch.run("CREATE TABLE t (id bigint PRIMARY KEY, age int NOT NULL)")
    scratch.run_many("INSERT INTO t VALUES (%s, 1)", [(key,) for key in range(40)])
    db, seen = Transactions(session), []
    record_rows(db, OLD, RowLocks(db, OLD), reporter=ProgressReporter("t", seen.append))
    assert [(one.examined, one.changed) for one in seen][-1] == (40, 0)
