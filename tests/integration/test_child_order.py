"""Foreign keys between the tables of a tree: in which order the tables go, and which families stay.

All tests use the same few tables and the same check of the archive: hence the length.
"""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.archive import reader
from iam_watcher.archive.format import ArchiveKind
from iam_watcher.jobs.children import Child
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.walk import descendants, large_family
from iam_watcher.walk.pace import ChunkSize
from tests.integration.conftest import numbers
from tests.integration.test_child_records import rows_of_children
from tests.integration.test_children import purge

pytestmark = pytest.mark.every_server

RULES = ["RESTRICT", "CASCADE", "SET NULL"]
ORDERS = "CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)"
LINES, SHIPMENTS = Child("order_lines", key="order_id"), Child("shipments", key="order_id")


@pytest.fixture(params=[20_000, 5], ids=["together", "large"])
def large(request, monkeypatch):
    """Whether families are deleted in several transactions."""
    for name in ("MOST_ROWS", "FIRST_TOGETHER"):
        monkeypatch.setattr(descendants, name, request.param)
    monkeypatch.setattr(large_family, "ChunkSize", lambda target: ChunkSize(target, rows=10))
    monkeypatch.setattr(large_family, "PAGE", 7)
    return request.param == 5


def create(database, table, *foreign_keys, columns=""):
    """Create a table; a foreign key is a column, the table that it refers to, and a rule."""
    keys = "".join(
        f", {column} int NULL, FOREIGN KEY ({column}) REFERENCES {to} (id) ON DELETE {rule}"
        for column, to, rule in foreign_keys
    )
    database.run(f"CREATE TABLE {table} (id int PRIMARY KEY{columns}{keys})")


def content(database, *tables):
    return {table: database.rows(f"SELECT * FROM {table} ORDER BY id") for table in tables}


def archived(report, *tables):
    """Return table → rows that the archive has."""
    (written,) = reader.find(report["archive"], kind=ArchiveKind.DELETED_ROWS)
    found = {written.manifest["table"]: list(written.rows()), **rows_of_children(report)}
    return {table: sorted(row["id"] for row in found.get(table, [])) for table in tables}


def comes_back(database, perform, report, before):
    """Check that a restore brings back what the purge has deleted."""
    location = report["archive"].rpartition("/orders/")[0]
    options = {"path": report["archive"], "location": location, "tables": list(before)}
    perform(RestoreRowsOperator(task_id="restore", mysql_conn_id="scratch", **options))
    assert content(database, *before) == before


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("children", ["auto", [LINES, SHIPMENTS], [SHIPMENTS, LINES]], ids=["auto", "a", "b"])
@pytest.mark.parametrize("rule", RULES)
def test_a_child_goes_before_the_one_it_refers_to(scratch, perform, tmp_path, rule, children):
    scratch.run(ORDERS)
    create(scratch, "order_lines", ("order_id", "orders", "RESTRICT"))
    create(scratch, "shipments", ("order_id", "orders", "RESTRICT"), ("line_id", "order_lines", rule))
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    scratch.run(f"INSERT INTO order_lines SELECT seq, 1 FROM {numbers(20)}")
    scratch.run(f"INSERT INTO shipments SELECT seq, 1, seq FROM {numbers(20)}")
    before = content(scratch, "orders", "order_lines", "shipments")
    report = perform(purge(children=children, archive=f"file://{tmp_path}"))
    assert report["children"] == {"order_lines": 20, "shipments": 20}
    comes_back(scratch, perform, report, before)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("rule", RULES)
def test_children_of_one_child_go_in_the_same_order(scratch, perform, tmp_path, rule):
    """Customer > orders > lines and shipments: a shipment has a line of the same order."""
    scratch.run(ORDERS)
    create(scratch, "parcels", ("order_id", "orders", "RESTRICT"))
    create(scratch, "order_lines", ("parcel_id", "parcels", "RESTRICT"))
    create(scratch, "shipments", ("parcel_id", "parcels", "RESTRICT"), ("line_id", "order_lines", rule))
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    scratch.run(f"INSERT INTO parcels SELECT seq, 1 FROM {numbers(20)}")
    for table, more in (("order_lines", ""), ("shipments", ", seq")):
        scratch.run(f"INSERT INTO {table} SELECT seq, 1 + seq DIV 2{more} FROM {numbers(38)}")
    before = content(scratch, "orders", "parcels", "order_lines", "shipments")
    below = [Child("order_lines", key="parcel_id"), Child("shipments", key="parcel_id")]
    children = [Child("parcels", key="order_id", children=below)]
    report = perform(purge(children=children, archive=f"file://{tmp_path}"))
    assert (report["changed"], report["skipped"]) == (1, {})
    comes_back(scratch, perform, report, before)


@pytest.mark.parametrize("rule", RULES)
def test_a_reference_to_a_row_of_another_parent(scratch, perform, tmp_path, large, rule):
    """A link belongs to message 35, and quotes message 2, which goes first in a large family."""
    scratch.run(ORDERS)
    create(scratch, "messages", ("order_id", "orders", "RESTRICT"))
    create(scratch, "links", ("message_id", "messages", "RESTRICT"), ("quoted", "messages", rule))
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01'), (2, '2020-01-01')")
    scratch.run(f"INSERT INTO messages SELECT seq, 1 FROM {numbers(40)}")
    scratch.run("INSERT INTO links VALUES (1, 35, 2)")
    before = content(scratch, "orders", "messages", "links")
    children = [Child("messages", key="order_id", children=[Child("links", key="message_id")])]
    report = perform(purge(children=children, archive=f"file://{tmp_path}"))
    assert (report["changed"], report["skipped"]) == ((1, {"foreign_key": 1}) if large else (2, {}))
    left = content(scratch, "messages", "links")
    assert left == (
        {"messages": before["messages"], "links": [(1, 35, 2)]} if large else {table: [] for table in left}
    )
    comes_back(scratch, perform, report, before)


@pytest.mark.parametrize("post", [1, 9])
def test_a_reply_in_another_thread_of_the_same_order(scratch, perform, tmp_path, large, post):
    """The archive must not have the reply as the server changes it. One of order 9 may change."""
    scratch.run(ORDERS)
    create(scratch, "threads", ("order_id", "orders", "RESTRICT"))
    create(scratch, "comments", ("thread_id", "threads", "RESTRICT"), ("answers", "comments", "SET NULL"))
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01'), (9, '2999-01-01')")
    scratch.run(f"INSERT INTO threads VALUES (1, 1), (2, {post})")
    scratch.run(f"INSERT INTO comments SELECT seq, 1, NULL FROM {numbers(20)}")
    scratch.run("INSERT INTO comments VALUES (30, 2, 7)")
    before = content(scratch, "orders", "threads", "comments")
    children = [Child("threads", key="order_id", children=[Child("comments", key="thread_id")])]
    report = perform(purge(children=children, archive=f"file://{tmp_path}"))
    assert report["skipped"] == ({"foreign_key": 1} if large and post == 1 else {})
    if post == 9:
        assert scratch.rows("SELECT * FROM comments") == [(30, 2, None)]
    elif not large:
        comes_back(scratch, perform, report, before)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("family", [1, 2])
def test_a_row_of_another_family_protects_a_row(scratch, perform, tmp_path, family):
    """Nothing of the order is deleted first. A shipment of the same order does not protect its line."""
    scratch.run(ORDERS)
    create(scratch, "order_lines", ("order_id", "orders", "RESTRICT"))
    create(scratch, "shipments", ("order_id", "orders", "RESTRICT"), ("line_id", "order_lines", "RESTRICT"))
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01'), (2, '2999-01-01')")
    scratch.run(f"INSERT INTO order_lines SELECT seq, 1 FROM {numbers(40)}")
    scratch.run(f"INSERT INTO shipments VALUES (1, 1, 1), (2, {family}, 35)")
    before = content(scratch, "orders", "order_lines", "shipments")
    report = perform(purge(children=[LINES, SHIPMENTS], archive=f"file://{tmp_path}"))
    if family == 1:
        assert report["children"] == {"order_lines": 40, "shipments": 2}
        comes_back(scratch, perform, report, before)
    else:
        assert (report["changed"], report["skipped"]) == (0, {"foreign_key": 1})
        assert content(scratch, *before) == before


def last_line(database, rule, lines=30):
    create(database, "orders", columns=", at datetime NOT NULL, last_line int NULL")
    create(database, "order_lines", ("order_id", "orders", "RESTRICT"))
    database.run("INSERT INTO orders VALUES (1, '2020-01-01', NULL), (2, '2020-01-01', NULL)")
    database.run(f"INSERT INTO order_lines SELECT seq, 1 FROM {numbers(lines)}")
    database.run(
        f"ALTER TABLE orders ADD FOREIGN KEY (last_line) REFERENCES order_lines (id) ON DELETE {rule}"
    )
    database.run("UPDATE orders SET last_line = 17 WHERE id = 1")


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("events", [False, True])
def test_an_order_that_refers_to_its_last_line(scratch, perform, tmp_path, events):
    """In a large family, this line goes together with the order, which is recorded before."""
    last_line(scratch, "SET NULL")
    create(scratch, "line_events", ("line_id", "order_lines", "CASCADE"))
    scratch.run(f"INSERT INTO line_events SELECT seq, 17 FROM {numbers(40 if events else 2)}")
    before = content(scratch, "orders", "order_lines", "line_events")
    lines = Child("order_lines", key="order_id", children=[Child("line_events", key="line_id")])
    report = perform(purge(children=[lines], archive=f"file://{tmp_path}"))
    assert (report["changed"], report["skipped"]) == (2, {})
    assert report["children"] == {"order_lines": 30, "line_events": 40 if events else 2}
    comes_back(scratch, perform, report, before)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(("rule", "order"), [("RESTRICT", 1), ("RESTRICT", 2), ("SET NULL", 2)])
def test_an_order_that_refers_to_a_line_of_any_order(scratch, perform, tmp_path, rule, order):
    last_line(scratch, rule)
    scratch.run(f"UPDATE orders SET last_line = IF(id = {order}, 17, NULL)")
    before = content(scratch, "orders", "order_lines")
    report = perform(purge(children=[LINES], archive=f"file://{tmp_path}"))
    if (rule, order) == ("RESTRICT", 1):
        assert report["skipped"] == {"foreign_key": 1}
        assert content(scratch, *before) == {**before, "orders": before["orders"][:1]}
    else:  # Order 2 goes first, at the second attempt.
        assert (report["changed"], report["skipped"]) == (2, {})


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("messages", [3, 30])
def test_a_child_that_refers_to_its_last_child(scratch, perform, tmp_path, messages):
    scratch.run(ORDERS)
    create(scratch, "chats", ("order_id", "orders", "RESTRICT"), columns=", last_message int NULL")
    create(scratch, "messages", ("chat_id", "chats", "RESTRICT"))
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    scratch.run(f"INSERT INTO chats SELECT seq, NULL, 1 FROM {numbers(12)}")
    scratch.run(f"INSERT INTO messages SELECT seq, 1 + seq DIV {messages} FROM {numbers(12 * messages - 1)}")
    scratch.run(
        "ALTER TABLE chats ADD FOREIGN KEY (last_message) REFERENCES messages (id) ON DELETE SET NULL"
    )
    scratch.run("UPDATE chats SET last_message = (SELECT MAX(id) FROM messages WHERE chat_id = chats.id)")
    before = content(scratch, "orders", "chats", "messages")
    children = [Child("chats", key="order_id", children=[Child("messages", key="chat_id")])]
    report = perform(purge(children=children, archive=f"file://{tmp_path}"))
    assert (report["changed"], report["skipped"]) == (1, {})
    comes_back(scratch, perform, report, before)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("archive", [True, False])
def test_children_that_refer_to_each_other_in_a_circle_are_refused(scratch, perform, tmp_path, rule, archive):
    """Without an archive, SET NULL is harmless. With CASCADE, the chats go first, and are protected."""
    scratch.run(ORDERS)
    create(scratch, "chats", ("order_id", "orders", "RESTRICT"), columns=", last_message int NULL")
    create(scratch, "messages", ("order_id", "orders", "RESTRICT"), ("chat_id", "chats", "RESTRICT"))
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    scratch.run("INSERT INTO chats VALUES (1, NULL, 1)")
    scratch.run("INSERT INTO messages VALUES (1, 1, 1)")
    scratch.run(f"ALTER TABLE chats ADD FOREIGN KEY (last_message) REFERENCES messages (id) ON DELETE {rule}")
    scratch.run("UPDATE chats SET last_message = 1")
    before = content(scratch, "orders", "chats", "messages")
    children = [Child("chats", key="order_id"), Child("messages", key="order_id")]
    job = purge(children=children, archive=f"file://{tmp_path}" if archive else None)
    if rule == "SET NULL" and archive:
        with pytest.raises(
            AirflowFailException, match=r"chats \(last_message\).*SET NULL.*The tree is orders"
        ):
            perform(job)
        assert content(scratch, *before) == before
    else:
        assert perform(job)["skipped"] == ({} if rule == "SET NULL" else {"foreign_key": 1})
        assert rule == "SET NULL" or content(scratch, *before) == before


def test_an_order_that_would_go_with_its_line_is_refused(scratch, perform):
    last_line(scratch, "CASCADE")
    with pytest.raises(
        AirflowFailException, match=r"orders \(last_line\) refers to it with ON DELETE CASCADE"
    ):
        perform(purge(children=[LINES]))
    assert scratch.value("SELECT COUNT(*) FROM order_lines") == 30


@pytest.mark.usefixtures("large")
def test_a_reply_by_another_key_of_a_table_that_is_there_twice(scratch, perform, tmp_path):
    scratch.run(ORDERS)
    create(
        scratch,
        "transfers",
        ("paid_by", "orders", "RESTRICT"),
        ("paid_to", "orders", "RESTRICT"),
        ("reverses", "transfers", "SET NULL"),
    )
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01'), (2, '2020-01-01')")
    scratch.run(f"INSERT INTO transfers SELECT seq, 1, NULL, NULL FROM {numbers(20)}")
    scratch.run("INSERT INTO transfers VALUES (30, NULL, 1, 7), (31, 2, NULL, NULL), (32, 2, NULL, 31)")
    before = content(scratch, "orders", "transfers")
    report = perform(purge(children="auto", archive=f"file://{tmp_path}"))
    assert (report["changed"], report["skipped"]) == (1, {"foreign_key": 1})
    comes_back(scratch, perform, report, before)
