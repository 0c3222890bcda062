"""Rows whose parent is gone are deleted, and no others."""

from __future__ import annotations

from contextlib import closing

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.conditions import ParentColumn
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from tests.integration.conftest import Database, numbers


def purge(**options):
    arguments = {
        "task_id": "purge",
        "table": "order_lines",
        "age_column": "at",
        "older_than": "1d",
        "orphans_of": "orders",
        "key": "order_id",
        "mysql_conn_id": "scratch",
    }
    return PurgeRowsOperator(**{**arguments, **options})


@pytest.fixture
def orders(scratch):
    """50 orders of the even numbers, and 300 lines of 100 orders; each tenth line has no order at all."""
    scratch.run("CREATE TABLE orders (id bigint PRIMARY KEY)")
    scratch.run(f"INSERT INTO orders SELECT seq * 2 FROM {numbers(50)}")
    scratch.run(
        "CREATE TABLE order_lines (id int PRIMARY KEY, order_id bigint NULL, at datetime NULL,"
        " state int NOT NULL, INDEX (at))"
    )
    scratch.run(
        "INSERT INTO order_lines SELECT seq, IF(seq % 10 = 0, NULL, 1 + seq % 100),"
        " IF(seq <= 200, NOW() - INTERVAL 2 DAY, IF(seq = 299, NULL, NOW())), seq % 3"
        f" FROM {numbers(300)}"
    )
    return scratch


def lines(database):
    return {
        key: (order, old, state)
        for key, order, old, state in database.rows(
            "SELECT id, order_id, COALESCE(at < NOW() - INTERVAL 1 DAY, 0), state FROM order_lines"
        )
    }


def orphans(before, states=(0, 1, 2)):
    return {
        key for key, (order, old, state) in before.items() if old and order and order % 2 and state in states
    }


@pytest.mark.every_server
@pytest.mark.parametrize("archived", [True, False])
def test_orphans_go_and_no_others(orders, perform, tmp_path, archived):
    before = lines(orders)
    options = {"archive": f"file://{tmp_path}"} if archived else {}
    some = {"where": [("state", "in", [0, 1])]}
    assert perform(purge(dry_run=True, **some))["matched"] == len(orphans(before, {0, 1}))
    perform(purge(**some, **options))
    assert before.keys() - lines(orders).keys() == orphans(before, {0, 1})
    perform(purge(**options))
    assert before.keys() - lines(orders).keys() == orphans(before)
    assert 0 < len(orphans(before)) < 200


@pytest.mark.every_server
def test_with_the_newest_rows_and_by_an_index(orders, perform):
    orders.run(f"INSERT INTO order_lines SELECT 1000 + seq, 2, NOW(), 0 FROM {numbers(6000)}")
    orders.run("ANALYZE TABLE order_lines")
    before = lines(orders)
    # 6,099 rows are young. Of the old rows, which have one age, those with the largest keys are the newest.
    report = perform(purge(keep_last=6099 + 51))
    expected = orphans(before) - set(range(150, 201))
    assert report["order"] == "index"
    assert before.keys() - lines(orders).keys() == expected
    assert 0 < len(expected) < len(orphans(before))


def test_a_parent_that_comes_back_between_search_and_delete_keeps_its_rows(
    orders, mariadb, perform, monkeypatch
):
    change, done = Transactions.change, []

    def after_others(db, query, values=None):
        if query.startswith("DELETE") and "FALSE" not in query and not done:
            with closing(mariadb.connect("scratch")) as other:
                done.append(Database(other).run("INSERT INTO orders VALUES (3)"))
        return change(db, query, values)

    monkeypatch.setattr(Transactions, "change", after_others)
    before = lines(orders)
    perform(purge())
    of_it = {key for key, (order, _, _) in before.items() if order == 3}
    assert of_it <= lines(orders).keys()
    assert before.keys() - lines(orders).keys() == orphans(before) - of_it


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ("DELETE FROM orders", {}, "every row would be an orphan"),
        ("ALTER TABLE orders MODIFY id varchar(9)", {}, "expected"),
        ("SELECT 1", {"orphans_of": "absent"}, "no table 'absent'"),
        ("SELECT 1", {"key": "absent"}, "no column 'absent'"),
        ("SELECT 1", {"orphans_of": "order_lines"}, "the table itself"),
    ],
)
def test_parents_that_cannot_be_are_refused(orders, perform, change, options, message, dry_run):
    orders.run(change)
    with pytest.raises(AirflowFailException, match=message):
        perform(purge(dry_run=dry_run, **options))
    assert len(lines(orders)) == 300


GENERAL, BINARY = (
    f"varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_{name}" for name in ("general_ci", "bin")
)
KINDS = {
    "orphans_of": None,
    "key": None,
    "older_than": {"column": ParentColumn("state", table="orders", key="order_id"), "done": "1d"},
}


def refer(database, child, parent, value):
    """Create an order, and lines: 1 of this order, 2 of another one."""
    database.run(f"CREATE TABLE orders (id {parent} PRIMARY KEY, state varchar(9) NOT NULL)")
    database.run("INSERT INTO orders VALUES (%s, 'done')", [value])
    database.run(f"CREATE TABLE order_lines (id int PRIMARY KEY, order_id {child}, at datetime NOT NULL)")
    database.run("INSERT INTO order_lines VALUES (1, %s, '2020-01-01'), (2, '2', '2020-01-01')", [value])


@pytest.mark.every_server
@pytest.mark.parametrize(("options", "left"), [({}, [1]), (KINDS, [2])], ids=["orphans", "kinds"])
@pytest.mark.parametrize(("child", "parent"), [("int", "bigint unsigned"), ("bigint", "smallint")])
def test_the_key_of_the_parents_may_be_an_integer_of_another_size(
    scratch, perform, child, parent, options, left
):
    refer(scratch, child, parent, 1)
    perform(purge(**options))
    assert scratch.column("SELECT id FROM order_lines") == left


@pytest.mark.every_server
@pytest.mark.parametrize("options", [{}, KINDS], ids=["orphans", "kinds"])
@pytest.mark.parametrize(
    ("child", "parent", "message"),
    [
        ("enum('2','1')", "enum('1','2')", r"order_id is enum\('2','1'\).*, and id of orders is enum"),
        (BINARY, GENERAL, "of collation utf8mb4_bin, and id of orders .* utf8mb4_general_ci; expected the"),
    ],
    ids=["members", "collation"],
)
def test_keys_that_are_compared_in_another_way_are_refused(scratch, perform, child, parent, message, options):
    refer(scratch, child, parent, "1")
    with pytest.raises(AirflowFailException, match=message):
        perform(purge(**options))
    assert scratch.column("SELECT id FROM order_lines") == [1, 2]


@pytest.mark.every_server
@pytest.mark.parametrize("table", ["parent", "Parent", "parent of parent"])
@pytest.mark.parametrize("key", ["id", "parent_id"])
def test_any_name_of_a_table_and_of_its_key_will_do(scratch, perform, table, key):
    scratch.run(f"CREATE TABLE orders ({key} int PRIMARY KEY)")
    scratch.run("INSERT INTO orders VALUES (1), (2)")
    scratch.run(f"CREATE TABLE `{table}` (id int PRIMARY KEY, parent_id int NULL, at datetime NOT NULL)")
    scratch.run(f"INSERT INTO `{table}` SELECT seq, seq, '2020-01-01' FROM {numbers(3)}")
    assert perform(purge(table=table, key="parent_id"))["changed"] == 1
    assert scratch.column(f"SELECT id FROM `{table}` ORDER BY id") == [1, 2]


@pytest.mark.parametrize("options", [{"key": None}, {"orphans_of": None}])
def test_both_arguments_or_none(options):
    with pytest.raises(JobArgumentError, match="expected both or none"):
        purge(**options)
