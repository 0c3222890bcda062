"""How the server finds the rows that a walk writes, and whose locks it meets."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from iam_watcher.database import transactions
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk import walk
from iam_watcher.walk.pace import ChunkSize, Limits
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import ID

pytestmark = pytest.mark.every_server

OLD = RowChange("`t`", ID, "`age` < '2020-01-01'")
OLD_OF_A_STATE = replace(OLD, predicate=f"{OLD.predicate} AND `state` = 3")
DISABLE = replace(OLD, assignments="`age` = '2021-01-01'")

ROWS = 2_000


@pytest.fixture
def table(scratch):
    """Rows of which two of three are old; an index on each column that a condition can name."""
    scratch.run(
        "CREATE TABLE t (id bigint unsigned PRIMARY KEY, age datetime NOT NULL, state int NOT NULL,"
        " note varchar(200) NOT NULL, KEY by_age (age), KEY by_state (state))"
    )
    scratch.run_many(
        "INSERT INTO t VALUES (%s, %s, %s, REPEAT('n', 100))",
        [(key, "2019-01-01" if key % 3 else "2025-01-01", key % 700) for key in range(1, ROWS + 1)],
    )
    scratch.run("ANALYZE TABLE t")
    return scratch


@pytest.fixture
def plans(monkeypatch):
    """The index, and the way it was read, of each statement that a walk writes by."""
    found = []
    change, read = Transactions.change, Transactions.read

    def note(db, query, values):
        with closing(db._connection.cursor()) as cursor:
            cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL {query}", values or {})
            names = [column[0] for column in cursor.description]
            plan = dict(zip(names, cursor.fetchone(), strict=True))
        found.append((plan["key"], plan["type"]))

    def changed(db, query, values=None):
        if "WHERE FALSE" not in query:
            note(db, query, values)
        return change(db, query, values)

    def locked(db, query, values=None):
        if "FOR UPDATE" in query:
            note(db, query, values)
        return read(db, query, values)

    monkeypatch.setattr(Transactions, "change", changed)
    monkeypatch.setattr(Transactions, "read", locked)
    return found


@pytest.mark.parametrize("rows", [OLD, OLD_OF_A_STATE, DISABLE])
@pytest.mark.parametrize("listed", [False, True])
def test_it_writes_by_the_primary_key(table, session, monkeypatch, plans, rows, listed):
    """Where a chunk covers most of the table, or another index has few rows of the condition."""
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(0.1, rows=ROWS, span=ROWS - 100))
    job = Walk(Transactions(session), rows, limits=Limits(max_rows=10**6) if listed else Limits())
    job.order._dense = not listed
    assert job.write().changed > 0
    assert set(plans) == {("PRIMARY", "range")}


@pytest.mark.parametrize("where", [[], [("state", "=", 3)]])
def test_an_archive_locks_by_the_primary_key(table, perform, plans, tmp_path, monkeypatch, where):
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(0.1, rows=ROWS, span=ROWS - 100))
    job = PurgeRowsOperator(
        task_id="purge",
        table="t",
        age_column="age",
        older_than_days=1,
        where=where,
        archive=f"file://{tmp_path}/archive",
        mysql_conn_id="scratch",
    )
    table.run("UPDATE t SET age = UTC_TIMESTAMP() WHERE MOD(id, 3) = 0")
    assert perform(job)["changed"] > 0
    assert len(plans) > 1
    assert set(plans) == {("PRIMARY", "range")}


def test_a_table_whose_key_has_the_age_is_written_by_the_key(scratch, mariadb, perform, monkeypatch):
    """The statement would read only columns of the key. For such a one, FORCE INDEX forces nothing."""
    scratch.run("CREATE TABLE t (id int NOT NULL, age datetime NOT NULL, n int NULL, PRIMARY KEY (id, age))")
    rows = [(key, "2999-01-01" if key == 21 else "2019-01-01") for key in range(1, 401)]
    scratch.run_many("INSERT INTO t VALUES (%s, %s, NULL)", rows)
    scratch.run("ANALYZE TABLE t")
    monkeypatch.setattr(transactions, "TRIES", 2)
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(0.1, rows=ROWS, span=ROWS - 100))
    job = PurgeRowsOperator(
        task_id="purge", table="t", age_column="age", older_than_days=1, mysql_conn_id="scratch"
    )
    with closing(mariadb.connect("scratch", autocommit=False)) as connection:
        connection.cursor().execute("SELECT * FROM t WHERE id = 21 AND age = '2999-01-01' FOR UPDATE")
        assert perform(job)["changed"] == 399


@pytest.fixture
def other(mariadb, table):
    """Another client, in a transaction."""
    with closing(mariadb.connect("scratch", autocommit=False)) as connection:
        yield connection.cursor()


@pytest.mark.parametrize("key", [3, 1500])
@pytest.mark.parametrize("dense", [True, False])
def test_a_lock_on_a_row_that_does_not_match_holds_nothing_up(table, session, other, monkeypatch, key, dense):
    """At most one wait, for a row in the midst of a range; from then on the keys are named."""
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(1e-9, rows=900, span=1_000))
    other.execute("SELECT * FROM t WHERE id = %s FOR UPDATE", [key])
    db = Transactions(session)
    job = Walk(db, OLD)
    job.order._dense = dense
    job.write()
    assert table.value("SELECT COUNT(*) FROM t WHERE age < '2020-01-01'") == 0
    assert db.retries <= 1


def test_a_lock_on_an_index_entry_holds_nothing_up(table, session, other):
    """Its row has the state in question, and does not match."""
    table.run("UPDATE t SET age = '2025-01-01' WHERE id = 1403")
    other.execute("UPDATE t SET note = 'locked' WHERE state = 3 AND id = 1403")
    db = Transactions(session)
    assert Walk(db, OLD_OF_A_STATE, limits=Limits(max_rows=10**6)).write().changed == 1
    assert db.retries == 0
