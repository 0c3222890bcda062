"""A restore gives no row to a stranger: another row may have the key or the name of its parent now."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.archive import replaced_rows
from iam_watcher.jobs.children import Child
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.walk.descendants import Descendants
from tests.integration.conftest import TaskInstance

pytestmark = pytest.mark.every_server

TABLES = ["people", "secrets", "uses"]


@pytest.fixture
def people(scratch):
    """Two old people with a secret each, which was used once; secrets belong to a name."""
    text = "varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
    scratch.run(
        f"CREATE TABLE people (id int PRIMARY KEY, name {text} NOT NULL UNIQUE, at datetime NOT NULL)"
    )
    scratch.run(
        f"CREATE TABLE secrets (id int PRIMARY KEY, owner {text} NULL, text varchar(20) NOT NULL,"
        " FOREIGN KEY (owner) REFERENCES people (name))"
    )
    scratch.run(
        "CREATE TABLE uses (id int PRIMARY KEY, secret int NOT NULL,"
        " CONSTRAINT of_secrets FOREIGN KEY (secret) REFERENCES secrets (id))"
    )
    scratch.run("INSERT INTO people VALUES (1, 'Ännä', '2020-01-01'), (2, 'bob', '2020-01-01')")
    scratch.run("INSERT INTO secrets VALUES (10, 'anna ', 'of anna'), (20, 'bob', 'of bob')")
    scratch.run("INSERT INTO uses VALUES (100, 10), (200, 20)")
    return scratch


@pytest.fixture
def purge(perform, tmp_path):
    def purged(try_number=1):
        job = PurgeRowsOperator(
            task_id="purge",
            table="people",
            age_column="at",
            older_than="1d",
            children=[Child("secrets", key="owner", children=[Child("uses", key="secret")])],
            archive=f"file://{tmp_path}",
            max_share=1.0,
            mysql_conn_id="scratch",
        )
        return perform(job, TaskInstance("purge", try_number=try_number))

    return purged


@pytest.fixture
def archive(people, purge):
    """The archive of all these rows, which the tables don't have any more."""
    report = purge()
    assert report["children"] == {"secrets": 2, "uses": 2}
    return report["archive"]


@pytest.fixture
def restore(perform, tmp_path):
    def restored(path, **options):
        job = RestoreRowsOperator(
            task_id="restore",
            path=path,
            location=f"file://{tmp_path}",
            tables=TABLES,
            mysql_conn_id="scratch",
            **options,
        )
        return perform(job)

    return restored


@pytest.mark.parametrize(
    ("stranger", "skipped"),
    [
        pytest.param("(1, 'anna', NOW())", {"exists": 1}, id="key"),
        pytest.param("(9, 'ANNA', NOW())", {"unique_key": 1}, id="name"),
    ],
)
def test_a_stranger_gets_no_rows(people, archive, restore, stranger, skipped):
    people.run(f"INSERT INTO people VALUES {stranger}")
    dry = restore(archive, dry_run=True)
    report = restore(archive)
    assert people.column("SELECT owner FROM secrets") == ["bob"]
    assert people.column("SELECT id FROM uses") == [200]
    assert (report["restored"], report["skipped"]) == (1, skipped)
    assert report["children"]["secrets"]["skipped"] == {"replaced": 1}
    assert report["children"]["uses"]["skipped"] == {"replaced": 1}
    if "exists" in skipped:
        assert dry["children"]["secrets"]["skipped"] == {"replaced": 1}


def test_the_same_person_gets_the_rows(people, archive, restore):
    people.run("INSERT INTO people VALUES (1, 'Ännä', '2020-01-01')")
    report = restore(archive)
    assert people.column("SELECT id FROM uses ORDER BY id") == [100, 200]
    assert (report["restored"], report["skipped"]) == (1, {"exists": 1})


def test_a_second_restore_finds_all_rows_and_brings_back_what_was_missing(people, archive, restore):
    restore(archive)
    people.run("DELETE FROM uses WHERE id = 100")
    report = restore(archive)
    assert people.column("SELECT id FROM uses ORDER BY id") == [100, 200]
    assert report["children"]["uses"]["restored"] == 1


def test_the_rows_of_a_secret_that_was_given_to_another_person(people, archive, restore):
    """A child is a parent too: another secret has the number now."""
    people.run("INSERT INTO people VALUES (3, 'carol', NOW())")
    people.run("INSERT INTO secrets VALUES (10, 'carol', 'of carol')")
    report = restore(archive)
    assert people.column("SELECT id FROM uses") == [200]
    assert report["children"]["uses"]["skipped"] == {"replaced": 1}


def test_without_a_foreign_key_too(people, purge, restore):
    people.run("ALTER TABLE uses DROP FOREIGN KEY of_secrets")
    path = purge()["archive"]
    people.run("INSERT INTO people VALUES (1, 'anna', NOW()), (3, 'carol', NOW())")
    people.run("INSERT INTO secrets VALUES (20, 'carol', 'of carol')")
    report = restore(path)
    assert people.rows("SELECT * FROM uses") == []
    assert report["children"]["secrets"]["skipped"] == {"replaced": 1, "exists": 1}
    assert report["children"]["uses"]["skipped"] == {"replaced": 2}


def test_too_many_strangers(people, archive, restore, monkeypatch):
    monkeypatch.setattr(replaced_rows, "MOST_ROWS", 1)
    people.run("INSERT INTO people VALUES (1, 'anna', NOW()), (2, 'ben', NOW())")
    with pytest.raises(AirflowFailException, match=r"2 rows of people are not as .* limit is 1"):
        restore(archive)
    assert people.column("SELECT id FROM secrets") == []


def test_a_person_that_changed_between_two_tries_of_the_purge_is_no_stranger(
    people, purge, restore, monkeypatch
):
    """A try that died after it wrote its archive left an older version of the row there."""
    store = Descendants.store

    def die(descendants):
        store(descendants)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Descendants, "store", die)
        with pytest.raises(KeyboardInterrupt):
            purge()
    people.run("UPDATE people SET at = '2019-01-01'")
    report = restore(purge(try_number=2)["archive"])
    assert (report["restored"], report["skipped"]) == (2, {"exists": 2})
    assert people.column("SELECT id FROM uses ORDER BY id") == [100, 200]
    assert {str(at) for at in people.column("SELECT at FROM people")} == {"2019-01-01 00:00:00"}
