"""New values that the server would refuse are an error before the first write, in a dry run too."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.jobs.anonymize_rows import NOW, AnonymizeRowsOperator, Hashed

pytestmark = pytest.mark.every_server


def change(new, **options):
    return AnonymizeRowsOperator(
        **{
            "task_id": "change",
            "table": "t",
            "age_column": "at",
            "older_than": "1d",
            "set": new,
            "archive": None,
            "mysql_conn_id": "scratch",
            **options,
        }
    )


def create(scratch, columns, constraints=""):
    scratch.run(
        f"CREATE TABLE t (id int PRIMARY KEY, at date NOT NULL, status varchar(9) NOT NULL, {columns}"
        f"{constraints}) ENGINE=InnoDB CHARACTER SET utf8mb4"
    )
    names = "id, at, status"
    rows = [(1, "2020-01-01", "closed"), (2, "2020-01-01", "closed"), (3, "2100-01-01", "open")]
    scratch.run_many(f"INSERT INTO t ({names}) VALUES (%s, %s, %s)", rows)


REFUSED = [
    ("tinytext", "c tinytext", "", {"c": "é" * 128}, "a value of 256 bytes for it, expected at most 255"),
    (
        "tinytext of another charset",
        "c tinytext CHARACTER SET utf16",
        "",
        {"c": "e" * 128},
        "a value of 256 bytes for it, expected at most 255",
    ),
    ("text", "c text", "", {"c": "e" * 65_536}, "a value of 65536 bytes for it, expected at most 65535"),
    ("tinyblob", "c tinyblob, d int", "", {"c": b"e" * 256, "d": 1}, "a value of 256 bytes for it"),
    ("check", "c int, CONSTRAINT low CHECK (c < 10)", "", {"c": 10}, r"c=10, which the CHECK constraint low"),
    (
        "check on a text with a quote, a backslash and a percent sign",
        r"c varchar(20), CONSTRAINT kinds CHECK (c IN ('a''b', 'a\\b', '100%', 'new'))",
        "",
        {"c": "x"},
        "c='x', which the CHECK constraint kinds of t refuses",
    ),
    (
        "check on two columns that are set",
        "c int, d int, CONSTRAINT both_or_none CHECK ((c IS NULL) = (d IS NULL))",
        "",
        {"c": None, "d": 1},
        "c=None, d=1, which the CHECK constraint both_or_none",
    ),
    (
        "check on a column of the row",
        "c varchar(9) DEFAULT 'x', CONSTRAINT named CHECK (status <> 'closed' OR c IS NOT NULL)",
        "",
        {"c": None},
        "c=None, which the CHECK constraint named",
    ),
    ("unique", "c int", ", UNIQUE two (c)", {"c": 1}, "the index two of t takes each value once"),
    ("unique of two", "c int, d int", ", UNIQUE two (c, d)", {"c": 1, "d": 2}, "c=1, d=2, but the index two"),
    (
        "unique of a short prefix",
        "c varchar(64), m datetime",
        ", UNIQUE two (c(8))",
        {"c": Hashed(), "m": NOW},
        r"c=Hashed\(\), but the index two",
    ),
    (
        "unique of one character",
        "c varchar(64), m datetime",
        ", UNIQUE two (c(1))",
        {"c": Hashed(), "m": NOW},
        r"c=Hashed\(\), but the index two",
    ),
    (
        "foreign key",
        "c int",
        ", CONSTRAINT to_p FOREIGN KEY (c) REFERENCES p (id)",
        {"c": 3},
        "the foreign key to_p of t takes only values that are in p",
    ),
]


@pytest.mark.parametrize(("dry_run", "account"), [(True, "scratch"), (False, "scratch"), (True, "clerk")])
@pytest.mark.parametrize(
    ("columns", "constraints", "new", "message"),
    [case[1:] for case in REFUSED],
    ids=[case[0] for case in REFUSED],
)
def test_a_value_that_the_server_refuses_is_an_error_before_the_first_write(
    scratch, clerk, perform, columns, constraints, new, message, dry_run, account
):
    scratch.run("CREATE TABLE p (id int PRIMARY KEY) ENGINE=InnoDB")
    scratch.run("INSERT INTO p VALUES (1)")
    create(scratch, columns, constraints)
    scratch.run(f"GRANT SELECT, UPDATE ON t TO {clerk}@'%'")
    scratch.run(f"GRANT SELECT ON p TO {clerk}@'%'")
    before = scratch.rows("SELECT * FROM t ORDER BY id")
    with pytest.raises(AirflowFailException, match=message):
        perform(change(new, dry_run=dry_run, mysql_conn_id=account))
    assert scratch.rows("SELECT * FROM t ORDER BY id") == before


TAKEN = [
    ("tinytext", "c tinytext", "", {"c": "é" * 127}),
    ("tinytext of one byte", "c tinytext CHARACTER SET latin1", "", {"c": "é" * 255}),
    ("check", "c int, CONSTRAINT low CHECK (c < 10)", "", {"c": 9}),
    ("check with NULL", "c int DEFAULT 1, CONSTRAINT low CHECK (c < 10)", "", {"c": None}),
    (
        "check on a text",
        r"c varchar(20), CONSTRAINT kinds CHECK (c IN ('a''b', 'a\\b', '100%', 'new'))",
        "",
        {"c": "a\\b"},
    ),
    ("check by the collation", "c varchar(9), CONSTRAINT kinds CHECK (c IN ('new'))", "", {"c": "NEW"}),
    ("check on times", "c datetime, CONSTRAINT later CHECK (c > at)", "", {"c": NOW}),
    # The open row breaks it, but is not old enough to be changed.
    (
        "check on a column of the row",
        "c varchar(9) DEFAULT 'x', CONSTRAINT named CHECK (status <> 'open' OR c IS NOT NULL)",
        "",
        {"c": None},
    ),
    ("check on a column that is not set", "c int, d int, CONSTRAINT low CHECK (d < 10)", "", {"c": 10}),
    ("unique with NULL", "c int DEFAULT NULL, d int", ", UNIQUE two (c)", {"c": None, "d": 1}),
    ("unique of two, one is set", "c int", ", UNIQUE two (c, id)", {"c": 1}),
    ("unique with a hash", "c varchar(64), m datetime", ", UNIQUE two (c)", {"c": Hashed(), "m": NOW}),
    ("foreign key", "c int", ", CONSTRAINT to_p FOREIGN KEY (c) REFERENCES p (id)", {"c": 1}),
    (
        "foreign key with NULL",
        "c int DEFAULT 1, d int",
        ", CONSTRAINT to_p FOREIGN KEY (c) REFERENCES p (id)",
        {"c": None, "d": 1},
    ),
]


@pytest.mark.parametrize(
    ("columns", "constraints", "new"), [case[1:] for case in TAKEN], ids=[case[0] for case in TAKEN]
)
def test_what_the_server_takes_is_written(scratch, perform, columns, constraints, new):
    scratch.run("CREATE TABLE p (id int PRIMARY KEY) ENGINE=InnoDB")
    scratch.run("INSERT INTO p VALUES (1)")
    create(scratch, columns, constraints)
    assert perform(change(new, dry_run=True))["matched"] == 2
    assert perform(change(new))["changed"] == 2
