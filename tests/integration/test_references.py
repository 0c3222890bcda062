"""A key that does not say to which parent a row belongs is refused before the first write."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.jobs.children import Child
from iam_watcher.jobs.conditions import ParentColumn
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

pytestmark = pytest.mark.every_server

BY_STATE = {"column": ParentColumn("state", table="orders", key="id"), "done": "1d"}


def purge(table="orders", **options):
    arguments = {"task_id": "t", "table": table, "age_column": "at", "older_than": "1d"}
    return PurgeRowsOperator(mysql_conn_id="scratch", **{**arguments, **options})


CHILDREN = {"children": [Child("line", key="id")]}
GRANDCHILDREN = {"table": "top", "children": [Child("orders", key="top_id", children=CHILDREN["children"])]}
ORPHANS = {"table": "line", "orphans_of": "orders", "key": "id"}
KINDS = {"table": "line", "older_than": BY_STATE}
ALL = {"children": CHILDREN, "grandchildren": GRANDCHILDREN, "orphans": ORPHANS, "kinds": KINDS}


@pytest.fixture
def orders(scratch):
    """A function that makes orders 1 to 4 and lines of them; the ids of lines are also ids of old orders."""

    def orders(own_id="bigint AUTO_INCREMENT", more=""):
        scratch.run("CREATE TABLE top (id bigint PRIMARY KEY, at datetime NOT NULL)")
        scratch.run(
            "CREATE TABLE orders (id bigint AUTO_INCREMENT PRIMARY KEY, at datetime NOT NULL, code bigint"
            " NOT NULL UNIQUE, state varchar(9) NOT NULL, top_id bigint NOT NULL, KEY (top_id))"
        )
        scratch.run(
            f"CREATE TABLE line (id {own_id} PRIMARY KEY, order_id bigint NOT NULL, KEY (order_id),"
            f" at datetime NOT NULL, other bigint NULL, KEY (other), note varchar(9) NULL{more})"
        )
        scratch.run("INSERT INTO top VALUES (1, '2020-01-01'), (2, NOW())")
        scratch.run(
            "INSERT INTO orders VALUES (1, '2020-01-01', 3, 'done', 1), (2, '2020-01-01', 4, 'done', 1),"
            " (3, NOW(), 1, 'open', 2), (4, NOW(), 2, 'open', 2)"
        )
        scratch.run(
            "INSERT INTO line (id, order_id, at) VALUES (1, 3, '2020-01-01'), (2, 3, '2020-01-01'),"
            " (3, 4, '2020-01-01'), (4, 4, '2020-01-01')"
        )
        return scratch

    return orders


def refused(database, perform, options):
    """Return the error of a run and of a dry run, which leave all rows."""
    found = []
    for dry_run in (True, False):
        with pytest.raises(AirflowFailException) as error:
            perform(purge(**options, dry_run=dry_run))
        found.append(str(error.value))
    assert database.value("SELECT COUNT(*) FROM orders") == database.value("SELECT COUNT(*) FROM line") == 4
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_the_id_of_a_row_itself_is_refused(orders, perform, options):
    message = refused(orders(), perform, options)
    assert "id of line is its own id: the server makes a new value for each row" in message
    assert "Write the column of line that has id of orders (of the same type: order_id, other)" in message
    assert "If (id) of line does refer to orders, declare a foreign key on (id)" in message


@pytest.mark.parametrize("on_delete", ["", "ON DELETE CASCADE", "ON DELETE SET NULL"])
@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_other_columns_than_those_of_the_foreign_key_are_refused(orders, perform, options, on_delete):
    database = orders(own_id="bigint")  # no AUTO_INCREMENT, so that the foreign key alone speaks against it
    database.run("ALTER TABLE line MODIFY order_id bigint NULL")
    database.run(f"ALTER TABLE line ADD FOREIGN KEY (order_id) REFERENCES orders (id) {on_delete}")
    message = refused(database, perform, options)
    assert "line has a foreign key to orders: (order_id) to (id); key says (id) to (id)" in message
    assert "Write key='order_id'. If (id) of line does refer to orders, declare a foreign key" in message


@pytest.mark.parametrize("options", [ORPHANS, KINDS], ids=["orphans", "kinds"])
def test_a_foreign_key_to_another_column_of_the_parents_does_not_help(orders, perform, options):
    """The column has the order's code, which is compared with its id."""
    database = orders(own_id="bigint")
    database.run("ALTER TABLE line ADD FOREIGN KEY (id) REFERENCES orders (code)")
    message = refused(database, perform, options)
    assert "line has a foreign key to orders: (id) to (code); key says (id) to (id). If (id)" in message


@pytest.mark.needs("address-types")  # MariaDB has sequences
def test_numbers_of_a_sequence_are_ids_of_the_rows_themselves(orders, perform, scratch):
    scratch.run("CREATE SEQUENCE ids")
    assert "id of line is its own id" in refused(orders("bigint DEFAULT NEXTVAL(ids)"), perform, ORPHANS)


@pytest.mark.parametrize("default", ["uuid()", "concat('', uuid())", "(uuid_short())"])
def test_ids_that_the_server_makes_are_ids_of_the_rows_themselves(scratch, perform, default):
    scratch.run("CREATE TABLE orders (id char(36) PRIMARY KEY)")
    scratch.run(f"CREATE TABLE line (id char(36) DEFAULT ({default}) PRIMARY KEY, at datetime NOT NULL)")
    scratch.run("INSERT INTO orders VALUES ('a')")
    scratch.run("INSERT INTO line VALUES ('b', '2020-01-01')")
    with pytest.raises(AirflowFailException, match="id of line is its own id"):
        perform(purge(**ORPHANS))
    assert scratch.column("SELECT id FROM line") == ["b"]


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_an_id_that_a_declared_foreign_key_names_is_taken(orders, perform, options):
    database = orders()
    database.run("ALTER TABLE line ADD FOREIGN KEY (id) REFERENCES orders (id)")
    left = {"orphans": [1, 2, 3, 4]}.get("orphans" if options is ORPHANS else "", [3, 4])
    perform(purge(**options))
    assert database.column("SELECT id FROM line ORDER BY id") == left


@pytest.mark.parametrize("key", ["order_id", "other"])
@pytest.mark.parametrize("declared", ["order_id", "other", "order_id, other"])
def test_a_column_beside_that_of_a_foreign_key_is_taken(orders, perform, key, declared):
    """A table may have a second reference, without a foreign key. Its own key is refused."""
    database = orders()
    for name in declared.split(", "):
        database.run(f"ALTER TABLE line ADD FOREIGN KEY ({name}) REFERENCES orders (id) ON DELETE CASCADE")
    database.run("UPDATE line SET other = 5 - id")
    assert perform(purge(children=[Child("line", key=key)]))["changed"] == 2


def test_orphans_by_a_second_reference_without_a_foreign_key(orders, perform):
    database = orders()
    database.run("ALTER TABLE line ADD FOREIGN KEY (order_id) REFERENCES orders (id)")
    database.run("UPDATE line SET other = IF(id < 3, 99, 4)")
    assert perform(purge("line", orphans_of="orders", key="other"))["changed"] == 2
    assert database.column("SELECT id FROM line ORDER BY id") == [3, 4]


@pytest.mark.parametrize("key", ["order_id", ["tenant_id", "order_id"]])
def test_a_part_of_a_foreign_key_that_has_the_parents_key_is_taken(scratch, perform, key):
    scratch.run(
        "CREATE TABLE orders (id bigint AUTO_INCREMENT PRIMARY KEY, tenant_id int, at datetime NOT NULL,"
        " UNIQUE (tenant_id, id))"
    )
    scratch.run(
        "CREATE TABLE line (id int PRIMARY KEY, tenant_id int, order_id bigint, KEY (order_id),"
        " FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id))"
    )
    scratch.run("INSERT INTO orders VALUES (1, 2, '2020-01-01'), (2, 1, NOW())")
    scratch.run("INSERT INTO line VALUES (1, 2, 1), (2, 1, 2)")
    assert perform(purge(children=[Child("line", key=key)]))["children"] == {"line": 1}
    assert scratch.column("SELECT id FROM line") == [2]
    with pytest.raises(AirflowFailException, match=r"Write key=\['tenant_id', 'order_id'\]"):
        perform(purge(children=[Child("line", key="id")]))


@pytest.fixture
def tenants(scratch):
    """Order 2 of tenant 1 is old, and order 1 of tenant 2 is not."""
    scratch.run(
        "CREATE TABLE orders (tenant_id int, id int, at datetime NOT NULL, PRIMARY KEY (tenant_id, id))"
    )
    scratch.run(
        "CREATE TABLE line (order_id int, Tenant_ID int, n int, PRIMARY KEY (Tenant_ID, order_id, n))"
    )
    scratch.run("INSERT INTO orders VALUES (1, 2, '2020-01-01'), (2, 1, NOW())")
    scratch.run("INSERT INTO line VALUES (2, 1, 1), (1, 2, 1), (1, 2, 2)")
    return scratch


@pytest.mark.parametrize("dry_run", [True, False])
def test_columns_in_another_order_than_those_of_the_parents_key_are_refused(tenants, perform, dry_run):
    with pytest.raises(AirflowFailException) as error:
        perform(purge(children=[Child("line", key=["order_id", "Tenant_ID"])], dry_run=dry_run))
    assert "The key of line is (order_id, Tenant_ID), and that of orders is (tenant_id, id)" in str(
        error.value
    )
    assert "Write key=['Tenant_ID', 'order_id']" in str(error.value)
    assert tenants.value("SELECT COUNT(*) FROM line") == 3


@pytest.mark.parametrize("declared", [True, False])
def test_columns_in_the_order_of_the_parents_key_are_taken(tenants, perform, declared):
    if declared:  # which says the order of the columns, whatever that of `key` is
        tenants.run(
            "ALTER TABLE line ADD FOREIGN KEY (Tenant_ID, order_id) REFERENCES orders (tenant_id, id)"
        )
    key = ["order_id", "Tenant_ID"] if declared else ["Tenant_ID", "order_id"]
    assert perform(purge(children=[Child("line", key=key)]))["children"] == {"line": 1}
    assert tenants.value("SELECT COUNT(*) FROM line WHERE Tenant_ID = 2") == 2


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_a_key_that_refers_to_another_table_is_refused(orders, perform, options):
    database = orders(own_id="bigint")
    database.run("CREATE TABLE customers (id bigint PRIMARY KEY)")
    database.run("INSERT INTO customers VALUES (1), (2), (3), (4)")
    database.run("ALTER TABLE line ADD FOREIGN KEY (id) REFERENCES customers (id) ON DELETE CASCADE")
    message = refused(database, perform, options)
    assert "(id) of line has a foreign key to customers. Write the columns that refer to orders." in message
    assert "If (id) does refer to orders, declare a foreign key on (id)" in message


@pytest.mark.parametrize("on_the_way", [False, True])
@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_tables_that_share_the_ids_of_a_third_may_refer_to_each_other(orders, perform, options, on_the_way):
    database = orders(own_id="bigint")
    database.run("CREATE TABLE things (id bigint PRIMARY KEY)")
    database.run("INSERT INTO things VALUES (1), (2), (3), (4)")
    third = "things"
    if on_the_way:
        third = "parts"
        database.run("CREATE TABLE parts (id bigint PRIMARY KEY, FOREIGN KEY (id) REFERENCES things (id))")
        database.run("INSERT INTO parts SELECT id FROM things")
    database.run("ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES things (id)")
    database.run(f"ALTER TABLE line ADD FOREIGN KEY (id) REFERENCES {third} (id)")
    perform(purge(**options))
    left = [1, 2, 3, 4] if options is ORPHANS else [3, 4]
    assert database.column("SELECT id FROM line ORDER BY id") == left
