"""Rows that are old enough get other values, once, and get their old values back from the archive.

All tests change and restore the same table of customers: hence the length.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.archive.reader import find
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.anonymize_rows import NOW, AnonymizeRowsOperator, Hashed
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.walk.pace import Pace
from tests.integration.conftest import Database, TaskInstance

OLD, YOUNG = range(1, 301), range(301, 401)
PERSONAL = {"email": None, "name": Hashed(), "ip": "0.0.0.0", "visits": 0, "anonymized_at": NOW}  # noqa: S104
COLUMNS = "id, email, name, ip, visits, anonymized_at, plan, at"
HEX = re.compile(r"[0-9a-f]{40}")


class Died(BaseException):
    """A worker that is killed."""


def anonymize(**options):
    arguments = {
        "task_id": "anonymize",
        "table": "t",
        "age_column": "at",
        "older_than": "90d",
        "set": PERSONAL,
        "mysql_conn_id": "scratch",
    }
    return AnonymizeRowsOperator(**{**arguments, **options})


def restore(location, report, **options):
    return RestoreRowsOperator(
        task_id="restore",
        path=report["archive"],
        location=location,
        tables=["t"],
        mysql_conn_id="scratch",
        **options,
    )


@pytest.fixture
def customers(scratch):
    """400 rows of people, of which 300 are old; returns the database."""
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, email varchar(50) NULL, name varchar(40) NULL,"
        " ip varchar(40) NOT NULL, visits int NOT NULL, anonymized_at datetime(3) NULL,"
        " plan varchar(9) NOT NULL, at datetime NOT NULL)"
    )
    now = datetime.now(UTC).replace(tzinfo=None)
    rows = [
        (key, f"m{key}@example.invalid", f"Zoë {key % 7}", f"10.0.0.{key % 200}", key, None, "free", now)
        for key in [*OLD, *YOUNG]
    ]
    scratch.connection.set_character_set("utf8mb4")
    scratch.run_many("INSERT INTO t VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", rows)
    scratch.run("UPDATE t SET at = at - INTERVAL 100 DAY WHERE id <= 300")
    return scratch


def rows_of(database):
    return {row[0]: row for row in database.rows(f"SELECT {COLUMNS} FROM t")}


@pytest.fixture
def location(tmp_path):
    return f"file://{tmp_path}/archive"


@pytest.mark.every_server
def test_old_rows_are_changed_once_and_others_never(customers, perform, location):
    before = rows_of(customers)
    dry = perform(anonymize(dry_run=True))
    assert (dry["matched"], rows_of(customers)) == (300, before)
    report = perform(anonymize(archive=location))
    assert (report["matched"], report["changed"], report["examined"]) == (300, 300, 400)
    after = rows_of(customers)
    assert {key: after[key] for key in YOUNG} == {key: before[key] for key in YOUNG}
    for key in OLD:
        _, email, name, ip, visits, done, plan, at = after[key]
        assert (email, ip, visits, plan, at) == (None, "0.0.0.0", 0, "free", before[key][-1])  # noqa: S104
        assert HEX.fullmatch(name)
        assert done is not None
    # Equal values stay equal, and different ones different.
    assert {after[key][2] for key in OLD if key % 7 == 1} == {after[1][2]}
    assert len({after[key][2] for key in OLD}) == 7
    again = perform(anonymize())
    assert (again["changed"], rows_of(customers)) == (0, after)


@pytest.mark.every_server
def test_the_old_values_come_back_and_only_where_nothing_was_changed_since(customers, perform, location):
    before = rows_of(customers)
    report = perform(anonymize(archive=location))
    customers.run("UPDATE t SET anonymized_at = NULL, email = 'new@example.invalid' WHERE id = 7")
    customers.run("UPDATE t SET plan = 'paid' WHERE id = 8")
    customers.run("DELETE FROM t WHERE id = 9")
    dry = perform(restore(location, report, dry_run=True))
    assert (dry["restored"], dry["skipped"]) == (298, {"changed_since": 1, "gone": 1})
    assert rows_of(customers)[1][1] is None
    back = perform(restore(location, report))
    assert (back["rows"], back["restored"], back["skipped"]) == (300, 298, {"changed_since": 1, "gone": 1})
    after = rows_of(customers)
    assert after[7][1] == "new@example.invalid"
    assert after[8] == (*before[8][:6], "paid", before[8][-1])
    assert {key: row for key, row in after.items() if key not in {7, 8, 9}} == {
        key: row for key, row in before.items() if key not in {7, 8, 9}
    }
    assert perform(restore(location, report))["restored"] == 0


@pytest.mark.every_server
@pytest.mark.parametrize("kind", ["varchar(9)", "char(9)", "tinytext"])
def test_a_text_that_only_the_collation_takes_for_the_same_was_changed_since(
    customers, perform, location, kind
):
    customers.run(f"ALTER TABLE t MODIFY plan {kind} NULL")
    options = {"set": {"plan": "gone"}, "archive": location}
    report = perform(anonymize(**options))
    assert (report["changed"], perform(anonymize(**options))["changed"]) == (300, 0)
    customers.run("UPDATE t SET plan = 'GONE' WHERE id = 7")
    back = perform(restore(location, report))
    assert (back["restored"], back["skipped"]) == (299, {"changed_since": 1})
    assert customers.value("SELECT plan FROM t WHERE id = 7") == "GONE"


@pytest.mark.every_server
@pytest.mark.parametrize("kind", ["utf8mb4", "utf8mb4 COLLATE utf8mb4_bin", "latin1", "ucs2"])
def test_a_text_that_was_written_in_place_of_its_hash_stays(customers, perform, location, kind):
    customers.run(f"ALTER TABLE t MODIFY name varchar(21) CHARACTER SET {kind} NULL")
    customers.run("UPDATE t SET name = NULL WHERE id = 9")
    report = perform(anonymize(set={"name": Hashed(), "anonymized_at": NOW}, archive=location))
    newer = {7: "Ann", 8: "not hexadecimal digit", 10: ""}
    for key, name in newer.items():
        customers.run("UPDATE t SET name = %s WHERE id = %s", [name, key])
    back = perform(restore(location, report))
    assert (back["restored"], back["skipped"]) == (297, {"changed_since": 3})
    after = rows_of(customers)
    assert {key: after[key][2] for key in newer} == newer
    assert (after[9][2], after[11][2]) == (None, "Zoë 4")


def test_an_archive_that_does_not_name_its_hashes_comes_back(customers, perform, location):
    """As an earlier version has written it."""
    report = perform(anonymize(archive=location))
    (manifest,) = Path(report["archive"].removeprefix("file://")).glob("*/manifest.json")
    facts = json.loads(manifest.read_text())
    assert facts.pop("hashed") == {"name": 40}
    manifest.write_text(json.dumps(facts))
    assert perform(restore(location, report))["restored"] == 300


def test_the_report_of_a_restore_names_the_columns_that_were_not_archived(customers, perform, location):
    report = perform(anonymize(archive=location, redact=("email",)))
    back = perform(restore(location, report))
    assert (back["restored"], back["lost"]) == (300, ["email"])
    assert customers.value("SELECT COUNT(*) FROM t WHERE id <= 300 AND email IS NULL") == 300


def test_a_run_takes_back_its_own_rows_alone(customers, perform, location):
    first = perform(anonymize(archive=location, where=[("id", "<=", 100)]))
    customers.run("UPDATE t SET anonymized_at = anonymized_at - INTERVAL 1 MINUTE WHERE id <= 100")
    second = perform(anonymize(archive=location))
    assert (first["changed"], second["changed"]) == (100, 200)
    assert perform(restore(location, second))["restored"] == 200
    assert perform(restore(location, first))["skipped"] == {"changed_since": 100}


@pytest.mark.every_server
def test_a_soft_delete_is_a_column_that_is_set_to_now(customers, perform, location):
    customers.run("UPDATE t SET anonymized_at = '2020-01-01' WHERE id = 5")
    options = {"set": {"anonymized_at": NOW}, "archive": location}
    report = perform(anonymize(**options))
    assert report["changed"] == 299
    ((stamp,),) = customers.rows("SELECT DISTINCT anonymized_at FROM t WHERE anonymized_at > '2021-01-01'")
    assert stamp.replace(tzinfo=UTC) == datetime.fromisoformat(report["now"]).replace(microsecond=0)
    assert perform(restore(location, report))["restored"] == 299
    assert customers.column("SELECT id FROM t WHERE anonymized_at IS NOT NULL") == [5]


@pytest.mark.every_server
def test_without_a_column_for_now_the_values_themselves_say_what_is_done(customers, perform, location):
    options = {"set": {"email": None, "ip": "0.0.0.0"}, "archive": location}  # noqa: S104
    customers.run("UPDATE t SET email = NULL WHERE id IN (1, 2)")
    customers.run("UPDATE t SET ip = '0.0.0.0' WHERE id IN (2, 3)")
    report = perform(anonymize(**options))
    assert report["changed"] == 299
    assert customers.value("SELECT COUNT(*) FROM t WHERE email IS NULL AND ip = '0.0.0.0'") == 300
    assert perform(anonymize(**options))["changed"] == 0
    assert perform(restore(location, report))["restored"] == 299


@pytest.mark.every_server
@pytest.mark.parametrize("collation", ["utf8mb4_general_ci", "utf8mb4_unicode_ci", "latin1_swedish_ci"])
@pytest.mark.parametrize(("new", "others"), [("Zoé", ["ZOE", "zoé"]), ("x", ["X", "x "]), ("🙈", ["😀"])])
def test_a_text_that_is_the_new_one_in_the_collation_alone_is_replaced(
    customers, perform, collation, new, others
):
    """For some collations, all emojis are one character."""
    charset = collation.split("_")[0]
    if new == "🙈":
        charset, collation = "utf8mb4", collation.replace("latin1_swedish", "utf8mb4_unicode_520")
    customers.run(f"ALTER TABLE t MODIFY name varchar(40) CHARACTER SET {charset} COLLATE {collation}")
    for number, name in enumerate([new, *others], 1):
        customers.run("UPDATE t SET name = %s WHERE id = %s", [name, number])
    assert perform(anonymize(set={"name": new}))["changed"] == 299
    stored = "CAST(CONVERT(name USING utf8mb4) AS BINARY)"
    assert customers.column(f"SELECT DISTINCT {stored} FROM t WHERE id <= 300") == [new.encode()]
    assert perform(anonymize(set={"name": new}))["changed"] == 0


def test_a_key_keeps_equal_values_equal_over_all_runs(customers, perform, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_HASHES", '{"conn_type": "generic", "password": "a key"}')
    options = {"set": {"name": Hashed(key_conn_id="hashes"), "anonymized_at": NOW}}
    perform(anonymize(where=[("id", "<=", 100)], **options))
    perform(anonymize(**options))
    assert customers.value("SELECT COUNT(DISTINCT name) FROM t WHERE id <= 300") == 7
    monkeypatch.setenv("AIRFLOW_CONN_HASHES", '{"conn_type": "generic"}')
    customers.run("UPDATE t SET anonymized_at = NULL")
    with pytest.raises(AirflowFailException, match="'hashes' has no password"):
        perform(anonymize(**options))


def test_a_new_session_has_the_key_too(customers, perform, monkeypatch):
    """A hash with a missing key would be NULL, and the name would be lost."""
    commit, lost = Transactions.commit, []

    def lose_the_session(db):
        changes = db._changes
        commit(db)
        if changes and not lost:
            lost.extend(db.read("SELECT @iam_watcher_key0"))
            db.abandon()

    monkeypatch.setattr(Transactions, "commit", lose_the_session)
    assert perform(anonymize(pace=Pace(target=1e-9, duty=1)))["changed"] == 300
    assert lost
    assert customers.value("SELECT COUNT(DISTINCT name) FROM t WHERE id <= 300") == 7


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("charset", "key", "fits"),
    [("latin1", "Zoë", True), ("latin1", "汉", False), ("utf8mb4", "汉", True), ("ucs2", "plain", True)],
)
def test_a_hash_is_of_the_bytes_of_the_column(customers, perform, monkeypatch, charset, key, fits):
    """As in earlier versions: a server that converts the column or the key would hash other bytes."""
    monkeypatch.setenv("AIRFLOW_CONN_HASHES", json.dumps({"conn_type": "generic", "password": key}))
    customers.run(f"ALTER TABLE t MODIFY name varchar(64) CHARACTER SET {charset} NULL")
    name, inner, outer = ("Zoë 1".encode(), key.encode(), key.encode())
    if charset != "utf8mb4":
        python = {"ucs2": "utf-16-be"}.get(charset, charset)
        name, inner = "Zoë 1".encode(python), key.encode(python, errors="replace")
    wanted = hashlib.sha256(outer + hashlib.sha256(inner + name).hexdigest().encode()).hexdigest()
    options = {"set": {"name": Hashed(key_conn_id="hashes"), "anonymized_at": NOW}}
    if fits:
        perform(anonymize(**options))
        assert customers.value("SELECT name FROM t WHERE id = 1") == wanted
        return
    with pytest.raises(AirflowFailException, match="its key has a character that name of t, in latin1"):
        perform(anonymize(**options))


def test_random_keys_are_of_one_run(customers, perform):
    perform(anonymize(where=[("id", "<=", 150)]))
    perform(anonymize())
    assert customers.value("SELECT COUNT(DISTINCT name) FROM t WHERE id <= 300") == 14


def test_a_hash_of_another_column_is_of_its_old_value(customers, perform):
    options = {"email": None, "name": Hashed("email"), "anonymized_at": NOW}
    perform(anonymize(set=options))
    assert customers.value("SELECT COUNT(DISTINCT name) FROM t WHERE id <= 300") == 300


def test_a_hash_takes_as_many_digits_as_the_column_has(customers, perform):
    customers.run("ALTER TABLE t ADD code char(16) NULL DEFAULT 'x'")
    perform(anonymize(set={"code": Hashed("email"), "anonymized_at": NOW}))
    assert customers.value("SELECT COUNT(DISTINCT code) FROM t WHERE LENGTH(code) = 16 AND id <= 300") == 300


def test_redacted_columns_stay_out_of_the_archive(customers, perform, location):
    report = perform(anonymize(archive=location, redact=["email"]))
    (written,) = find(report["archive"], kind="changed_rows")
    assert written.manifest["redacted"] == ["email"]
    rows = list(written.rows())
    assert len(rows) == 300
    assert all(row.keys() == {"id", "name", "ip", "visits", "anonymized_at"} for row in rows)
    assert "example.invalid" not in str(rows)
    perform(restore(location, report))
    assert customers.value("SELECT COUNT(*) FROM t WHERE email IS NULL AND name LIKE 'Zo%'") == 300


@pytest.mark.parametrize(("redact", "kept"), [({}, False), ({"redact": ()}, True)])
def test_a_password_is_in_the_archive_only_if_the_file_asks_for_it(
    customers, perform, location, redact, kept
):
    customers.run(
        "ALTER TABLE t ADD Password varchar(40) NOT NULL DEFAULT 'hunter2', ADD SecretKey blob NULL"
    )
    customers.run("UPDATE t SET SecretKey = 'key'")
    new_values = {"Password": "", "SecretKey": None, "anonymized_at": NOW}
    report = perform(anonymize(archive=location, set=new_values, **redact))
    assert report["changed"] == 300
    assert customers.value("SELECT COUNT(*) FROM t WHERE Password = '' AND SecretKey IS NULL") == 300
    parts = list(Path(report["archive"].removeprefix("file://")).glob("*/part-*"))
    lines = b"".join(gzip.decompress(part.read_bytes()) for part in parts)
    assert lines.count(b"\n") == 300
    assert (b"hunter2" in lines, b"Password" in lines, b"SecretKey" in lines) == (kept, kept, kept)
    perform(restore(location, report))
    assert customers.value("SELECT COUNT(*) FROM t WHERE anonymized_at IS NULL") == 400
    assert customers.value("SELECT COUNT(*) FROM t WHERE Password = 'hunter2'") == (400 if kept else 100)


def test_an_archive_without_any_old_value_is_refused():
    refused = "and names all columns of set: the archive would have no old value"
    with pytest.raises(JobArgumentError, match=refused):
        anonymize(
            archive="file:///archive", set={"name": None, "Email": None}, redact=["email", "NAME", "ip"]
        )
    with pytest.raises(JobArgumentError, match=rf"redact is \('secretKey', 'password'\) {refused}"):
        anonymize(archive="file:///archive", set={"Password": ""})
    anonymize(archive="file:///archive", set={"name": None, "email": None}, redact=["email"])
    anonymize(archive=None, set={"name": None}, redact=["name"])


def test_a_row_that_is_changed_between_search_and_update_stays(customers, mariadb, perform, monkeypatch):
    change, done = Transactions.change, []

    def after_others(db, query, values=None):
        if query.startswith("UPDATE") and "FALSE" not in query and not done:
            with closing(mariadb.connect("scratch")) as other:
                done.append(Database(other).run("UPDATE t SET at = NOW() WHERE id = 3"))
        return change(db, query, values)

    monkeypatch.setattr(Transactions, "change", after_others)
    report = perform(anonymize())
    assert (report["changed"], report["skipped"]) == (299, {"changed_meanwhile": 1})
    assert rows_of(customers)[3][1] == "m3@example.invalid"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_that_dies_at_a_commit_loses_no_old_value(customers, perform, location, monkeypatch, when):
    """The retry does the rest, and the archive of both tries brings every old value back, once."""
    before = rows_of(customers)
    commit, commits = Transactions.commit, []

    def die(db):
        if db._changes:
            commits.append(db)
        if len(commits) == 4 and when == "before":  # the rehearsal, and three chunks
            raise Died
        commit(db)
        if len(commits) == 4:
            raise Died

    monkeypatch.setattr(Transactions, "commit", die)
    with pytest.raises(Died):
        perform(anonymize(archive=location, pace=Pace(target=1e-9, duty=1)), TaskInstance("run"))
    monkeypatch.setattr(Transactions, "commit", commit)
    done = customers.value("SELECT COUNT(*) FROM t WHERE anonymized_at IS NOT NULL")
    assert 0 < done < 300
    report = perform(anonymize(archive=location), TaskInstance("run", 2))
    assert report["changed"] == 300 - done
    back = perform(restore(location, report))
    assert (back["restored"], rows_of(customers)) == (300, before)
    assert back["rows"] >= 300


def test_triggers_are_named_in_a_warning(customers, perform, caplog):
    customers.run("CREATE TRIGGER watch BEFORE UPDATE ON t FOR EACH ROW SET NEW.visits = 1")
    perform(anonymize(dry_run=True))
    assert "The UPDATE on t changes more than these rows" in caplog.text
    assert "trigger watch" in caplog.text


def test_triggers_that_a_restore_runs_are_named_in_a_warning(customers, perform, location, caplog):
    report = perform(anonymize(archive=location))
    customers.run("CREATE TRIGGER watch AFTER UPDATE ON t FOR EACH ROW SET @seen = NEW.id")
    customers.run("CREATE TRIGGER other AFTER INSERT ON t FOR EACH ROW SET @seen = NEW.id")
    perform(restore(location, report))
    assert "An UPDATE of t runs the trigger watch, which may change more than these rows" in caplog.text


@pytest.mark.every_server
@pytest.mark.parametrize("rule", ["CASCADE", "SET NULL", "RESTRICT"])
def test_rows_of_other_tables_that_change_with_a_column_are_named_in_a_warning(
    customers, perform, caplog, rule
):
    customers.run("ALTER TABLE t ADD UNIQUE (email), ADD UNIQUE (name, id)")
    customers.run(
        "CREATE TABLE orders (id int PRIMARY KEY, customer varchar(50) NULL,"
        f" CONSTRAINT bought_by FOREIGN KEY (customer) REFERENCES t (email) ON UPDATE {rule})"
    )
    customers.run("INSERT INTO orders VALUES (1, 'm301@example.invalid')")
    perform(anonymize(set={"name": None, "anonymized_at": NOW}, dry_run=True))
    assert "changes more than these rows" not in caplog.text
    perform(anonymize(set={"email": None, "name": None}, dry_run=True))
    warning = f"ON UPDATE {rule} of scratch.orders (customer)"
    assert (warning in caplog.text) is (rule != "RESTRICT")
    assert ("The UPDATE on t changes more than these rows" in caplog.text) is (rule != "RESTRICT")


@pytest.mark.every_server
def test_rows_that_change_with_rows_of_another_table_are_named_in_a_warning(customers, perform, caplog):
    customers.run("ALTER TABLE t ADD UNIQUE (email)")
    for name, column, to in (
        ("orders", "customer", "t (email)"),
        ("bills", "payer", "orders (customer)"),
        ("notes", "bill", "bills (id)"),  # of a column that does not change
    ):
        customers.run(
            f"CREATE TABLE {name} (id varchar(50) PRIMARY KEY, {column} varchar(50) NULL UNIQUE,"
            f" FOREIGN KEY ({column}) REFERENCES {to} ON UPDATE CASCADE)"
        )
    perform(anonymize(set={"email": None}, dry_run=True))
    expected = "ON UPDATE CASCADE of scratch.orders (customer), ON UPDATE CASCADE of scratch.bills (payer)\n"
    assert expected in caplog.text


def test_several_texts_are_set(customers, perform):
    assert perform(anonymize(set={"email": "nobody", "name": "no name", "plan": "gone"}))["changed"] == 300
    assert customers.rows("SELECT DISTINCT email, name, plan FROM t WHERE id <= 300") == [
        ("nobody", "no name", "gone")
    ]


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("new_values", "message"),
    [
        ({"id": 1}, "set has id=1, but this column of t is in the key"),
        ({"at": "2020-01-01 00:00:00"}, "is the age column"),
        ({"plan": None}, "plan=None, but this column of t can't be NULL"),
        ({"absent": None}, "no column 'absent'"),
        ({"visits": "many"}, "set has visits = 'many', expected a number"),
        ({"visits": 2**40}, "expected a whole number from"),
        ({"plan": "x" * 10}, "expected a text of up to 9 characters"),
        ({"email": NOW}, "'email' of t is varchar; expected date or datetime or timestamp"),
        ({"visits": Hashed(), "anonymized_at": NOW}, "'visits' of t is int; expected char or varchar"),
        ({"plan": Hashed(), "anonymized_at": NOW}, "expected 16 characters or more"),
        (
            {"ip": Hashed("email"), "anonymized_at": NOW},
            "email of t can be NULL and ip can't: the hash of NULL",
        ),
        ({"email": Hashed("name"), "name": Hashed(), "anonymized_at": NOW}, "hash each column by itself"),
        ({"doubled": 2}, "is computed from other columns"),
        ({"login": "nobody"}, "the index login of t takes each value once"),
    ],
)
def test_what_the_table_cannot_have_is_refused_before_the_first_write(
    customers, perform, new_values, message, dry_run
):
    customers.run(
        "ALTER TABLE t ADD doubled int AS (visits * 2), ADD login varchar(9) NULL, ADD UNIQUE (login)"
    )
    before = rows_of(customers)
    with pytest.raises(AirflowFailException) as refused:
        perform(anonymize(set=new_values, dry_run=dry_run))
    assert message in str(refused.value)
    assert rows_of(customers) == before


@pytest.mark.parametrize(
    ("new_values", "message"),
    [
        ({}, "set is {}; expected a dictionary"),
        ([("email", None)], "expected a dictionary"),
        ({"a`b": None}, "expected a name"),
        ({"email": "{{ x }}"}, "set has email='{{ x }}'; expected a text without a template"),
        ({"email": object}, "expected a text, a number"),
        ({"name": Hashed()}, "no column that is set to NOW"),
        ({"a": NOW, "b": NOW}, "set has NOW for a, b"),
    ],
)
def test_bad_literals_are_refused_when_the_dag_file_is_parsed(new_values, message):
    with pytest.raises(JobArgumentError) as refused:
        anonymize(set=new_values)
    assert message in str(refused.value)


def test_a_hash_takes_names_only():
    with pytest.raises(JobArgumentError, match="key_conn_id of a Hashed is 1"):
        Hashed(key_conn_id=1)


def test_the_old_values_of_a_lost_answer_count_as_unconfirmed(customers, perform, location, monkeypatch):
    report = perform(anonymize(archive=location))
    commit, lost = Transactions.commit, []

    def lose_the_answer(db):
        changes = db._changes
        commit(db)
        if changes and not lost:
            lost.append(db)
            raise db.error(2013, "Lost connection")

    monkeypatch.setattr(Transactions, "commit", lose_the_answer)
    back = perform(restore(location, report))
    assert back["restored"] + back["unconfirmed"] == 300
    assert back["unconfirmed"] > 0
    assert back["skipped"] == {}
    assert customers.value("SELECT COUNT(*) FROM t WHERE email IS NULL") == 0
