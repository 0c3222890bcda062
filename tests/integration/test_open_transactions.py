"""Each transaction of a job ends with its own commit: none stays open while the job does something else."""

from __future__ import annotations

import pytest

from iam_watcher.database.catalogue import read_table
from iam_watcher.database.detached_table import left_behind
from iam_watcher.database.foreign_keys import index_columns, references_to
from iam_watcher.database.rights import READS, is_statement_based, refusal
from iam_watcher.database.session import clocks
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from tests.integration import partitioned, test_set_values
from tests.integration.test_account_lifecycle import disable, enable, location, with_secrets
from tests.integration.test_announce import heard
from tests.integration.test_children import orders, purge, restore

__all__ = ["heard", "location", "orders", "with_secrets"]

pytestmark = pytest.mark.every_server


@pytest.fixture
def left_open(scratch, monkeypatch):
    """What ran as a transaction, and had not ended when it returned."""
    run, found = Transactions.run, []

    def run_and_look(db, work, *, what, **options):
        result = run(db, work, what=what, **options)
        ((session,),) = db.read("SELECT CONNECTION_ID()")
        if session in scratch.transactions():
            found.append(what)
        return result

    monkeypatch.setattr(Transactions, "run", run_and_look)
    return found


def test_a_transaction_that_stays_open_is_noticed(scratch, session, left_open):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY)")
    db = Transactions(session)
    assert db.run(lambda: db.read("SELECT * FROM t"), what="a look") == ()
    assert left_open == ["a look"]


LOOKS = {
    "a table": lambda db, _: read_table(db, "t"),
    "foreign keys": lambda db, _: references_to(db, "t"),
    "indexes": lambda db, _: index_columns(db, "t"),
    "a detached table": lambda db, _: left_behind(db, "t"),
    "rights": lambda _, connection: refusal(connection, READS, "t"),
    "the binary log": lambda _, connection: is_statement_based(connection),
    "the clocks": lambda _, connection: clocks(connection),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_the_catalogue(scratch, session, look):
    """On MySQL, the catalogue is in tables that a transaction reads."""
    scratch.run("CREATE TABLE t (id int NOT NULL UNIQUE, up int, FOREIGN KEY (up) REFERENCES t (id))")
    db = Transactions(session)
    LOOKS[look](db, session)
    db.read("SET TRANSACTION READ WRITE")  # an error within a transaction


def test_rows_with_their_children(orders, perform, tmp_path, left_open):
    archive = f"file://{tmp_path}"
    perform(purge(children="auto", archive=archive, dry_run=True))
    report = perform(purge(children="auto", archive=archive))
    orders.run("INSERT INTO orders VALUES (1, NOW())")  # in place of another one
    assert perform(restore(report["archive"], archive))["children"]["order_lines"]["skipped"]["replaced"]
    assert left_open == []


def test_all_rows_but_the_newest(scratch, perform, left_open):
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, at datetime NOT NULL, grp int NOT NULL, level varchar(9) NULL,"
        " KEY (grp, at), KEY (at))"
    )
    scratch.run_many("INSERT INTO t VALUES (%s, '2020-01-01', 1, 'debug')", [[key] for key in range(10)])
    job = PurgeRowsOperator(
        task_id="purge",
        table="t",
        age_column="at",
        older_than={"column": "level", "debug": "1d", "info": "2d"},
        keep_last=3,
        per="grp",
        mysql_conn_id="scratch",
    )
    assert perform(job)["changed"] == 7
    assert left_open == []


def test_partitions(scratch, perform, tmp_path, left_open):
    partitioned.create(scratch, key="day, id")
    partitioned.fill(scratch)
    perform(partitioned.purge(dry_run=True))
    assert perform(partitioned.purge(archive=f"file://{tmp_path}"))["partitions"]
    assert left_open == []


def test_changed_values(scratch, perform, tmp_path, left_open):
    test_set_values.fill(scratch, "decimal(9,2)", "1.5")
    report = perform(test_set_values.change(tmp_path, set={"c": 2}))
    assert perform(test_set_values.restore(tmp_path, report))["restored"] == 3
    assert left_open == []


def test_users_and_their_secrets(with_secrets, perform, location, heard, left_open):
    report = perform(disable(location, on_disable="expire_secrets"))
    assert heard()
    assert perform(enable(location, report["undo_record"]))["enabled"] == 1
    assert left_open == []
