"""What an account with few rights knows of the foreign keys that refer to a table."""

from __future__ import annotations

from contextlib import closing

import pytest

from iam_watcher.database.foreign_keys import references_to
from iam_watcher.database.hook import connect
from iam_watcher.database.transactions import Transactions

pytestmark = pytest.mark.every_server

RULES = [
    "",
    "ON DELETE CASCADE",
    "ON UPDATE CASCADE",
    "ON DELETE SET NULL ON UPDATE CASCADE",
    "ON DELETE NO ACTION",
]


@pytest.mark.parametrize("quote", [1, 0])
def test_an_account_with_rights_on_the_tables_alone_knows_the_rules(scratch, clerk, session, quote):
    scratch.run("CREATE TABLE top (id int PRIMARY KEY, part int, UNIQUE (id, part))")
    scratch.run("GRANT SELECT ON top TO clerk@'%'")
    for number, rule in enumerate(RULES):
        scratch.run(
            f"CREATE TABLE `li%%ne {number}` (id int, part int, a int COMMENT ') ON DELETE CASCADE',"
            f" CONSTRAINT `o{number} ) ON DELETE CASCADE` FOREIGN KEY (id, part)"
            f" REFERENCES top (id, part) {rule},"
            f" CONSTRAINT `o{number}` FOREIGN KEY (a) REFERENCES top (id))"
        )
        scratch.run(f"GRANT SELECT ON `li%%ne {number}` TO clerk@'%'")
    expected = references_to(Transactions(session), "top")
    assert len(expected) == 2 * len(RULES)
    with closing(connect(clerk)) as connection:
        db = Transactions(connection)
        db.change(f"SET sql_quote_show_create = {quote}")
        assert references_to(db, "top") == expected


def test_a_rule_that_the_account_can_not_see_is_said(scratch, clerk, caplog):
    scratch.run("CREATE TABLE top (id int PRIMARY KEY)")
    scratch.run("CREATE TABLE line (id int, FOREIGN KEY (id) REFERENCES top (id) ON DELETE CASCADE)")
    scratch.run("GRANT SELECT ON top TO clerk@'%'")
    scratch.run("GRANT INSERT ON line TO clerk@'%'")
    with closing(connect(clerk)) as connection:
        (key,) = references_to(Transactions(connection), "top")
    said = "can't see what the server does with rows of scratch.line" in caplog.text
    assert said is (key.on_delete != "CASCADE")
