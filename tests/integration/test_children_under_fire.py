"""A purge with children at work while clients do theirs and the worker is killed at random moments."""

from __future__ import annotations

from functools import partial

import pytest
from MySQLdb import IntegrityError

from iam_watcher.archive import reader
from iam_watcher.archive.format import ArchiveKind
from iam_watcher.jobs.children import Child
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.walk import descendants
from tests.integration.conftest import TaskInstance, numbers
from tests.integration.test_under_fire import KILLS, Clients, Front, kill_at_random_moments

pytestmark = [pytest.mark.every_server, pytest.mark.usefixtures("path_for_forks", "printed_seed")]

ORDERS = 500 * KILLS
LARGE = 50  # each order of such a number has many lines
LINES, MANY_LINES = 4, 150
MOST_AT_ONCE = 60  # rows of a transaction of this test, an order with its lines and notes among them

TREE = [Child("order_lines", key="order_id", children=[Child("line_notes", key="line_id")])]

# What is deleted, as the database itself sees it, in the same transactions.
LEDGER = "CREATE TRIGGER gone_{table} BEFORE DELETE ON {table} FOR EACH ROW INSERT INTO gone VALUES {row}"
ORPHANS = (
    "SELECT COUNT(*) FROM order_lines WHERE NOT EXISTS (SELECT 1 FROM orders WHERE orders.id = order_id)",
    "SELECT COUNT(*) FROM line_notes WHERE NOT EXISTS (SELECT 1 FROM order_lines AS l WHERE l.id = line_id)",
)


def purge(pace="fast", **options):
    descendants.MOST_ROWS = MOST_AT_ONCE
    descendants.FIRST_TOGETHER = MOST_AT_ONCE
    return PurgeRowsOperator(
        task_id="purge",
        table="orders",
        age_column="at",
        older_than="1d",
        children=TREE,
        pace=pace,
        mysql_conn_id="scratch",
        **options,
    )


@pytest.fixture
def orders(scratch):
    """Orders of which two of three are old; the notes refer to their lines without a foreign key."""
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL, touched int NOT NULL)")
    scratch.run(
        "CREATE TABLE order_lines (id int AUTO_INCREMENT PRIMARY KEY, order_id int NOT NULL,"
        " FOREIGN KEY (order_id) REFERENCES orders (id))"
    )
    scratch.run(
        "CREATE TABLE line_notes (id int AUTO_INCREMENT PRIMARY KEY, line_id int NOT NULL, INDEX (line_id))"
    )
    scratch.run(
        f"INSERT INTO orders SELECT seq, NOW() - INTERVAL IF(MOD(seq, 3), 2, 0) DAY, 0 FROM {numbers(ORDERS)}"
    )
    scratch.run(
        "INSERT INTO order_lines (order_id) SELECT orders.id FROM orders"
        f" JOIN {numbers(MANY_LINES)} ON seq <= IF(MOD(orders.id, {LARGE}), {LINES}, {MANY_LINES})"
    )
    scratch.run("INSERT INTO line_notes (line_id) SELECT id FROM order_lines")
    scratch.run("CREATE TABLE gone (name varchar(20) NOT NULL, id int NOT NULL, PRIMARY KEY (name, id))")
    for table in ("orders", "order_lines", "line_notes"):
        scratch.run(LEDGER.format(table=table, row=f"('{table}', OLD.id)"))
    return scratch


class OrdersFront(Front):
    """The next order to be deleted; no row is without its parent at any time."""

    def look(self):
        for query in ORPHANS:
            assert self._iam.value(query) == 0
        return super().look()


def archived(url):
    """Return table → ids of the rows that an archive has."""
    found = {"orders": set(), "order_lines": set(), "line_notes": set()}
    for written in reader.find(url, kind=ArchiveKind.DELETED_ROWS):
        found["orders"] |= {row["id"] for row in written.rows()}
        for table, child in reader.find_children(written, below=url).items():
            found[table] |= {row["id"] for row in child.rows()}
    return found


@pytest.mark.e2e
@pytest.mark.usefixtures("redis_client")
def test_no_orphan_no_lost_archive_and_no_work_left(orders, mariadb, perform, tmp_path):
    front = OrdersFront(
        orders, "SELECT id FROM orders WHERE id >= %s AND at < NOW() - INTERVAL 1 DAY ORDER BY id LIMIT 1", 1
    )

    def touch(database, done):
        key = front.near(0, 300)
        if key % LARGE and database.run(
            "UPDATE scratch.orders SET at = NOW(), touched = touched + 1 WHERE id = %s", [key]
        ):
            done[key] = "touched"

    def add_line(database, done):
        key = front.near(0, 200)
        try:
            database.run("INSERT INTO scratch.order_lines (order_id) VALUES (%s)", [key])
        except IntegrityError:
            return
        done[key] = done.get(key, 0) + 1

    archive = f"file://{tmp_path}/archive"
    job = partial(purge, archive=archive)
    before = {
        table: orders.rows(f"SELECT * FROM {table} ORDER BY id")
        for table in ("orders", "order_lines", "line_notes")
    }
    # A client that waits for an order which then goes may be the victim of a deadlock with its lines.
    with Clients(mariadb, touch, add_line, may_deadlock=True) as clients:
        killed = kill_at_random_moments(job, front)
        report = perform(job(), TaskInstance("killed"))
    front.look()
    assert killed == KILLS
    touched, added = clients.promises[touch], clients.promises[add_line]
    assert touched
    assert added
    left = dict(orders.rows("SELECT id, touched FROM orders"))
    assert left.keys() == touched.keys() | {key for key in range(1, ORDERS + 1) if key % 3 == 0}
    # An order that stays has all of its lines and notes, those that were added too.
    lines = dict(orders.rows("SELECT order_id, COUNT(*) FROM order_lines GROUP BY order_id"))
    first = {key: LINES if key % LARGE else MANY_LINES for key in left}
    assert lines == {key: first[key] + added.get(key, 0) for key in left}
    assert orders.value("SELECT COUNT(*) FROM line_notes") == sum(first.values())
    kept = archived(report["archive"])
    for table, ids in kept.items():
        gone = set(orders.column("SELECT id FROM gone WHERE name = %s", [table]))
        assert gone <= ids
        # More than that: rows of transactions that a kill took back.
        assert ids - gone <= set(orders.column(f"SELECT id FROM {table}"))
    undo = {"path": report["archive"], "location": archive, "tables": list(before)}
    perform(RestoreRowsOperator(task_id="undo", mysql_conn_id="scratch", **undo))
    for table, rows in before.items():
        found = set(orders.rows(f"SELECT * FROM {table}"))
        assert {row[0] for row in found} >= {row[0] for row in rows}
        if table != "orders":
            assert found >= set(rows)


@pytest.fixture(autouse=True)
def _limits(monkeypatch):
    """Let each test have the limits of the module back that `purge` changes."""
    monkeypatch.setattr(descendants, "MOST_ROWS", descendants.MOST_ROWS)
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", descendants.FIRST_TOGETHER)
