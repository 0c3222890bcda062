"""Rows are deleted with the rows that belong to them.

All tests use the same three tables: hence the length.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException
from MySQLdb import OperationalError

from iam_watcher.archive import reader
from iam_watcher.archive.format import ArchiveKind
from iam_watcher.jobs.children import Child
from iam_watcher.jobs.conditions import ParentColumn
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.walk import descendants, large_family
from tests.integration.conftest import Database, TaskInstance, numbers
from tests.integration.test_keys import Variables

pytestmark = pytest.mark.every_server

TREE = [Child("order_lines", key="order_id", children=[Child("line_events", key="line_id")])]


def purge(**options):
    arguments = {
        "task_id": "purge",
        "table": "orders",
        "age_column": "at",
        "older_than": "1d",
        "children": TREE,
        "mysql_conn_id": "scratch",
    }
    return PurgeRowsOperator(**{**arguments, **options})


@pytest.fixture
def orders(scratch):
    """100 orders, of which the odd ones are old, with 5 lines each; each line has 3 events."""
    scratch.run("CREATE TABLE orders (id bigint PRIMARY KEY, at datetime NOT NULL)")
    scratch.run(
        "CREATE TABLE order_lines (id int PRIMARY KEY, order_id bigint NULL, note varchar(20) NOT NULL,"
        " FOREIGN KEY (order_id) REFERENCES orders (id))"
    )
    scratch.run(
        "CREATE TABLE line_events (id int PRIMARY KEY, line_id int NULL,"
        " FOREIGN KEY (line_id) REFERENCES order_lines (id) ON DELETE CASCADE)"
    )
    scratch.run(f"INSERT INTO orders SELECT seq, NOW() - INTERVAL MOD(seq, 2) * 2 DAY FROM {numbers(100)}")
    scratch.run(
        f"INSERT INTO order_lines SELECT seq, 1 + seq DIV 5, CONCAT('line ', seq) FROM {numbers(494)}"
    )
    scratch.run(f"INSERT INTO line_events SELECT seq, 1 + seq DIV 3 FROM {numbers(1480)}")
    scratch.run("INSERT INTO line_events VALUES (2000, NULL)")
    return scratch


def content(database):
    return {
        table: database.rows(f"SELECT * FROM {table} ORDER BY id")
        for table in ("orders", "order_lines", "line_events")
    }


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("children", [TREE, "auto"], ids=["named", "auto"])
def test_children_go_with_their_parents_and_come_back(orders, perform, tmp_path, caplog, archived, children):
    before = content(orders)
    archive = f"file://{tmp_path}" if archived else None
    dry = perform(purge(children=children, archive=archive, dry_run=True))
    report = perform(purge(children=children, archive=archive))
    old = {key for key, at in before["orders"] if key % 2}
    lines = {key for key, order, _ in before["order_lines"] if order in old}
    events = {key for key, line in before["line_events"] if line in lines}
    gone = {"orders": old, "order_lines": lines, "line_events": events}
    assert content(orders) == {
        table: [row for row in rows if row[0] not in gone[table]] for table, rows in before.items()
    }
    assert report["changed"] == dry["matched"] == 50
    assert "more than these rows" not in caplog.text, "rows that the server cascades to are counted as well"
    assert report["children"] == dry["children"] == {"order_lines": len(lines), "line_events": len(events)}
    if archived:
        parts = Path(report["archive"].removeprefix("file://")).rglob("part-*")
        assert report["archive_bytes"] == sum(part.stat().st_size for part in parts)
        restored = perform(
            RestoreRowsOperator(
                task_id="restore",
                path=report["archive"],
                location=archive,
                tables=list(before),
                mysql_conn_id="scratch",
            )
        )
        assert content(orders) == before
        assert restored["restored"] == 50


def protect(database, table="order_lines", row=21, name="holds"):
    """Let a row of another table refer to a row."""
    kind = "bigint" if table == "orders" else "int"
    database.run(f"CREATE TABLE {name} (ref {kind}, FOREIGN KEY (ref) REFERENCES {table} (id))")
    database.run(f"INSERT INTO {name} VALUES ({row})")


@pytest.mark.parametrize("most", [20_000, 5])
@pytest.mark.parametrize("archived", [False, True])
def test_a_parent_that_a_trigger_makes_young_again_keeps_its_children(
    orders, perform, tmp_path, monkeypatch, most, archived
):
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", most)
    orders.run(
        "CREATE TRIGGER touch AFTER DELETE ON order_lines FOR EACH ROW"
        " UPDATE orders SET at = NOW() WHERE id = OLD.order_id AND id < 31"
    )
    before = content(orders)
    report = perform(purge(archive=f"file://{tmp_path}" if archived else None))
    assert (report["changed"], report["skipped"]) == (35, {"changed_meanwhile": 15})
    assert report["children"] == {"order_lines": 175, "line_events": 524}
    after = content(orders)
    lines = {key for key, order, _ in before["order_lines"] if order < 31}
    assert [row for row in after["orders"] if row[0] < 31] == before["orders"][:30]
    assert lines <= {key for key, *_ in after["order_lines"]}
    assert {row for row in before["line_events"] if row[1] in lines} <= set(after["line_events"])


@pytest.mark.parametrize(("table", "row"), [("orders", 5), ("order_lines", 21), ("line_events", 70)])
@pytest.mark.parametrize("most", [20_000, 5])
@pytest.mark.parametrize("archived", [False, True])
def test_a_parent_that_is_protected_keeps_all_of_its_children(
    orders, perform, tmp_path, monkeypatch, table, row, most, archived
):
    monkeypatch.setattr(descendants, "MOST_ROWS", most)
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", most)
    protect(orders, table, row)
    before = content(orders)
    report = perform(purge(archive=f"file://{tmp_path}" if archived else None))
    assert (report["changed"], report["skipped"]) == (49, {"foreign_key": 1})
    after = content(orders)
    kept = [key for key, _ in after["orders"] if key % 2]
    assert kept == [5]
    assert [line for line in after["order_lines"] if line[1] == 5] == [
        line for line in before["order_lines"] if line[1] == 5
    ]
    lines = [key for key, order, _ in before["order_lines"] if order == 5]
    assert [e for e in after["line_events"] if e[1] in lines] == [
        e for e in before["line_events"] if e[1] in lines
    ]
    if archived:
        assert archived_keys(report)["order_lines"] == {
            key for key, order, _ in before["order_lines"] if order % 2 and order != 5
        }


def archived_keys(report):
    (written,) = reader.find(report["archive"], kind=ArchiveKind.DELETED_ROWS)
    found = reader.find_children(written, below=report["archive"])
    return {table: {row["id"] for row in child.rows()} for table, child in found.items()}


@pytest.mark.parametrize("archived", [False, True])
def test_a_family_for_several_transactions_is_locked_until_it_is_gone(
    orders, mariadb, perform, tmp_path, monkeypatch, archived
):
    monkeypatch.setattr(descendants, "MOST_ROWS", 5)
    seen = []
    wrote = large_family.LargeFamilies._write

    def look(self, child, *arguments):
        with closing(mariadb.connect("scratch")) as connection:
            other = Database(connection)
            other.run("SET innodb_lock_wait_timeout = 1")
            if not seen:
                with pytest.raises(OperationalError, match="Lock wait timeout"):
                    other.run("UPDATE orders SET at = NOW() WHERE id = 1")
                with pytest.raises(OperationalError, match="Lock wait timeout"):
                    other.run("INSERT INTO order_lines VALUES (10000, 1, 'new')")
            seen.append(other.value("SELECT COUNT(*) FROM order_lines WHERE order_id = 1"))
        return wrote(self, child, *arguments)

    monkeypatch.setattr(large_family.LargeFamilies, "_write", look)
    before = content(orders)
    report = perform(purge(archive=f"file://{tmp_path}" if archived else None, where=[("id", "=", 1)]))
    after = content(orders)
    lines = {key for key, order, _ in before["order_lines"] if order == 1}
    assert seen[0] == len(lines)
    assert report["children"] == {"order_lines": 4, "line_events": 12 - 1}
    assert report["changed"] == 1
    assert report["chunks"] > 2
    assert [row for row in after["order_lines"] if row[1] == 1] == []
    assert len(after["orders"]) == 99


def test_a_parent_that_changes_after_its_lock_was_lost_is_an_error(orders, perform, tmp_path, monkeypatch):
    """Its children are gone by then, so it must not be counted as a row that merely changed."""
    monkeypatch.setattr(descendants, "MOST_ROWS", 5)
    wrote = large_family.LargeFamilies._write
    changed = []

    def change(self, *arguments):
        written = wrote(self, *arguments)
        if not changed:
            (second,) = orders.transactions()
            orders.run(f"KILL {second}")
            changed.append(orders.run("UPDATE orders SET at = NOW() WHERE id = 1"))
        return written

    monkeypatch.setattr(large_family.LargeFamilies, "_write", change)
    with pytest.raises(AirflowFailException, match=r"changed_meanwhile, key 1.*after other descendants"):
        perform(purge(archive=f"file://{tmp_path}", where=[("id", "=", 1)]))
    assert changed == [1]
    assert len(orders.column("SELECT id FROM orders")) == 100


def test_what_a_family_lost_to_a_stopped_run_is_completed_by_the_next(orders, perform, monkeypatch, tmp_path):
    monkeypatch.setattr(descendants, "MOST_ROWS", 5)
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", 5)
    before = content(orders)
    wrote = large_family.LargeFamilies._write
    calls = []

    def fail(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("stopped")
        return wrote(self, *arguments)

    archive = f"file://{tmp_path}"
    ti = TaskInstance("stopped")
    with monkeypatch.context() as patch:
        patch.setattr(large_family.LargeFamilies, "_write", fail)
        with pytest.raises(RuntimeError, match="stopped"):
            perform(purge(archive=archive), ti)
    partly = content(orders)
    assert {order for _, order, _ in partly["order_lines"]} <= {order for order, _ in partly["orders"]}
    assert ti.xcom["return_value"]["children"]["line_events"] > 0
    report = perform(purge(archive=archive), TaskInstance("stopped", 2))
    assert {key for key, _ in content(orders)["orders"]} == {key for key in range(1, 101) if key % 2 == 0}
    perform(restore(report["archive"], archive))
    assert content(orders) == before


def restore(path, location, **options):
    tables = ["orders", "order_lines", "line_events"]
    arguments = {"path": path, "location": location, "tables": tables, "mysql_conn_id": "scratch"}
    return RestoreRowsOperator(task_id="restore", **{**arguments, **options})


def test_the_limits_count_parents(orders, perform, monkeypatch):
    monkeypatch.setattr(Variables, "kept", {})
    monkeypatch.setattr("iam_watcher.jobs.table_job.saved_position.Variable", Variables)
    report = perform(purge(max_rows=7))
    assert (report["changed"], report["stopped"]) == (7, "max_rows")
    orphans = (
        "SELECT COUNT(*) FROM order_lines LEFT JOIN orders ON orders.id = order_id WHERE orders.id IS NULL"
    )
    assert orders.value(orphans) == 0
    gone = 494 - orders.value("SELECT COUNT(*) FROM order_lines")
    assert report["children"]["order_lines"] == gone == 34
    with pytest.raises(AirflowFailException, match=r"50 of 93|43 of 93"):
        perform(purge(max_share=0.1))
    assert 494 - orders.value("SELECT COUNT(*) FROM order_lines") == gone


def test_a_restore_needs_leave_for_each_table(orders, perform, tmp_path):
    archive = f"file://{tmp_path}"
    report = perform(purge(archive=archive))
    with pytest.raises(AirflowFailException, match="orders, order_lines, line_events"):
        perform(restore(report["archive"], archive, tables=["orders", "order_lines"]))


def test_a_restore_misses_the_archive_of_a_child(orders, perform, tmp_path):
    archive = f"file://{tmp_path}"
    report = perform(purge(archive=archive))
    (folder,) = tmp_path.glob("**/children/line_events")
    shutil.rmtree(folder)
    with pytest.raises(AirflowFailException, match="0 rows of line_events; expected 745"):
        perform(restore(report["archive"], archive))
    assert orders.value("SELECT COUNT(*) FROM orders") == 50


REFUSED = {
    "no index": (
        ["CREATE TABLE notes (id int PRIMARY KEY, order_id bigint)"],
        [Child("notes", key="order_id")],
        r"CREATE INDEX `order_id` ON `notes` \(`order_id`\)",
    ),
    "another type": (
        ["CREATE TABLE notes (id int PRIMARY KEY, order_id varchar(20), INDEX (order_id))"],
        [Child("notes", key="order_id")],
        r"order_id is varchar\(20\).*id of orders is bigint",
    ),
    "no such table": ([], [Child("notes", key="order_id")], "no table 'notes'"),
    "no such column": ([], [Child("order_lines", key="order_no")], "no column 'order_no'"),
    "two columns": ([], [Child("order_lines", key=["order_id", "id"])], "has 2 columns, and id.* has 1"),
    "named twice": ([], [*TREE, Child("order_lines", key="order_id")], "named twice"),
    "its own child": (
        [],
        [Child("order_lines", key="order_id", children=[Child("orders", key="id")])],
        r"orders > order_lines > orders.*The tree is orders \[order_lines \(order_id\) \[orders \(id\)\]\]",
    ),
    "a cycle": (
        [
            "ALTER TABLE orders ADD first_line int NULL",
            "ALTER TABLE orders ADD FOREIGN KEY (first_line) REFERENCES order_lines (id)",
        ],
        "auto",
        r"cycle, orders > order_lines > orders.*The tree is orders \[order_lines \(order_id\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_tree_that_can_not_be_deleted_is_refused_before_the_first_write(orders, perform, case, dry_run):
    statements, children, message = REFUSED[case]
    for statement in statements:
        orders.run(statement)
    before = content(orders)
    with pytest.raises(AirflowFailException, match=message):
        perform(purge(children=children, dry_run=dry_run))
    assert content(orders) == before


def test_rows_in_another_database_are_an_error_that_shows_the_tree(orders, perform):
    orders.run("CREATE DATABASE IF NOT EXISTS scratch_other")
    try:
        orders.run(
            "CREATE TABLE scratch_other.notes (id int PRIMARY KEY, line_id int,"
            " FOREIGN KEY (line_id) REFERENCES scratch.order_lines (id))"
        )
        with pytest.raises(
            AirflowFailException, match=r"another database, 'scratch_other'.*The tree is orders"
        ):
            perform(purge(children="auto"))
        orders.run("INSERT INTO scratch_other.notes VALUES (1, 21)")
        assert perform(purge())["skipped"] == {"foreign_key": 1}
    finally:
        orders.run("DROP DATABASE scratch_other")


def test_children_that_refer_to_each_other_are_deleted_the_newest_first(scratch, perform, tmp_path):
    scratch.run("CREATE TABLE posts (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run(
        "CREATE TABLE comments (id int PRIMARY KEY, post_id int NOT NULL, answers int NULL,"
        " FOREIGN KEY (post_id) REFERENCES posts (id), FOREIGN KEY (answers) REFERENCES comments (id))"
    )
    scratch.run("INSERT INTO posts VALUES (1, '2020-01-01'), (2, '2020-01-01'), (3, '2999-01-01')")
    scratch.run("INSERT INTO comments VALUES (1, 1, NULL), (2, 1, 1), (3, 1, 2), (4, 2, NULL), (5, 3, 4)")
    before = scratch.rows("SELECT * FROM comments")
    archive = f"file://{tmp_path}"
    for children in ([Child("comments", key="post_id")], "auto"):
        report = perform(purge(table="posts", children=children, archive=archive))
        # A comment of a post that stays answers one of the second post.
        assert (report["changed"], report["skipped"]) == (1, {"foreign_key": 1})
        assert scratch.column("SELECT id FROM comments ORDER BY id") == [4, 5]
        perform(restore(report["archive"], archive, tables=["posts", "comments"]))
        assert scratch.rows("SELECT * FROM comments") == before


def test_a_child_that_refers_to_another_unique_key(scratch, perform):
    scratch.run(
        "CREATE TABLE orders (id int PRIMARY KEY, number varchar(9) NULL UNIQUE, at datetime NOT NULL)"
    )
    scratch.run(
        "CREATE TABLE order_lines (id int PRIMARY KEY, number varchar(9) NULL,"
        " FOREIGN KEY (number) REFERENCES orders (number))"
    )
    scratch.run(
        "INSERT INTO orders VALUES (1, 'a', '2020-01-01'), (2, NULL, '2020-01-01'), (3, 'c', '2999-01-01')"
    )
    scratch.run("INSERT INTO order_lines VALUES (1, 'a'), (2, 'A'), (3, NULL), (4, 'c')")
    report = perform(purge(children=[Child("order_lines", key="number")]))
    assert (report["changed"], report["children"]) == (2, {"order_lines": 2})
    assert scratch.column("SELECT id FROM order_lines ORDER BY id") == [3, 4]


def test_the_dry_run_lists_the_tree(orders, perform):
    report = perform(purge(dry_run=True))
    assert report["tree"] == [
        {"table": "order_lines", "key": "order_id", "depth": 1},
        {"table": "line_events", "key": "line_id", "depth": 2},
    ]
    assert report["children"] == {"order_lines": 249, "line_events": 745}


def test_the_kind_of_a_row_is_a_column_of_its_parent(scratch, perform):
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, state varchar(10) NULL)")
    scratch.run("CREATE TABLE order_lines (id int PRIMARY KEY, order_id int NULL, at datetime NOT NULL)")
    scratch.run("INSERT INTO orders VALUES (1, 'paid'), (2, 'cancelled'), (3, NULL), (4, 'Paid')")
    ages = (10, 100, 400)
    rows = [
        (10 * (order or 9) + place, order, age)
        for order in (1, 2, 3, 4, None)
        for place, age in enumerate(ages)
    ]
    for key, order, age in rows:
        scratch.run("INSERT INTO order_lines VALUES (%s, %s, NOW() - INTERVAL %s DAY)", [key, order, age])
    column = ParentColumn("state", table="orders", key="order_id")
    periods = {"column": column, "paid": "1y", "cancelled": "7d", None: "30d"}
    job = purge(table="order_lines", children=(), older_than=periods)
    dry = perform(purge(table="order_lines", children=(), older_than=periods, dry_run=True))
    assert perform(job)["changed"] == dry["matched"]
    allowed = {1: 365, 2: 7, 3: 30, 4: 365, None: 30}
    assert scratch.column("SELECT id FROM order_lines ORDER BY id") == [
        key for key, order, age in rows if age < allowed[order]
    ]
