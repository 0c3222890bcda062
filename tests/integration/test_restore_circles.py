"""Archived rows that refer to each other in a circle: all of them come back as they were, or none of them."""

from __future__ import annotations

import os

import pytest

from iam_watcher.archive import circle_inserter
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.children import Child
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from tests.integration.test_children import purge

pytestmark = pytest.mark.every_server

TABLES = ("orders", "order_lines")


@pytest.fixture
def archived(scratch, perform, tmp_path):
    """Three old orders that refer to their last of three lines, deleted; the URL of the archive."""
    scratch.run(
        "CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL, last_line int NULL,"
        " changed timestamp NOT NULL DEFAULT '2001-01-01' ON UPDATE CURRENT_TIMESTAMP)"
    )
    scratch.run(
        "CREATE TABLE order_lines (id int PRIMARY KEY, code int NOT NULL UNIQUE, order_id int NOT NULL,"
        " follows int NULL, FOREIGN KEY (order_id) REFERENCES orders (id),"
        " FOREIGN KEY (follows) REFERENCES order_lines (id))"
    )
    for order in (1, 2, 3):
        scratch.run("INSERT INTO orders (id, at) VALUES (%s, '2020-01-01')", [order])
        for line in range(order * 10, order * 10 + 3):
            follows = line - 1 if line % 10 else None
            scratch.run("INSERT INTO order_lines VALUES (%s, %s, %s, %s)", [line, line, order, follows])
    scratch.run(
        "ALTER TABLE orders ADD FOREIGN KEY (last_line) REFERENCES order_lines (id) ON DELETE SET NULL"
    )
    scratch.run("UPDATE orders SET last_line = id * 10 + 2, changed = '2001-01-01'")
    before = content(scratch)
    children = [Child("order_lines", key="order_id")]
    report = perform(purge(children=children, archive=f"file://{tmp_path}"))
    assert content(scratch) == {"orders": [], "order_lines": []}
    return report["archive"], before


def content(database):
    return {table: database.rows(f"SELECT * FROM {table} ORDER BY id") for table in TABLES}


def restore(url, tables=TABLES, **options):
    location = url.rpartition("/orders/")[0]
    arguments = {"path": url, "location": location, "tables": tables, "mysql_conn_id": "scratch", **options}
    return RestoreRowsOperator(task_id="restore", **arguments)


def test_rows_of_several_tables_come_back_as_they_were(scratch, perform, archived):
    url, before = archived
    report = perform(restore(url))
    lines = report["children"]["order_lines"]
    assert (report["restored"], report["skipped"]) == (3, {})
    assert (lines["restored"], lines["skipped"]) == (9, {})
    assert content(scratch) == before
    again = perform(restore(url))
    assert (again["restored"], again["skipped"]) == (0, {"exists": 3})
    assert content(scratch) == before


def test_a_row_that_can_not_have_its_value_is_skipped_with_all_that_need_it(scratch, perform, archived):
    """Another order has the code of line 12 meanwhile."""
    url, before = archived
    scratch.run("INSERT INTO orders (id, at) VALUES (9, '2999-01-01')")
    scratch.run("INSERT INTO order_lines VALUES (90, 12, 9, NULL)")
    report = perform(restore(url))
    lines = report["children"]["order_lines"]
    assert (report["restored"], report["skipped"]) == (2, {"foreign_key": 1})
    assert lines["restored"] == 6
    assert sum(lines["skipped"].values()) == 3
    after = content(scratch)
    assert after["orders"][:-1] == before["orders"][1:]
    assert after["order_lines"][:-1] == before["order_lines"][3:]


def test_a_long_thread_without_its_first_row_is_skipped_at_once(scratch, perform, tmp_path, monkeypatch):
    """Line 1 refers to a row that is gone, and each other one to the line before it."""
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run(
        "CREATE TABLE order_lines (id int PRIMARY KEY, order_id int NULL, follows int NULL,"
        " FOREIGN KEY (order_id) REFERENCES orders (id), KEY (follows))"
    )
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    scratch.run_many("INSERT INTO order_lines VALUES (%s, 1, %s)", [(n, n - 1) for n in range(1, 61)])
    report = perform(purge(children=[Child("order_lines", key="order_id")], archive=f"file://{tmp_path}"))
    scratch.run("ALTER TABLE order_lines ADD FOREIGN KEY (follows) REFERENCES order_lines (id)")
    change, attempts = Transactions.change, []

    def note(db, query, values=None):
        if query.startswith("ROLLBACK TO") and circle_inserter.SAVEPOINT in query:
            attempts.append(query)
        return change(db, query, values)

    monkeypatch.setattr(Transactions, "change", note)
    restored = perform(restore(report["archive"]))
    assert restored["restored"] == 1
    assert restored["children"]["order_lines"]["skipped"] == {"foreign_key": 60}
    assert len(attempts) == 1


@pytest.fixture
def transactions(monkeypatch):
    """The number of rows that each transaction with rows in a circle completes."""
    complete, found = circle_inserter.CircleInserter.complete, []

    def note(self, inserted):
        if self.table.name == "orders":
            found.append(len(list(self.rows())))
        return complete(self, inserted)

    monkeypatch.setattr(circle_inserter.CircleInserter, "complete", note)
    monkeypatch.setattr(circle_inserter, "MOST_ROWS", 2)
    return found


def test_each_circle_can_have_its_own_transaction(scratch, perform, archived, transactions):
    url, before = archived
    report = perform(restore(url))
    assert transactions == [1, 1, 1]
    assert (report["restored"], report["children"]["order_lines"]["restored"]) == (3, 9)
    assert content(scratch) == before


@pytest.mark.parametrize(
    ("written", "parts"),
    [(str.upper, [1, 1]), (lambda text: text + " ", [1, 1]), (lambda text: text.replace("e", "é"), [2])],
    ids=["case", "space", "accent"],
)
def test_texts_that_the_server_calls_equal_connect_rows(
    scratch, perform, tmp_path, transactions, written, parts
):
    text = "varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
    scratch.run(f"CREATE TABLE orders (id {text} PRIMARY KEY, at datetime NOT NULL, last_line {text})")
    scratch.run(
        f"CREATE TABLE order_lines (id {text} PRIMARY KEY, order_id {text} NOT NULL,"
        " FOREIGN KEY (order_id) REFERENCES orders (id))"
    )
    for name in ("first", "second"):
        scratch.run("INSERT INTO orders (id, at) VALUES (%s, '2020-01-01')", [name])
        scratch.run("INSERT INTO order_lines VALUES (%s, %s)", [f"l-{name}", written(name)])
    scratch.run(
        "ALTER TABLE orders ADD FOREIGN KEY (last_line) REFERENCES order_lines (id) ON DELETE SET NULL"
    )
    for name in ("first", "second"):
        scratch.run("UPDATE orders SET last_line = %s WHERE id = %s", [written(f"l-{name}"), name])
    before = content(scratch)
    children = [Child("order_lines", key="order_id")]
    archive = perform(purge(children=children, archive=f"file://{tmp_path}"))["archive"]
    report = perform(restore(archive))
    assert transactions == parts
    assert (report["restored"], report["skipped"]) == (2, {})
    assert content(scratch) == before


@pytest.mark.parametrize("took_place", [True, False])
def test_a_commit_without_an_answer_is_unconfirmed(scratch, perform, archived, monkeypatch, took_place):
    url, before = archived
    commit, compare, state = Transactions.commit, circle_inserter.CircleInserter.compare, ["before"]

    def begin(self, put):
        state.append("in the circles")
        compare(self, put)

    def fail_once(db):
        if state[-1] != "in the circles" or "failed" in state:
            return commit(db)
        state.append("failed")
        if took_place:
            commit(db)
        raise db.error(2013, "Lost connection to server during query")

    monkeypatch.setattr(circle_inserter.CircleInserter, "compare", begin)
    monkeypatch.setattr(Transactions, "commit", fail_once)
    report = perform(restore(url))
    assert content(scratch) == before
    counted = (report["restored"], report["unconfirmed"])
    assert counted == ((0, 3) if took_place else (3, 0))


def test_an_account_without_the_right_to_update_restores_no_circle(scratch, perform, archived, monkeypatch):
    url, _ = archived
    scratch.run("DROP USER IF EXISTS inserter@'%'")
    scratch.run("CREATE USER inserter@'%' IDENTIFIED BY 'inserter'")
    try:
        scratch.run("GRANT SELECT, INSERT ON scratch.* TO inserter@'%'")
        scheme, rest = os.environ["AIRFLOW_CONN_SCRATCH"].split("://", 1)
        uri = f"{scheme}://inserter:inserter@{rest.rpartition('@')[2]}"
        monkeypatch.setenv("AIRFLOW_CONN_INSERTER", uri)
        report = perform(restore(url, mysql_conn_id="inserter"))
    finally:
        scratch.run("DROP USER inserter@'%'")
    assert report["skipped"] == {"foreign_key": 3}
    assert report["children"]["order_lines"]["skipped"] == {"foreign_key": 9}
    assert content(scratch) == {"orders": [], "order_lines": []}
