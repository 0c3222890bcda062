"""A row whose children are deleted in several transactions: what ends that, and what it keeps.

All tests count on the same few rows in a transaction: hence the length.
"""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.database import transactions
from iam_watcher.database.server_errors import STATEMENT_TIMEOUT_MARIADB
from iam_watcher.database.throttle import Throttler
from iam_watcher.database.transactions import PING, Transactions
from iam_watcher.errors import WalkError
from iam_watcher.jobs.children import Child
from iam_watcher.walk import descendants, large_family
from iam_watcher.walk.pace import ChunkSize, Limit, Limits, Pace
from tests.integration.conftest import numbers
from tests.integration.test_child_records import rows_of_children
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
    wait, waits = Throttler.wait, []

    def note(throttler, **how):
        waits.append(set(how))
        wait(throttler, **how)

    monkeypatch.setattr(Throttler, "wait", note)
    report = perform(purge(where=[("id", "=", 5)]))
    # Before the chunk, before the family, and between the transactions of the family.
    between = waits.count({"meanwhile"})
    assert waits.count({"at_most", "meanwhile"}) == 2
    assert between == report["chunks"] - 2 > 1


def test_each_transaction_of_a_family_has_the_target_of_the_pace(orders, perform, monkeypatch):
    targets = set()

    def noted(target, **rows):
        targets.add(target)
        return ChunkSize(target, **rows)

    for module in (descendants, large_family):
        monkeypatch.setattr(module, "ChunkSize", noted)
    perform(purge(where=[("id", "in", [2, 5])], pace=Pace(target=0.3, duty=0.9)))
    assert targets == {0.3}


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


@pytest.mark.parametrize("events", [False, True])
def test_a_chunk_in_the_order_of_its_index_deletes_what_it_archives(scratch, perform, tmp_path, events):
    """By its position, line 49 comes after the first chunk, whose last lines are 51 and 50."""
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run(
        "CREATE TABLE order_lines (id int PRIMARY KEY, order_id int NOT NULL, position int NOT NULL,"
        " INDEX (order_id, position))"
    )
    scratch.run("CREATE TABLE line_events (id int PRIMARY KEY, line_id int NOT NULL, INDEX (line_id))")
    scratch.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    scratch.run(f"INSERT INTO order_lines SELECT seq, 1, seq FROM {numbers(55)}")
    scratch.run("UPDATE order_lines SET position = 100 - id WHERE id BETWEEN 49 AND 51")
    scratch.run("UPDATE order_lines SET position = id + 100 WHERE id > 51")
    scratch.run(f"INSERT INTO line_events SELECT seq, 1 + seq DIV 2 FROM {numbers(109)}")
    below = [Child("line_events", key="line_id")] if events else []
    children = [Child("order_lines", key="order_id", children=below)]
    report = perform(purge(children=children, archive=f"file://{tmp_path}"))
    archived = rows_of_children(report)
    lines = {row["id"]: row["position"] for row in archived["order_lines"]}
    assert lines == {key: 100 - key if 49 <= key <= 51 else key + 100 * (key > 51) for key in range(1, 56)}
    assert len(archived["order_lines"]) == report["children"]["order_lines"] == 55
    assert scratch.value("SELECT COUNT(*) FROM order_lines") == 0
    if events:
        assert sorted(row["id"] for row in archived["line_events"]) == list(range(1, 110))
    assert scratch.value("SELECT COUNT(*) FROM line_events") == (0 if events else 109)


@pytest.fixture
def few_on_a_page(monkeypatch):
    """Pages of ten rows, and no more of them than one child table needs."""
    monkeypatch.setattr(large_family, "ChunkSize", lambda target: ChunkSize(target, rows=10))
    page, read = large_family.LargeFamilies._page, []

    def count(self, child, *arguments):
        read.append(child.table.name)
        assert read.count("comment") < 40, "it reads pages without end"
        return page(self, child, *arguments)

    monkeypatch.setattr(large_family.LargeFamilies, "_page", count)


def comments(database, key, index, on_delete, replies):
    """Create 60 comments on an old order; return number → number of the comment that it replies to."""
    database.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    database.run("INSERT INTO orders VALUES (1, '2020-01-01')")
    database.run(
        "CREATE TABLE comment (day int, n int, order_id int NOT NULL, place int NOT NULL, to_day int NULL,"
        f" to_n int NULL, PRIMARY KEY ({key}), INDEX ({index}),"
        f" FOREIGN KEY ({key.replace('day', 'to_day').replace('n', 'to_n')}) REFERENCES comment ({key})"
        f" {on_delete})"
    )
    rows = [(n, replies(n) if 0 < replies(n) < n else None) for n in range(1, 61)]
    database.run_many(
        "INSERT INTO comment VALUES (%s, %s, 1, %s, %s, %s)",
        [(n // 25, n, n * 37 % 61, to and to // 25, to) for n, to in rows],
    )
    return dict(rows)


ON_DELETE = ["", "ON DELETE CASCADE", "ON DELETE SET NULL"]
REPLIES = {"last": lambda n: n - 1, "half": lambda n: n // 2, "twentieth": lambda n: n // 20 * 20}


@pytest.mark.usefixtures("few_on_a_page")
@pytest.mark.parametrize("replies", REPLIES)
@pytest.mark.parametrize("on_delete", ON_DELETE)
@pytest.mark.parametrize("index", ["order_id", "order_id, place"])
@pytest.mark.parametrize("key", ["n", "day, n"])
def test_replies_in_a_large_family_are_deleted_before_what_they_refer_to(
    scratch, perform, tmp_path, key, index, on_delete, replies
):
    before = comments(scratch, key, index, on_delete, REPLIES[replies])
    report = perform(purge(children=[Child("comment", key="order_id")], archive=f"file://{tmp_path}"))
    archived = rows_of_children(report)["comment"]
    assert {row["n"]: row["to_n"] for row in archived} == before
    assert len(archived) == report["children"]["comment"] == 60
    assert scratch.value("SELECT COUNT(*) FROM comment") == 0


@pytest.mark.usefixtures("few_on_a_page")
@pytest.mark.parametrize("together", [5, 30])
@pytest.mark.parametrize("on_delete", ON_DELETE)
def test_a_reply_that_is_a_large_family_itself_goes_before_what_it_refers_to(
    scratch, perform, tmp_path, monkeypatch, on_delete, together
):
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", together)
    before = comments(scratch, "n", "order_id", on_delete, REPLIES["last"])
    scratch.run(
        "CREATE TABLE likes (id int PRIMARY KEY, n int NOT NULL,"
        " FOREIGN KEY (n) REFERENCES comment (n) ON DELETE CASCADE)"
    )
    scratch.run(f"INSERT INTO likes SELECT seq, 55 + seq % 2 * 2 FROM {numbers(200)}")
    children = [Child("comment", key="order_id", children=[Child("likes", key="n")])]
    report = perform(purge(children=children, archive=f"file://{tmp_path}"))
    archived = rows_of_children(report)
    assert {row["n"]: row["to_n"] for row in archived["comment"]} == before
    assert sorted(row["id"] for row in archived["likes"]) == list(range(1, 201))
    assert report["children"] == {"comment": 60, "likes": 200}


@pytest.mark.parametrize("protected", [1, 24, 25, 60])
@pytest.mark.parametrize("index", ["order_id", "order_id, place"])
@pytest.mark.parametrize("key", ["n", "day, n"])
def test_a_protected_reply_is_found_on_any_page(scratch, perform, monkeypatch, key, index, protected):
    monkeypatch.setattr(large_family, "PAGE", 7)
    before = comments(scratch, key, index, "", REPLIES["last"])
    scratch.run(f"CREATE TABLE holds (day int, n int, FOREIGN KEY ({key}) REFERENCES comment ({key}))")
    scratch.run("INSERT INTO holds VALUES (%s, %s)", [protected // 25, protected])
    report = perform(purge(children=[Child("comment", key="order_id")]))
    assert (report["changed"], report["skipped"]) == (0, {"foreign_key": 1})
    assert dict(scratch.rows("SELECT n, to_n FROM comment")) == before


@pytest.mark.parametrize("statement", ["holds", "order_lines", "line_events"])
def test_a_lost_session_is_replaced_while_it_looks_for_what_protects_a_family(
    orders, perform, monkeypatch, statement
):
    """It is another session than the one that locks the order."""
    monkeypatch.setattr(transactions, "LONGEST_WAIT", 0)
    orders.run("CREATE TABLE holds (ref int, FOREIGN KEY (ref) REFERENCES line_events (id))")
    look, read, lost = large_family.LargeFamilies._is_protected, Transactions.read, []

    def lose(db, query, values=None):
        if not lost and f"FROM `{statement}`" in query:
            lost.append(orders.run(f"KILL {read(db, 'SELECT CONNECTION_ID()')[0][0]}"))
        return read(db, query, values)

    def look_in_a_lost_session(self, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(Transactions, "read", lose)
            return look(self, *arguments)

    monkeypatch.setattr(large_family.LargeFamilies, "_is_protected", look_in_a_lost_session)
    report = perform(purge(where=[("id", "=", 1)]))
    assert (report["changed"], report["retries"], len(lost)) == (1, 1, 1)


@pytest.fixture
def short_of_time(monkeypatch):
    """A server that ends each statement that reads or deletes over 30 rows, as if it took too long."""
    monkeypatch.setattr(transactions, "LONGEST_WAIT", 0)
    monkeypatch.setattr(descendants, "MOST_ROWS", 20_000)
    monkeypatch.setattr(large_family, "PAGE", 100)
    ended = []

    def ends(method):
        def run(db, query, values=None):
            result = method(db, query, values)
            if (result if isinstance(result, int) else len(result)) > 30:
                ended.append(query)
                raise db.error(STATEMENT_TIMEOUT_MARIADB, "Query execution was interrupted")
            return result

        return run

    for name in ("read", "change"):
        monkeypatch.setattr(Transactions, name, ends(getattr(Transactions, name)))
    return ended


@pytest.mark.parametrize("replies", [False, True])
@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("archived", [False, True])
def test_a_family_for_which_a_statement_takes_too_long_goes_in_several_transactions(
    scratch, perform, tmp_path, short_of_time, archived, events, replies
):
    scratch.run("CREATE TABLE orders (id int PRIMARY KEY, at datetime NOT NULL)")
    own = ", FOREIGN KEY (answers) REFERENCES order_lines (id)" if replies else ""
    scratch.run(
        "CREATE TABLE order_lines (id int PRIMARY KEY, order_id int NOT NULL, answers int NULL, note text,"
        f" FOREIGN KEY (order_id) REFERENCES orders (id){own})"
    )
    scratch.run(
        "CREATE TABLE line_events (id int PRIMARY KEY, line_id int NOT NULL,"
        " FOREIGN KEY (line_id) REFERENCES order_lines (id))"
    )
    scratch.run("CREATE TABLE holds (ref int, FOREIGN KEY (ref) REFERENCES line_events (id))")
    scratch.run(f"INSERT INTO orders SELECT seq, '2020-01-01' FROM {numbers(20)}")
    lines = f"SELECT seq, IF(seq > 40, 5, seq), IF(seq > 41, seq - 1, NULL), '' FROM {numbers(100)}"
    scratch.run(f"INSERT INTO order_lines {lines} WHERE seq > 40 OR seq <= 20")
    below = []
    if events:
        scratch.run(f"INSERT INTO line_events SELECT seq, 60 FROM {numbers(70)}")
        below = [Child("line_events", key="line_id")]
    children = [Child("order_lines", key="order_id", children=below)]
    report = perform(purge(children=children, archive=f"file://{tmp_path}" if archived else None))
    assert short_of_time
    assert (report["changed"], report["skipped"]) == (20, {})
    assert report["children"] == {"order_lines": 80} | ({"line_events": 70} if events else {})
    if archived:
        found = {table: len(rows) for table, rows in rows_of_children(report).items()}
        assert found == report["children"]


@pytest.mark.usefixtures("short_of_time")
def test_a_statement_that_took_too_long_changes_nothing_for_later_families(orders, perform, caplog):
    """Order 5 gets 60 lines. The 20 lines and 20 events of order 95 are deleted in one transaction."""
    orders.run(f"INSERT INTO order_lines SELECT 10000 + seq, 5, '' FROM {numbers(60)}")
    orders.run("DELETE FROM line_events WHERE line_id BETWEEN 470 AND 474")
    orders.run(f"INSERT INTO order_lines SELECT 20000 + seq, 95, '' FROM {numbers(15)}")
    orders.run(f"INSERT INTO line_events SELECT 20000 + seq, 20001 FROM {numbers(20)}")
    caplog.set_level("INFO")
    assert perform(purge())["changed"] == 50
    assert re.findall(r"The row (\d+) of `orders` has too many descendants", caplog.text) == ["5"]


@pytest.mark.parametrize("done", [1, 3, 49])
def test_a_limit_ends_a_run_between_two_large_families_of_a_chunk(orders, perform, monkeypatch, done):
    """The next run begins with the first family that is left."""
    monkeypatch.setattr(Variables, "kept", {})
    monkeypatch.setattr("iam_watcher.jobs.table_job.saved_position.Variable", Variables)
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", 5)
    reached = lambda _, rows, seconds: Limit.TIME if seconds and rows == done else None  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(Limits, "reached", reached)
        first = perform(purge(time_budget=timedelta(hours=1)))
    assert (first["changed"], first["stopped"]) == (done, "time_budget")
    assert orders.value("SELECT COUNT(*) FROM orders") == 100 - done
    assert perform(purge(time_budget=timedelta(hours=1)))["changed"] == 50 - done


@pytest.mark.parametrize("family", ["small", "large"])
def test_a_row_whose_own_deletion_takes_too_long_is_an_error(orders, perform, monkeypatch, family):
    """Fewer descendants would not help."""
    monkeypatch.setattr(transactions, "LONGEST_WAIT", 0)
    if family == "small":
        monkeypatch.setattr(descendants, "MOST_ROWS", 20_000)
    change, tried = Transactions.change, []

    def end(db, query, values=None):
        if "DELETE `orders`" in query:
            tried.append(query)
            raise db.error(STATEMENT_TIMEOUT_MARIADB, "Query execution was interrupted")
        return change(db, query, values)

    monkeypatch.setattr(Transactions, "change", end)
    with pytest.raises(WalkError, match=r"try 15 of 15: .*interrupted"):
        perform(purge(where=[("id", "=", 1)]))
    assert len(tried) == transactions.TRIES
    assert orders.column("SELECT id FROM orders WHERE id = 1") == [1]
