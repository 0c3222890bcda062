"""What the catalogue shows to an account with rights on single tables, as to an administrator."""

from __future__ import annotations

import importlib
import re
from contextlib import closing
from pathlib import Path

import pytest

from iam_watcher.database.catalogue import hidden_columns, read_table
from iam_watcher.database.checks import CHECKS, CHECKS_OF_MYSQL, checks_of
from iam_watcher.database.foreign_keys import REFERENCES, references_to
from iam_watcher.database.hook import connect
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.table_job.side_effects import TRIGGERS

pytestmark = pytest.mark.every_server

PLUGINS = Path(__file__).parents[2] / "plugins"
# What one of the servers hides, so that a function also asks elsewhere.
HIDDEN = {CHECKS, CHECKS_OF_MYSQL, REFERENCES}

# As in include/sql/grants.sql.
GRANTS = ["SELECT, DELETE", "SELECT, UPDATE, INSERT", "SELECT, DELETE, UPDATE (id)"]

# A text that looks like the end of a column, and like a column with a constraint.
ODD = r"'it''s \\\' CHECK (`a` > 9),\n  `x` int CHECK (`x`)'"
TOP = f"""(
    id int PRIMARY KEY,
    a int DEFAULT 3 COMMENT {ODD},
    `b``c` int COMMENT {ODD} CHECK (`b``c` > 1 AND CONCAT('(', `b``c`, '),%%') <> {ODD}),
    g int AS (a + 1) STORED,
    t timestamp NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    doc json,
    v longtext,
    UNIQUE u (a),
    KEY at (a, t),
    CONSTRAINT `odd`` CHECK (1)` CHECK (a <> 7 OR id IN (1, 2))
) COMMENT {ODD}"""
TABLES = {
    "top": TOP,
    "line": "(id int PRIMARY KEY, top int CHECK (top > 0), KEY (top),"
    " CONSTRAINT refers FOREIGN KEY (top) REFERENCES top (id) ON DELETE CASCADE)",
    "parts": "(id int PRIMARY KEY, a int) PARTITION BY RANGE (id)"
    " (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)",
    "plain": "(id int PRIMARY KEY, a int)",
}


@pytest.fixture
def tables(scratch):
    for name, definition in TABLES.items():
        scratch.run(f"CREATE TABLE {name} {definition}")
    scratch.run("CREATE TRIGGER tells BEFORE UPDATE ON top FOR EACH ROW SET NEW.v = 'v'")
    return scratch


@pytest.fixture(params=GRANTS)
def both(request, tables, clerk, session):
    """The transactions of an administrator, and of an account with rights on single tables."""
    for name in TABLES:
        tables.run(f"GRANT {request.param} ON {name} TO clerk@'%'")
    with closing(connect(clerk)) as connection:
        yield Transactions(session), Transactions(connection)


def queries():
    """Return each query of ours on the catalogue that has a table, by its place."""
    found = {}
    for path in sorted((PLUGINS / "iam_watcher").rglob("*.py")):
        if re.search(r"FROM information_schema\.", path.read_text()):
            name = ".".join(path.relative_to(PLUGINS).with_suffix("").parts)
            for constant, value in vars(importlib.import_module(name)).items():
                if isinstance(value, str) and "information_schema." in value and "%(table)s" in value:
                    found[value] = f"{name}.{constant}"
    return found


def test_each_query_on_the_catalogue_shows_both_accounts_the_same(both, mariadb):
    found = queries()
    assert len(found) > 15
    # MySQL shows triggers only with the right TRIGGER.
    hidden = HIDDEN | ({TRIGGERS} if "MySQL" in type(mariadb).__name__ else set())
    for query, place in found.items():
        if query in hidden:
            continue
        for table in TABLES:
            values = {"table": table, "column": "a", "database": None, "event": "UPDATE"}
            everything, seen = (db.read(query, values) for db in both)
            assert seen == everything, (place, table)


def test_a_table_has_the_same_shape_for_both_accounts(both):
    for name in TABLES:
        everything, seen = (
            (
                table := read_table(db, name),
                hidden_columns(db, table),
                checks_of(db, name),
                references_to(db, name),
            )
            for db in both
        )
        assert seen == everything, name
    conditions = dict(checks_of(both[1], "top"))
    assert conditions.pop("doc", "json_valid(`doc`)") == "json_valid(`doc`)"
    assert len(conditions) == 2
    assert "`a` <> 7" in conditions["odd` CHECK (1)"]
    assert len(checks_of(both[1], "line")) == len(references_to(both[1], "top")) == 1
