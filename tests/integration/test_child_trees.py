"""Which trees of tables a purge can delete from, and which rows of them it leaves.

Many tests share the tables of one of three trees: hence the length.
"""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.database.throttle import Throttler
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.children import Child
from iam_watcher.walk import descendants, large_family
from tests.integration.test_children import content, orders, protect, purge

__all__ = ["orders"]

pytestmark = pytest.mark.every_server

GENERAL, BINARY = (f"CHARACTER SET utf8mb4 COLLATE utf8mb4_{name}" for name in ("general_ci", "bin"))

# The column of a child, that of its parents, and a value of both.
COMPARED = {
    "char and varchar": (f"char(9) {GENERAL}", f"varchar(12) {GENERAL}", "a"),
    "integers": ("int", "bigint unsigned", 1),
    "enum": ("enum('a','b')", "enum('a','b')", "b"),
    "binary": ("binary(4)", "binary(4)", "abcd"),
}
NOT_COMPARED = {
    "text": (f"text {GENERAL}", f"varchar(12) {GENERAL}", r"rows can't be found by ref: ref is text"),
    "collation": (f"varchar(12) {BINARY}", f"varchar(12) {GENERAL}", "of collation utf8mb4_bin, and code of"),
    "date": ("datetime", "date", "ref is datetime, and code of orders is date; expected the same type"),
    "members": ("enum('b','a')", "enum('a','b')", "expected the same type"),
    "zeros": ("binary(8)", "binary(4)", "expected the same type"),
    "integer": ("int", "varchar(12)", "expected the same type"),
}


def family(database, child, parent, index="INDEX (ref)"):
    """Create orders with a `code` as their key, and notes that refer to it by `ref`."""
    database.run(f"CREATE TABLE orders (code {parent} PRIMARY KEY, at datetime NOT NULL)")
    database.run(f"CREATE TABLE notes (id int PRIMARY KEY, ref {child} NULL, more int NULL, {index})")


def notes(**options):
    return purge(children=[Child("notes", key="ref")], **options)


@pytest.mark.parametrize(("child", "parent", "value"), COMPARED.values(), ids=COMPARED)
def test_rows_are_found_by_columns_that_are_compared_alike(scratch, perform, child, parent, value):
    family(scratch, child, parent)
    scratch.run("INSERT INTO orders VALUES (%s, '2020-01-01')", [value])
    scratch.run("INSERT INTO notes VALUES (1, %s, 0), (2, NULL, 0)", [value])
    report = perform(notes())
    assert (report["changed"], report["children"]) == (1, {"notes": 1})
    assert scratch.column("SELECT id FROM notes") == [2]


@pytest.mark.parametrize(("child", "parent", "message"), NOT_COMPARED.values(), ids=NOT_COMPARED)
def test_columns_that_are_compared_in_another_way_are_refused(scratch, perform, child, parent, message):
    family(scratch, child, parent, "INDEX (ref(3))" if child.startswith("text") else "INDEX (ref)")
    with pytest.raises(AirflowFailException, match=message):
        perform(notes())


@pytest.mark.parametrize(
    ("index", "found"),
    [
        ("FULLTEXT (ref)", False),
        ("INDEX (ref(3))", False),
        ("INDEX (more, ref)", False),
        ("INDEX (ref, more)", True),
        ("UNIQUE (ref)", True),
    ],
)
def test_only_an_index_on_the_whole_key_finds_the_rows(scratch, perform, index, found):
    family(scratch, "varchar(9)", "varchar(9)", index)
    scratch.run("INSERT INTO orders VALUES ('a', '2020-01-01')")
    scratch.run("INSERT INTO notes VALUES (1, 'a', 0)")
    if found:
        assert perform(notes())["children"] == {"notes": 1}
    else:
        with pytest.raises(AirflowFailException, match="it needs an index that begins with ref"):
            perform(notes())


def test_the_order_of_the_columns_in_an_index_on_a_key_does_not_matter(scratch, perform):
    scratch.run("CREATE TABLE orders (a int, b int, at datetime NOT NULL, PRIMARY KEY (a, b))")
    scratch.run("CREATE TABLE notes (id int PRIMARY KEY, a int, b int, x int, INDEX (b, a, x))")
    scratch.run("INSERT INTO orders VALUES (1, 2, '2020-01-01'), (2, 1, '2999-01-01')")
    scratch.run("INSERT INTO notes VALUES (1, 1, 2, 0), (2, 2, 1, 0)")
    assert perform(purge(children=[Child("notes", key=["a", "b"])]))["children"] == {"notes": 1}
    assert scratch.column("SELECT id FROM notes") == [2]


@pytest.mark.parametrize("enforced", [True, False])
def test_a_table_without_a_primary_key_has_children_by_its_foreign_keys_alone(scratch, perform, enforced):
    family(scratch, "varchar(9)", "varchar(9) NOT NULL")
    scratch.run("ALTER TABLE orders DROP PRIMARY KEY, ADD UNIQUE (code)")
    scratch.run("INSERT INTO orders VALUES ('a', '2020-01-01')")
    scratch.run("INSERT INTO notes VALUES (1, 'a', 0)")
    if enforced:
        scratch.run("ALTER TABLE notes ADD FOREIGN KEY (ref) REFERENCES orders (code)")
        assert perform(notes())["children"] == {"notes": 1}
    else:
        with pytest.raises(AirflowFailException, match="orders has no primary key that ref could refer to"):
            perform(notes())


@pytest.mark.parametrize("outside", [True, False])
def test_a_foreign_key_from_outside_the_tree_is_logged(orders, perform, caplog, outside):
    if outside:
        protect(orders)
    perform(purge(dry_run=True))
    assert ("holds (ref) refers to order_lines. The tree is orders" in caplog.text) == outside
    assert ("stay with all of their children" in caplog.text) == outside


def test_rows_whose_reference_becomes_null_are_no_children(orders, perform):
    orders.run(
        "CREATE TABLE notes (id int PRIMARY KEY, order_id bigint NULL,"
        " FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE SET NULL)"
    )
    orders.run("INSERT INTO notes VALUES (1, 1), (2, 2)")
    report = perform(purge(children="auto"))
    assert report["children"].keys() == {"order_lines", "line_events"}
    assert orders.rows("SELECT * FROM notes ORDER BY id") == [(1, None), (2, 2)]


def stays_whole(database, before, report):
    """Check that order 5 stayed with all that belongs to it, and no other old order did."""
    assert (report["changed"], report["skipped"]) == (49, {"foreign_key": 1})
    after = content(database)
    assert [row[0] for row in after["orders"] if row[0] % 2] == [5]
    lines = [row for row in before["order_lines"] if row[1] == 5]
    assert [row for row in after["order_lines"] if row[1] == 5] == lines
    assert report["children"] == {
        table: len(before[table]) - len(after[table]) for table in ("order_lines", "line_events")
    }
    ids = {row[0] for row in lines}
    assert [row for row in after["line_events"] if row[1] in ids] == [
        row for row in before["line_events"] if row[1] in ids
    ]


@pytest.fixture(params=[20_000, 5], ids=["together", "large"])
def _in_one_or_many_transactions(request, monkeypatch):
    monkeypatch.setattr(descendants, "MOST_ROWS", request.param)
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", request.param)


@pytest.mark.usefixtures("_in_one_or_many_transactions")
@pytest.mark.parametrize("named", [True, False])
def test_a_parent_that_another_parent_refers_to_stays_whole(orders, perform, named):
    orders.run("ALTER TABLE orders ADD next bigint NULL, ADD FOREIGN KEY (next) REFERENCES orders (id)")
    orders.run("UPDATE orders SET next = 5 WHERE id = 6")
    before = content(orders)
    stays_whole(orders, before, perform(purge(**{} if named else {"children": "auto"})))


@pytest.mark.usefixtures("_in_one_or_many_transactions")
def test_a_table_of_the_same_name_in_another_database_is_outside_the_tree(orders, perform, caplog):
    orders.run("CREATE DATABASE IF NOT EXISTS scratch_other")
    try:
        orders.run(
            "CREATE TABLE scratch_other.line_events (id int PRIMARY KEY, line_id int,"
            " FOREIGN KEY (line_id) REFERENCES scratch.order_lines (id))"
        )
        orders.run("INSERT INTO scratch_other.line_events VALUES (1, 21)")
        before = content(orders)
        stays_whole(orders, before, perform(purge()))
        assert "scratch_other.line_events (line_id) refers to order_lines" in caplog.text
    finally:
        orders.run("DROP DATABASE scratch_other")


@pytest.mark.parametrize("event", [59, 66, 71])
def test_a_protected_row_is_found_on_any_page_of_a_large_family(orders, perform, monkeypatch, event):
    """The lines 20 to 24 belong to order 5, and the events 57 to 71 to them."""
    for name in ("MOST_ROWS", "FIRST_TOGETHER"):
        monkeypatch.setattr(descendants, name, 5)
    monkeypatch.setattr(large_family, "PAGE", 2)
    protect(orders, "line_events", event)
    before = content(orders)
    stays_whole(orders, before, perform(purge()))


@pytest.fixture
def accounts(scratch):
    """Old accounts 1 to 6, and 7, which is not old; 40 transfers from each of the first five to itself."""
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run(
        "CREATE TABLE transfer (id int PRIMARY KEY, from_account int NULL, to_account int NULL,"
        " KEY (from_account), KEY (to_account), FOREIGN KEY (from_account) REFERENCES orders (id),"
        " FOREIGN KEY (to_account) REFERENCES orders (id))"
    )
    scratch.run_many(
        "INSERT INTO orders VALUES (%s, %s)",
        [(key, "2999-01-01" if key == 7 else "2020-01-01") for key in range(1, 8)],
    )
    scratch.run_many(
        "INSERT INTO transfer VALUES (%s, %s, %s)",
        [(100 * key + n, key, key) for key in range(1, 6) for n in range(40)],
    )
    return scratch


def transfers(database):
    """Return account → how many transfers from it are left."""
    query = "SELECT from_account, COUNT(*) FROM transfer GROUP BY from_account"
    return dict(database.rows(query))


@pytest.mark.usefixtures("_in_one_or_many_transactions")
def test_a_child_by_one_of_two_foreign_keys_protects_its_other_parent(accounts, perform):
    """Account 1 has a transfer from 7, which stays, and 2 one from nobody; 4 has one from 3, which goes."""
    accounts.run("INSERT INTO transfer VALUES (1, 7, 1), (2, NULL, 2), (3, 3, 4)")
    report = perform(purge(children=[Child("transfer", key="from_account")]))
    assert report["skipped"] == {"foreign_key": 2}
    assert accounts.column("SELECT id FROM orders ORDER BY id") == [1, 2, 7]
    assert transfers(accounts) == {1: 40, 2: 40, 7: 1, None: 1}
    assert report["children"] == {"transfer": 121}


@pytest.mark.parametrize("rule", ["CASCADE", "SET NULL", "RESTRICT"])
def test_children_that_the_server_changes_by_another_foreign_key_are_named_in_a_warning(
    accounts, perform, caplog, rule
):
    (name,) = accounts.column(
        "SELECT CONSTRAINT_NAME FROM information_schema.KEY_COLUMN_USAGE"
        " WHERE TABLE_SCHEMA = 'scratch' AND TABLE_NAME = 'transfer' AND COLUMN_NAME = 'to_account'"
        " AND REFERENCED_TABLE_NAME IS NOT NULL"
    )
    accounts.run(f"ALTER TABLE transfer DROP FOREIGN KEY {name}")
    accounts.run(f"ALTER TABLE transfer ADD FOREIGN KEY (to_account) REFERENCES orders (id) ON DELETE {rule}")
    perform(purge(children=[Child("transfer", key="from_account")], dry_run=True))
    warned = f"ON DELETE {rule} of scratch.transfer (to_account)" in caplog.text
    assert warned is (rule != "RESTRICT")
    assert "scratch.transfer (from_account)" not in caplog.text


@pytest.mark.usefixtures("_in_one_or_many_transactions")
def test_children_by_both_of_their_foreign_keys_go_with_either_parent(accounts, perform):
    accounts.run("INSERT INTO transfer VALUES (1, 7, 1), (2, NULL, 2), (3, 3, 4)")
    report = perform(purge(children="auto"))
    assert (report["changed"], report["skipped"]) == (6, {})
    assert accounts.column("SELECT id FROM orders") == [7]
    assert transfers(accounts) == {}
    assert report["children"] == {"transfer": 203}


def test_the_count_of_a_table_that_is_in_the_tree_twice_rests_and_asks_the_throttle(
    accounts, perform, monkeypatch
):
    throttled, rests = [], []
    monkeypatch.setattr(Throttler, "wait", lambda *_, **__: throttled.append("asked"))
    monkeypatch.setattr(Transactions, "sleep", lambda _, seconds: rests.append(seconds))
    report = perform(purge(children="auto", dry_run=True, pace="polite"))
    assert report["children"] == {"transfer": 200}
    # One chunk of the accounts, and one of the transfers.
    assert (len(throttled), len(rests)) == (2, 2)
    assert min(rests) > 0


@pytest.mark.parametrize("dry_run", [False, True])
def test_children_that_the_account_can_not_see_are_an_error(scratch, perform, clerk, dry_run):
    """The server deletes them by CASCADE all the same, and the archive would not have them."""
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL, INDEX (at))")
    scratch.run(
        "CREATE TABLE order_line (id int PRIMARY KEY, order_id int,"
        " FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE)"
    )
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    scratch.run("INSERT INTO order_line VALUES (1, 1)")
    scratch.run("GRANT SELECT, DELETE ON scratch.orders TO clerk@'%'")
    with pytest.raises(AirflowFailException, match="children is 'auto', but the account sees no foreign key"):
        perform(purge(children="auto", mysql_conn_id=clerk, dry_run=dry_run))
    assert scratch.column("SELECT id FROM order_line") == [1]
    scratch.run("GRANT SELECT, DELETE ON scratch.order_line TO clerk@'%'")
    report = perform(purge(children="auto", mysql_conn_id=clerk, dry_run=dry_run))
    assert report["children"] == {"order_line": 1}


def test_what_the_server_does_besides_is_in_the_report(scratch, perform, tmp_path):
    """A cascade from a table that is not in the tree, and one by another key of a table that is."""
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run(
        "CREATE TABLE order_line (id int PRIMARY KEY, order_id int,"
        " FOREIGN KEY (order_id) REFERENCES orders (id))"
    )
    scratch.run(
        "CREATE TABLE invoice (id int PRIMARY KEY, line_id int,"
        " FOREIGN KEY (line_id) REFERENCES order_line (id) ON DELETE CASCADE)"
    )
    scratch.run("CREATE TRIGGER besides AFTER DELETE ON orders FOR EACH ROW SET @besides = OLD.id")
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    options = {"children": [Child("order_line", key="order_id")]}
    expected = ["trigger besides", "ON DELETE CASCADE of scratch.invoice (line_id)"]
    archive = f"file://{tmp_path}"
    for location, where in ((archive, "the archive does not have"), (None, "no archive has")):
        report = perform(purge(**options, dry_run=True, archive=location))
        assert report["side_effects"] == expected
        assert f"also change what {where}: {', '.join(expected)}" in report["real_run"]
    assert perform(purge(**options, archive=archive))["side_effects"] == expected
