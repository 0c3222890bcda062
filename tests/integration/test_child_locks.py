"""What other programs can't change while a family is deleted: rows that others refer to, and the family.

And which of their locks a delete meets. Most tests use the same orders: hence the length.
"""

from __future__ import annotations

from contextlib import closing

import pytest
from airflow.sdk.exceptions import AirflowFailException
from MySQLdb import OperationalError

from iam_watcher.database import transactions
from iam_watcher.database.server_errors import LOCK_WAIT_TIMEOUT
from iam_watcher.jobs.children import Child
from iam_watcher.walk import descendants, large_family
from iam_watcher.walk.descendants import Descendants
from iam_watcher.walk.large_family import LargeFamilies
from iam_watcher.walk.pace import ChunkSize
from iam_watcher.walk.writer import Writer
from tests.integration.conftest import numbers
from tests.integration.test_child_records import rows_of_children
from tests.integration.test_children import purge

pytestmark = pytest.mark.every_server

# The columns of orders or comments that others refer to, and the indexes on them.
REFERRED = {
    "primary key": ("id", ""),
    "unique key": ("number", "UNIQUE (number)"),
    "two indexes": ("number", "UNIQUE `the number` (number), KEY (number, shop)"),
    "two columns": ("number, shop", "UNIQUE (number, shop)"),
    "no unique key": ("shop", "KEY (shop, number)"),
    "first characters": ("number", "KEY (number, note(3))"),
    "part of the primary key": ("shop", "PRIMARY KEY (shop, id)"),
}


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(descendants, "MOST_ROWS", 5)
    monkeypatch.setattr(large_family, "ChunkSize", lambda target: ChunkSize(target, rows=10))


def meanwhile(database, monkeypatch, owner, name, *statements):
    """Run statements before the first call of a method; return a list that gets what each of them did."""
    method, did = getattr(owner, name), []

    def try_first(*arguments, **named):
        if not did:
            database.run("SET innodb_lock_wait_timeout = 1")
            for statement in statements:
                try:
                    did.append(database.run(statement))
                except OperationalError as error:
                    did.append(error.args[0])
        return method(*arguments, **named)

    monkeypatch.setattr(owner, name, try_first)
    return did


def create_orders(database, referred):
    """Create order 1, which is old, with a line; return the key of the lines."""
    columns, indexes = REFERRED[referred]
    more = indexes and f", {indexes}"
    primary = "" if "PRIMARY" in indexes else ", PRIMARY KEY (id)"
    database.run(
        f"CREATE TABLE orders (id int NOT NULL, number int NOT NULL, shop int NOT NULL, at datetime NOT NULL,"
        " note text NULL"
        f"{primary}{more})"
    )
    if database.rows("SHOW VARIABLES LIKE 'restrict_fk_on_non_standard_key'"):
        database.run("SET restrict_fk_on_non_standard_key = 0")
    names = columns.split(", ")
    declared = ", ".join(f"to_{name} int NULL" for name in names)
    key = ", ".join(f"to_{name}" for name in names)
    database.run(
        f"CREATE TABLE order_lines (id int PRIMARY KEY, {declared},"
        f" FOREIGN KEY ({key}) REFERENCES orders ({columns}) ON DELETE CASCADE)"
    )
    database.run("INSERT INTO orders VALUES (1, 1, 1, '2020-01-01', 'note')")
    database.run(f"INSERT INTO order_lines SELECT seq, {', '.join('1' for _ in names)} FROM {numbers(20)}")
    return [f"to_{name}" for name in names]


@pytest.mark.parametrize("referred", REFERRED)
def test_no_child_is_added_between_the_search_for_children_and_the_deletion_of_the_parent(
    scratch, perform, tmp_path, monkeypatch, referred
):
    """Else the server would delete it by ON DELETE CASCADE, and the archive would not have it."""
    key = create_orders(scratch, referred)
    line = f"INSERT INTO order_lines VALUES (99, {', '.join('1' for _ in key)})"
    did = meanwhile(scratch, monkeypatch, Descendants, "_write_all", line)
    report = perform(purge(children=[Child("order_lines", key=key)], archive=f"file://{tmp_path}"))
    assert did == [LOCK_WAIT_TIMEOUT]
    assert len(rows_of_children(report)["order_lines"]) == report["children"]["order_lines"] == 20


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("referred", REFERRED)
def test_no_child_is_added_to_a_large_family(scratch, perform, monkeypatch, referred):
    key = create_orders(scratch, referred)
    line = f"INSERT INTO order_lines VALUES (99, {', '.join('1' for _ in key)})"
    did = meanwhile(scratch, monkeypatch, LargeFamilies, "_write", line)
    report = perform(purge(children=[Child("order_lines", key=key)]))
    assert did == [LOCK_WAIT_TIMEOUT]
    assert (report["changed"], report["children"]) == (1, {"order_lines": 20})


@pytest.mark.usefixtures("large")
def test_no_row_of_a_table_outside_of_the_tree_begins_to_protect_a_large_family(
    scratch, perform, monkeypatch
):
    """They refer by another key than the children, whose own lock would keep them out."""
    key = create_orders(scratch, "primary key")
    scratch.run("ALTER TABLE orders ADD UNIQUE (number)")
    scratch.run("CREATE TABLE bills (number int, FOREIGN KEY (number) REFERENCES orders (number))")
    did = meanwhile(scratch, monkeypatch, LargeFamilies, "_write", "INSERT INTO bills VALUES (1)")
    report = perform(purge(children=[Child("order_lines", key=key)]))
    assert did == [LOCK_WAIT_TIMEOUT]
    assert report["changed"] == 1


@pytest.mark.parametrize("of", ["small", "large"])
@pytest.mark.parametrize("rule", ["RESTRICT", "CASCADE", "SET NULL"])
def test_a_lock_on_a_reply_of_another_family_holds_nothing_up(
    scratch, mariadb, perform, monkeypatch, request, rule, of
):
    """Where most of a small table is deleted, the server would rather look at all of it, under lock."""
    if of == "large":
        request.getfixturevalue("large")
        monkeypatch.setattr(large_family, "ChunkSize", lambda target: ChunkSize(target, rows=1_000))
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01'), (9, '2999-01-01')")
    scratch.run(
        "CREATE TABLE comments (id int PRIMARY KEY, order_id int NOT NULL, answers int NULL,"
        f" INDEX (order_id), FOREIGN KEY (answers) REFERENCES comments (id) ON DELETE {rule})"
    )
    scratch.run(f"INSERT INTO comments SELECT seq * 3, IF(seq = 7, 9, 1), NULL FROM {numbers(400)}")
    scratch.run("UPDATE comments SET answers = 3 WHERE id > 300")
    scratch.run("ANALYZE TABLE comments")
    monkeypatch.setattr(transactions, "TRIES", 1)
    with closing(mariadb.connect("scratch", autocommit=False)) as connection:
        connection.cursor().execute("SELECT * FROM comments WHERE id = 21 FOR UPDATE")
        report = perform(purge(children=[Child("comments", key="order_id")]))
    assert (report["changed"], report["children"]) == (1, {"comments": 399})
    assert scratch.column("SELECT id FROM comments") == [21]


@pytest.mark.parametrize("archived", [True, False])
def test_a_lock_on_a_child_of_another_family_holds_nothing_up(
    scratch, mariadb, perform, tmp_path, monkeypatch, archived
):
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01'), (3, '2020-01-01'), (9, '2999-01-01')")
    scratch.run(
        "CREATE TABLE lines_ (id int PRIMARY KEY, order_id int NOT NULL, n int NULL, INDEX (order_id))"
    )
    scratch.run(f"INSERT INTO lines_ SELECT seq * 3, IF(seq = 7, 9, 1 + seq % 2 * 2), 1 FROM {numbers(400)}")
    scratch.run("ANALYZE TABLE lines_")
    monkeypatch.setattr(transactions, "TRIES", 1)
    archive = f"file://{tmp_path}" if archived else None
    with closing(mariadb.connect("scratch", autocommit=False)) as connection:
        connection.cursor().execute("SELECT * FROM lines_ WHERE id = 21 FOR UPDATE")
        report = perform(purge(children=[Child("lines_", key="order_id")], archive=archive))
    assert (report["changed"], report["children"]) == (2, {"lines_": 399})


def test_a_lock_on_another_row_that_can_be_referred_to_holds_nothing_up(
    scratch, mariadb, perform, monkeypatch
):
    create_orders(scratch, "unique key")
    scratch.run(f"INSERT INTO orders SELECT 1 + seq, 1 + seq, 1, '2020-01-01', '' FROM {numbers(40)}")
    scratch.run("UPDATE orders SET at = '2999-01-01' WHERE id = 21")
    scratch.run("ANALYZE TABLE orders")
    monkeypatch.setattr(transactions, "TRIES", 1)
    with closing(mariadb.connect("scratch", autocommit=False)) as connection:
        connection.cursor().execute("SELECT * FROM orders WHERE number = 21 FOR UPDATE")
        report = perform(purge(children=[Child("order_lines", key="to_number")]))
    assert (report["changed"], report["children"]) == (40, {"order_lines": 20})


@pytest.mark.parametrize("of", ["small", "large"])
def test_no_row_is_added_below_a_child(scratch, perform, tmp_path, monkeypatch, request, of):
    if of == "large":
        request.getfixturevalue("large")
    key = create_orders(scratch, "primary key")
    scratch.run("ALTER TABLE order_lines ADD code int NULL, ADD UNIQUE (code)")
    scratch.run("UPDATE order_lines SET code = id + 1000")
    scratch.run(
        "CREATE TABLE events (id int PRIMARY KEY, code int NOT NULL,"
        " FOREIGN KEY (code) REFERENCES order_lines (code) ON DELETE CASCADE)"
    )
    scratch.run("INSERT INTO events SELECT id, code FROM order_lines")
    owner, name = (descendants, "_delete_statement") if of == "small" else (Descendants, "_write_all")
    events = [f"INSERT INTO events VALUES ({code}, {code})" for code in (1001, 1020)]
    did = meanwhile(scratch, monkeypatch, owner, name, *events)
    children = [Child("order_lines", key=key, children=[Child("events", key="code")])]
    report = perform(purge(children=children, archive=f"file://{tmp_path}"))
    # Line 20 of a large family is not locked yet: it is deleted in a later transaction.
    assert did == [LOCK_WAIT_TIMEOUT, LOCK_WAIT_TIMEOUT if of == "small" else 1]
    assert len(rows_of_children(report)["events"]) == 20 + did.count(1)
    assert scratch.value("SELECT COUNT(*) FROM events") == 0


@pytest.mark.parametrize("of", ["small", "large"])
@pytest.mark.parametrize("referred", ["primary key", "unique key"])
def test_no_reply_is_added_between_the_search_for_replies_and_the_deletion(
    scratch, perform, monkeypatch, request, referred, of
):
    """Else the server would delete the reply to another post by ON DELETE CASCADE."""
    if of == "large":
        request.getfixturevalue("large")
    column, index = REFERRED[referred]
    scratch.run("CREATE TABLE posts (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run(
        "CREATE TABLE comments (id int PRIMARY KEY, number int NOT NULL, post_id int NOT NULL,"
        f" answers int NULL, KEY (post_id){index and ', '}{index},"
        f" FOREIGN KEY (answers) REFERENCES comments ({column}) ON DELETE CASCADE)"
    )
    scratch.run("INSERT INTO posts VALUES (1, '2020-01-01'), (2, '2999-01-01')")
    scratch.run(f"INSERT INTO comments SELECT seq, seq, 1, NULL FROM {numbers(10)}")
    owner, name = (descendants, "_delete_statement") if of == "small" else (Writer, "_change_keys")
    did = meanwhile(scratch, monkeypatch, owner, name, "INSERT INTO comments VALUES (99, 99, 2, 10)")
    report = perform(purge(table="posts", children=[Child("comments", key="post_id")]))
    assert did == [LOCK_WAIT_TIMEOUT]
    assert (report["changed"], report["children"]) == (1, {"comments": 10})


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("left", [20, 0])
@pytest.mark.parametrize("moved", ["order_lines", "events"])
def test_a_child_that_moves_to_another_parent_ends_the_deletion_of_its_own_children(
    scratch, perform, monkeypatch, moved, left
):
    """Line 1 of order 1 and its event 1 have 40 details, so each of them is deleted alone."""
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01'), (2, '2999-01-01')")
    above = "orders"
    for table in ("order_lines", "events", "details"):
        scratch.run(
            f"CREATE TABLE {table} (id int PRIMARY KEY, parent int NOT NULL,"
            f" FOREIGN KEY (parent) REFERENCES {above} (id))"
        )
        above = table
        scratch.run(f"INSERT INTO {table} VALUES (1, 1), (2, {1 + (table != 'order_lines')})")
    scratch.run("UPDATE order_lines SET parent = 2 WHERE id = 2")
    scratch.run(f"INSERT INTO details SELECT 10 + seq, 1 FROM {numbers(40)}")
    write, details = LargeFamilies._write, []

    def move(self, child, *arguments):
        written = write(self, child, *arguments)
        if child.table.name == "details":
            details.append(scratch.value("SELECT COUNT(*) FROM details WHERE parent = 1"))
            if details[-1] <= left:
                scratch.run(f"UPDATE {moved} SET parent = 2 WHERE id = 1")
        return written

    monkeypatch.setattr(LargeFamilies, "_write", move)
    below = [Child("events", key="parent", children=[Child("details", key="parent")])]
    message = rf"a row of `{moved}` can't be deleted \(changed_meanwhile, key 1\), after other descendants"
    with pytest.raises(AirflowFailException, match=message):
        perform(purge(children=[Child("order_lines", key="parent", children=below)]))
    assert scratch.value(f"SELECT parent FROM {moved} WHERE id = 1") == 2
    assert scratch.value("SELECT COUNT(*) FROM details WHERE parent = 1") == details[-1] <= left
