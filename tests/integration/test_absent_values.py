"""Values that decide which rows stay, and that no row has: the log and a dry run name them.

One of them may be misspelt.
"""

from __future__ import annotations

import pytest

from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.anonymize_rows import AnonymizeRowsOperator
from iam_watcher.jobs.conditions import AnyOf, ParentColumn
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.table_job import absent_values
from tests.integration.account_shapes import DJANGO, disable, location, replace_shape
from tests.integration.conftest import politeness

__all__ = ["location"]

pytestmark = pytest.mark.every_server

OF_KIND = "so no row has the period that older_than names for it. Check the spelling"
OF_WHERE = "so where leaves no row alone for it. Check the spelling"


def purge(**options):
    arguments = {"table": "t", "age_column": "at", "mysql_conn_id": "scratch", **options}
    if "older_than" not in arguments:
        arguments["older_than_days"] = 30
    return PurgeRowsOperator(task_id="purge", **arguments)


def warnings(caplog):
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    return [message for message in messages if "spelling" in message]


@pytest.fixture
def logs(scratch):
    """A table of rows with levels, some of which are old."""
    scratch.run("CREATE TABLE parent (id int PRIMARY KEY, state varchar(20) NULL)")
    scratch.run("INSERT INTO parent VALUES (1, 'open'), (2, NULL)")
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, at datetime NOT NULL, level varchar(20) NULL,"
        " number int NOT NULL, kind enum('a', 'b') NOT NULL, parent_id int NULL)"
    )
    old = "UTC_TIMESTAMP() - INTERVAL 90 DAY"
    scratch.run(
        f"INSERT INTO t VALUES (1, {old}, 'error', 1, 'a', 1), (2, {old}, 'Debug', 2, 'a', 2),"
        f" (3, {old}, NULL, 3, 'a', 9)"
    )
    return scratch


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_kind_that_no_row_has_is_logged_and_reported(logs, perform, caplog, dry_run):
    periods = {"column": "level", "eror": "5y", "debug": "5y", "x'%s": "0", None: "30d"}
    report = perform(purge(older_than=periods, dry_run=dry_run))
    assert warnings(caplog) == [
        f"No row of t has {kind} in level, {OF_KIND}" for kind in ("'eror'", '"x\'%s"')
    ]
    text = "give no row the period that older_than names for 'eror': no row of t has it in level"
    assert (text in report["real_run"]) is dry_run
    assert report["matched"] == 2


@pytest.mark.parametrize(
    "periods",
    [
        {"column": "level", "error": "5y", "DEBUG": "5y", None: "30d"},
        {"column": "number", 1: "5y", None: "30d"},
        # The server knows the members of an ENUM: another one is an error.
        {"column": "kind", "b": "5y", None: "30d"},
        {"column": ParentColumn("state", table="parent", key="parent_id"), "open": "5y", None: "30d"},
        "30d",
    ],
)
def test_kinds_that_rows_have_are_not_logged(logs, perform, caplog, periods):
    report = perform(purge(older_than=periods, dry_run=True))
    assert (warnings(caplog), len(report["real_run"])) == ([], 1)


def test_a_kind_of_a_number_and_of_the_parent(logs, perform, caplog):
    perform(purge(older_than={"column": "number", 7: "5y", None: "30d"}, dry_run=True))
    column = ParentColumn("state", table="parent", key="parent_id")
    perform(purge(older_than={"column": column, "opne": "5y", None: "30d"}, dry_run=True))
    assert warnings(caplog) == [
        f"No row of t has 7 in number, {OF_KIND}",
        f"No row of parent has 'opne' in state, {OF_KIND}",
    ]


@pytest.mark.parametrize(
    ("where", "absent"),
    [
        ([("level", "<>", "eror")], ["eror"]),
        ([("level", "not in", ["eror", "error", "debg"])], ["eror", "debg"]),
        ([("level", "not like", "err%"), ("level", "not like", "dbg%")], ["dbg%"]),
        ([AnyOf([("number", "=", 1), [("number", "=", 2), ("level", "<>", "eror")]])], ["eror"]),
        # These values keep no row that should go, or can't be misspelt.
        ([("level", "=", "eror")], []),
        ([("level", "in", ["eror"])], []),
        ([("level", "like", "eror")], []),
        ([("level", "<>", "error"), ("level", "<>", "")], []),
        ([("number", "<>", 9), ("kind", "<>", "b"), ("level", "is not null")], []),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_value_of_where_that_leaves_rows_alone(logs, perform, caplog, where, absent, dry_run):
    report = perform(purge(where=where, dry_run=dry_run))
    assert warnings(caplog) == [f"No row of t has {value!r} in level, {OF_WHERE}" for value in absent]
    for value in absent:
        text = f"leave no row alone for {value!r} of where: no row of t has it in level"
        assert (text in report["real_run"]) is dry_run


def test_also_if_the_rows_are_changed(logs, perform, caplog):
    perform(
        AnonymizeRowsOperator(
            task_id="anonymize",
            table="t",
            age_column="at",
            older_than_days=30,
            set={"level": None},
            where=[("level", "<>", "eror")],
            mysql_conn_id="scratch",
        )
    )
    assert warnings(caplog) == [f"No row of t has 'eror' in level, {OF_WHERE}"]


def test_accounts_that_where_leaves_alone(scratch, perform, location, caplog):
    scratch.run(DJANGO.create)
    shape = replace_shape(DJANGO, where=[("username", "not in", ["bot", "bto"])])
    for name in ("ann", "bot"):
        shape.add(scratch, name)
    report = perform(disable(shape, location, dry_run=True))
    assert warnings(caplog)[1:] == [f"No row of auth_user has 'bto' in username, {OF_WHERE}"]
    assert (
        "leave no row alone for 'bto' of where: no row of auth_user has it in username" in report["real_run"]
    )


def test_an_empty_table_has_no_value_and_nothing_is_logged(logs, perform, caplog):
    logs.run("DELETE FROM t")
    perform(
        purge(older_than={"column": "level", "error": "5y", None: "30d"}, where=[("level", "<>", "debug")])
    )
    assert warnings(caplog) == []


def test_at_most_ten_lines_are_logged(logs, perform, caplog):
    perform(purge(where=[("level", "not in", [f"no{number}" for number in range(12)])], dry_run=True))
    assert len(warnings(caplog)) == 11
    assert warnings(caplog)[-1] == "No row of t has 2 more values of where. Check the spelling"


def test_a_table_that_takes_too_long_to_search_stops_nothing(logs, perform, caplog, monkeypatch):
    read, mine = Transactions.read, []

    def too_long(self, query, values=None):
        if query.startswith("SELECT EXISTS("):
            mine.append(query)
            raise self.error(1969, "Query execution was interrupted (max_statement_time exceeded)")
        return read(self, query, values)

    monkeypatch.setattr(Transactions, "read", too_long)
    report = perform(purge(older_than={"column": "level", "eror": "5y", None: "30d"}))
    assert (len(mine), report["changed"]) == (1, 3)
    expected = (
        "The server could not say within its time limit for a statement whether rows of t have the values "
        "that older_than names for level. Check the spelling, or add an index on level"
    )
    assert warnings(caplog) == [expected]


def test_the_search_waits_for_the_throttle(logs, perform, monkeypatch):
    waits, _ = politeness(monkeypatch, absent_values, "warn_of_absent")
    perform(purge(where=[("level", "<>", "error")]))
    assert waits
