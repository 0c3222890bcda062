"""What one transaction deletes and archives of the children of a row."""

from __future__ import annotations

import pytest
from MySQLdb import OperationalError

from iam_watcher.archive import reader
from iam_watcher.archive.format import ArchiveKind
from iam_watcher.archive.row_archive import RowArchive
from iam_watcher.archive.storage import Folder
from iam_watcher.archive.writer import Archive, Packed
from iam_watcher.jobs.children import Child
from iam_watcher.walk import descendants
from tests.integration.test_children import orders, purge

__all__ = ["orders"]

pytestmark = pytest.mark.every_server


def rows_of_children(report):
    (written,) = reader.find(report["archive"], kind=ArchiveKind.DELETED_ROWS)
    children = reader.find_children(written, below=report["archive"])
    return {table: list(child.rows()) for table, child in children.items()}


def test_a_child_can_not_change_between_its_search_and_its_deletion(orders, perform, monkeypatch):
    statement, refused = descendants._delete_statement, []

    def others_first(child, keys):
        if not refused:
            orders.run("SET innodb_lock_wait_timeout = 1")
            with pytest.raises(OperationalError, match="Lock wait timeout") as error:
                orders.run("UPDATE order_lines SET order_id = 2 WHERE id = 1")
            refused.append(error)
        return statement(child, keys)

    monkeypatch.setattr(descendants, "_delete_statement", others_first)
    assert perform(purge())["changed"] == 50
    assert refused


def test_the_archive_of_a_child_is_found_although_no_parent_is_archived_yet(tmp_path):
    """The rows below a large family are deleted in transactions before its own; then the worker is killed."""
    facts = {"kind": ArchiveKind.DELETED_ROWS, "key": "id", "now": "2026-01-01T00:00:00+00:00"}
    parents = {**facts, "table": "orders", "children": ["order_lines"]}
    archive = Archive(Folder(f"file://{tmp_path}/run"), parents)
    archive.child("order_lines", facts).add(Packed.of(1, [b'{"id": 1}\n']))
    assert rows_of_children({"archive": f"file://{tmp_path}/run"}) == {"order_lines": [{"id": 1}]}


@pytest.mark.needs("check-off")
def test_a_parent_stays_whole_if_an_archive_could_not_restore_one_of_its_children(orders, perform, tmp_path):
    orders.run("ALTER TABLE order_lines ADD CHECK (id > 0)")
    orders.run("SET check_constraint_checks = 0")
    orders.run("INSERT INTO order_lines VALUES (-5, 5, '')")
    report = perform(purge(archive=f"file://{tmp_path}"))
    assert (report["changed"], sum(report["skipped"].values())) == (49, 1)
    assert orders.column("SELECT id FROM order_lines WHERE order_id = 5 ORDER BY id") == [-5, *range(20, 25)]
    assert orders.value("SELECT COUNT(*) FROM line_events WHERE line_id BETWEEN 20 AND 24") == 15
    archived = rows_of_children(report)
    assert {table: len(rows) for table, rows in archived.items()} == report["children"]
    assert not [row for row in archived["order_lines"] if row["order_id"] == 5]


def test_rows_of_a_transaction_that_is_tried_again_are_counted_and_archived_once(
    orders, perform, tmp_path, monkeypatch
):
    store, failed = descendants.Descendants.store, []

    def fail_once(self):
        if not failed:
            failed.append(self)
            raise self._db.error(1213, "Deadlock found")
        store(self)

    monkeypatch.setattr(descendants.Descendants, "store", fail_once)
    report = perform(purge(archive=f"file://{tmp_path}"))
    assert report["retries"] == 1
    assert report["children"] == {"order_lines": 249, "line_events": 745}
    assert {table: len(rows) for table, rows in rows_of_children(report).items()} == report["children"]


def test_what_the_archive_of_a_child_leaves_out_is_named(orders, perform, tmp_path):
    orders.run("ALTER TABLE order_lines ADD twice int AS (id * 2), ADD code varchar(9) NULL")
    report = perform(purge(archive=f"file://{tmp_path}", redact=["code"]))
    (written,) = reader.find(report["archive"], kind=ArchiveKind.DELETED_ROWS)
    children = reader.find_children(written, below=report["archive"])
    assert {table: child.manifest["redacted"] for table, child in children.items()} == {
        "order_lines": ["code"],
        "line_events": [],
    }
    assert children["order_lines"].manifest["columns"].keys() == {"id", "order_id", "note"}


@pytest.fixture
def long_lines(scratch):
    """An old order with 10 lines of 1,000 bytes."""
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run("CREATE TABLE order_lines (id int PRIMARY KEY, order_id int, body text, INDEX (order_id))")
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    scratch.run_many(
        "INSERT INTO order_lines VALUES (%s, 1, %s)", [(key, "x" * 1000) for key in range(1, 11)]
    )


@pytest.mark.usefixtures("long_lines")
@pytest.mark.parametrize(
    ("most", "each"), [(1999, [1] * 10), (2000, [2] * 5), (9999, [9, 1]), (10_000, [10])]
)
def test_so_many_bytes_of_children_are_archived_at_once(perform, tmp_path, monkeypatch, most, each):
    record, recorded = RowArchive.record, []

    def note(archive, keys):
        if archive._rows.table == "`order_lines`":
            recorded.append(len(keys))
        record(archive, keys)

    monkeypatch.setattr(RowArchive, "record", note)
    monkeypatch.setattr(descendants, "MOST_BYTES", most)
    job = purge(children=[Child("order_lines", key="order_id")], archive=f"file://{tmp_path}")
    assert perform(job)["children"] == {"order_lines": 10}
    assert recorded == each


@pytest.mark.usefixtures("long_lines")
@pytest.mark.parametrize(("most", "large"), [(9999, True), (10_000, False)])
def test_more_bytes_than_one_transaction_takes_are_a_large_family(
    perform, tmp_path, monkeypatch, caplog, most, large
):
    caplog.set_level("INFO")
    monkeypatch.setattr(descendants, "MOST_BYTES_TOGETHER", most)
    job = purge(children=[Child("order_lines", key="order_id")], archive=f"file://{tmp_path}")
    assert perform(job)["children"] == {"order_lines": 10}
    assert ("too many descendants for one transaction" in caplog.text) == large


@pytest.mark.usefixtures("long_lines")
@pytest.mark.parametrize(("most", "large"), [(9, True), (10, False)])
@pytest.mark.parametrize("archived", [False, True])
def test_more_rows_than_one_transaction_takes_are_a_large_family(
    perform, tmp_path, monkeypatch, caplog, most, large, archived
):
    caplog.set_level("INFO")
    monkeypatch.setattr(descendants, "MOST_ROWS", most)
    archive = f"file://{tmp_path}" if archived else None
    job = purge(children=[Child("order_lines", key="order_id")], archive=archive)
    assert perform(job)["children"] == {"order_lines": 10}
    assert ("too many descendants for one transaction" in caplog.text) == large


@pytest.mark.parametrize(("most", "large"), [(19, True), (20, False)])
@pytest.mark.parametrize("archived", [False, True])
def test_the_rows_of_all_tables_count_for_a_transaction(
    orders, perform, tmp_path, monkeypatch, caplog, most, large, archived
):
    """An order has up to 5 lines and 15 events."""
    caplog.set_level("INFO")
    monkeypatch.setattr(descendants, "MOST_ROWS", most)
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", most)
    assert perform(purge(archive=f"file://{tmp_path}" if archived else None))["changed"] == 50
    assert ("too many descendants for one transaction" in caplog.text) == large


@pytest.mark.usefixtures("long_lines")
@pytest.mark.parametrize(("most", "large"), [(10_009, True), (10_010, False)])
def test_the_bytes_of_all_tables_count_for_a_transaction(
    scratch, perform, tmp_path, monkeypatch, caplog, most, large
):
    caplog.set_level("INFO")
    scratch.run("CREATE TABLE calls (id int PRIMARY KEY, ref int, note text NOT NULL, KEY (ref))")
    scratch.run("INSERT INTO calls SELECT 1, MIN(order_id), REPEAT('x', 10) FROM order_lines")
    monkeypatch.setattr(descendants, "MOST_BYTES_TOGETHER", most)
    children = [Child("order_lines", key="order_id"), Child("calls", key="ref")]
    report = perform(purge(children=children, archive=f"file://{tmp_path}"))
    assert report["children"] == {"order_lines": 10, "calls": 1}
    assert {table: len(rows) for table, rows in rows_of_children(report).items()} == report["children"]
    assert ("too many descendants for one transaction" in caplog.text) == large


def test_just_as_many_parents_as_fit_a_transaction_are_deleted_at_once(orders, perform, monkeypatch):
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", 50)
    assert perform(purge())["changed"] == 50
