"""A row whose children are deleted in several transactions: what ends that, and what it keeps."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.database.throttle import Throttler
from iam_watcher.database.transactions import PING, Transactions
from iam_watcher.jobs.children import Child
from iam_watcher.walk import descendants, large_family
from iam_watcher.walk.pace import ChunkSize
from tests.integration.conftest import numbers
from tests.integration.test_children import orders, purge
from tests.integration.test_keys import Store, Variables, run_with

__all__ = ["orders"]

pytestmark = pytest.mark.every_server


@pytest.fixture(autouse=True)
def _few_rows_at_once(monkeypatch):
    monkeypatch.setattr(descendants, "MOST_ROWS", 5)


@pytest.mark.needs("check-off")
def test_a_row_that_an_archive_could_not_restore_ends_the_deletion_of_a_large_family(
    orders, perform, tmp_path
):
    orders.run("ALTER TABLE order_lines ADD CHECK (id > 0)")
    orders.run("SET check_constraint_checks = 0")
    orders.run("INSERT INTO order_lines VALUES (-5, 5, '')")
    with pytest.raises(
        AirflowFailException, match=r"a row of `order_lines` can't be deleted \(archive_check"
    ):
        perform(purge(archive=f"file://{tmp_path}", where=[("id", "=", 5)]))
    assert orders.column("SELECT id FROM orders WHERE id = 5") == [5]
    assert orders.value("SELECT order_id FROM order_lines WHERE id = -5") == 5


def test_a_reference_that_comes_too_late_names_its_row(orders, perform, monkeypatch):
    """The last of the lines 20 to 24 of order 5 becomes protected when the others are gone."""
    monkeypatch.setattr(large_family, "ChunkSize", lambda target: ChunkSize(target, rows=2))
    orders.run("CREATE TABLE holds (ref int, FOREIGN KEY (ref) REFERENCES order_lines (id))")
    write, done = large_family.LargeFamilies._write, []

    def refer_first(self, child, *arguments):
        if not done and child.table.name == "order_lines":
            done.append(orders.run("INSERT INTO holds VALUES (24)"))
        return write(self, child, *arguments)

    monkeypatch.setattr(large_family.LargeFamilies, "_write", refer_first)
    message = r"a row of `order_lines` can't be deleted \(foreign_key, key 24\), after other descendants"
    with pytest.raises(AirflowFailException, match=message):
        perform(purge(where=[("id", "=", 5)]))
    assert orders.column("SELECT MAX(id) FROM order_lines WHERE order_id = 5") == [24]


@pytest.mark.parametrize(("every", "sessions"), [(0.0, 2), (3600.0, 1)])
def test_the_session_that_locks_the_parent_is_kept_alive(orders, perform, monkeypatch, every, sessions):
    """The other one shows that it is alive before the parent goes."""
    monkeypatch.setattr(large_family, "PING_EVERY", every)
    read, alive = Transactions.read, []

    def note(db, query, values=None):
        if query == PING:
            alive.append(db)
        return read(db, query, values)

    monkeypatch.setattr(Transactions, "read", note)
    assert perform(purge(where=[("id", "=", 1)]))["changed"] == 1
    assert len({id(db) for db in alive}) == sessions


def test_the_throttle_is_asked_between_the_transactions_of_a_large_family(orders, perform, monkeypatch):
    monkeypatch.setattr(large_family, "ChunkSize", lambda target: ChunkSize(target, rows=2))
    wait, kept_alive = Throttler.wait, []

    def note(throttler, **how):
        kept_alive.extend(how)
        wait(throttler, **how)

    monkeypatch.setattr(Throttler, "wait", note)
    report = perform(purge(where=[("id", "=", 5)]))
    assert kept_alive.count("meanwhile") == report["chunks"] - 1 > 1


def test_the_row_limit_counts_a_large_family_before_it_is_deleted(orders, perform, monkeypatch):
    """So a try that is killed in the middle leaves the next one no more than the rest."""
    monkeypatch.setattr(Variables, "kept", {})
    monkeypatch.setattr("iam_watcher.jobs.table_job.saved_position.Variable", Variables)
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", 5)
    delete, store, saved = large_family.LargeFamilies.delete, Store(), []

    def note(families, key, **how):
        saved.append(store.get("position")["changed"])
        return delete(families, key, **how)

    monkeypatch.setattr(large_family.LargeFamilies, "delete", note)
    run_with(purge(where=[("id", "in", [5, 7])], max_rows=2), store, "run")
    assert saved == [1, 2]


def test_transactions_grow_on_a_server_that_is_fast(scratch, perform, monkeypatch):
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run(
        "CREATE TABLE order_lines (id int PRIMARY KEY, order_id int NOT NULL, INDEX (order_id),"
        " FOREIGN KEY (order_id) REFERENCES orders (id))"
    )
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    scratch.run(f"INSERT INTO order_lines SELECT seq, 1 FROM {numbers(400)}")
    monkeypatch.setattr(large_family, "ChunkSize", lambda target: ChunkSize(1000 * target, rows=10))
    report = perform(purge(children=[Child("order_lines", key="order_id")]))
    assert report["children"] == {"order_lines": 400}
    # 10, 20, 40, 80, 160, the rest, and the order: with one size there would be over 40.
    assert report["chunks"] < 12


@pytest.mark.parametrize("index", ["order_id", "order_id, note"])
def test_the_server_sorts_no_children(scratch, perform, monkeypatch, index):
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run(
        "CREATE TABLE order_lines (id int PRIMARY KEY, order_id int NOT NULL, note int NOT NULL,"
        f" INDEX ({index}))"
    )
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    scratch.run(f"INSERT INTO order_lines SELECT seq, 1, 100 - seq FROM {numbers(60)}")
    monkeypatch.setattr(large_family, "ChunkSize", lambda target: ChunkSize(target, rows=10))
    empty, sorted_rows = large_family.LargeFamilies._empty_table, []

    def look(self, *arguments):
        sorted_rows.append(int(scratch.rows("SHOW GLOBAL STATUS LIKE 'Sort_rows'")[0][1]))
        empty(self, *arguments)
        sorted_rows.append(int(scratch.rows("SHOW GLOBAL STATUS LIKE 'Sort_rows'")[0][1]))

    monkeypatch.setattr(large_family.LargeFamilies, "_empty_table", look)
    report = perform(purge(children=[Child("order_lines", key="order_id")]))
    assert report["children"] == {"order_lines": 60}
    assert len(set(sorted_rows)) == 1
