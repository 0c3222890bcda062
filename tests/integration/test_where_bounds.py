"""`between` and `not between` with the larger bound first: refused, as the server orders the values."""

from __future__ import annotations

from datetime import UTC, time
from itertools import product

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.database.catalogue import read_table
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import TableError
from iam_watcher.jobs.account_table import AccountTable
from iam_watcher.jobs.conditions import AnyOf
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.table_job.where_bounds import check_bounds

pytestmark = pytest.mark.every_server

ONLY_MARIADB = pytest.mark.needs("address-types")

TEXTS = ("a", "B", "ä", "af", "b", "a ")
MEMBERS = ("z", "m", "a")

# A column's type, and values of it in any order.
TYPES = {
    "time": ("time(3)", ("22:00:00", "06:00:00", "100:00:00", "-01:00:00", "-02:00:00", "06:00:00.5")),
    "text": ("varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", TEXTS),
    "binary text": ("varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", TEXTS),
    "latin1": ("char(9) CHARACTER SET latin1 COLLATE latin1_german2_ci", TEXTS),
    "long text": ("text CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", TEXTS),
    # The order of their texts counts, not that of their numbers.
    "enum": ("enum('z','m','a')", MEMBERS),
    "set": ("set('z','m','a')", (*MEMBERS, "z,a", "")),
}
ADDRESSES = {
    "inet4": ("inet4", ("9.0.0.1", "10.0.0.9", "10.0.0.10")),
    "inet6": ("inet6", ("fe80::1", "::1", "2001:db8::2")),
    "uuid": ("uuid", ("ffffffff-0000-1000-8000-000000000001", "00000000-ffff-2000-8000-000000000000")),
}


@pytest.mark.parametrize(
    ("column", "values"),
    [*TYPES.values(), *(pytest.param(*one, marks=ONLY_MARIADB) for one in ADDRESSES.values())],
    ids=[*TYPES, *ADDRESSES],
)
def test_bounds_between_which_the_server_finds_nothing_are_refused(scratch, session, column, values):
    """Each value is in a row, so a range in the right order has at least two rows."""
    scratch.run(f"CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, v {column})")
    scratch.connection.set_character_set("utf8mb4")
    for value in values:
        scratch.run("INSERT INTO t (v) VALUES (%s)", [value])
    db = Transactions(session)
    table, found, expected = read_table(db, "t"), set(), set()
    for low, high in product(values, values):
        if not scratch.value("SELECT COUNT(*) FROM t WHERE v BETWEEN %s AND %s", [low, high]):
            expected.add((low, high))
        try:
            check_bounds(db, table, [AnyOf([[("id", "=", 1), ("v", "not between", (low, high))]])], UTC)
        except TableError:
            found.add((low, high))
    assert found == expected
    assert 0 < len(found) < len(values) ** 2


NIGHT = [
    "expected the smaller value first",
    "'22:00:00' is larger than '06:00:00'. For the hours from '22:00:00' over midnight to '06:00:00', write",
    "AnyOf([('v', '>=', '22:00:00'), ('v', '<=', '06:00:00')])",
]


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("operator", ["between", "not between"])
@pytest.mark.parametrize(
    ("column", "bounds", "messages"),
    [
        ("time", ("22:00:00", "06:00:00"), NIGHT),
        ("time", (time(22), time(6)), ["datetime.time(22, 0) is larger than datetime.time(6, 0). For the"]),
        ("varchar(9)", ("z", "a"), ["but for column 'v' of t, which is varchar(9), 'z' is larger"]),
        ("int", (2, 1), ["expected the smaller value first"]),
    ],
)  # fmt: skip
def test_a_run_with_reversed_bounds_changes_nothing(
    scratch, perform, column, bounds, messages, operator, dry_run
):
    scratch.run(f"CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, at datetime NOT NULL, v {column})")
    scratch.run("INSERT INTO t (at, v) VALUES ('2020-01-01', 3), ('2020-01-01', NULL)")
    options = {"table": "t", "age_column": "at", "older_than": "1y", "mysql_conn_id": "scratch"}
    with pytest.raises(AirflowFailException) as refused:
        perform(PurgeRowsOperator(task_id="t", where=[("v", operator, bounds)], dry_run=dry_run, **options))
    for message in messages:
        assert message in str(refused.value)
    assert scratch.value("SELECT COUNT(*) FROM t") == 2
    assert perform(PurgeRowsOperator(task_id="t", where=[("v", operator, bounds[::-1])], **options))


def test_reversed_bounds_of_an_account_table_are_refused(scratch, perform):
    scratch.run(
        "CREATE TABLE acc (id int PRIMARY KEY, name varchar(9) NOT NULL, active int NOT NULL,"
        " seen datetime NULL, made datetime NOT NULL, adm int NOT NULL)"
    )
    scratch.run("INSERT INTO acc VALUES (1, 'eve', 1, '2020-01-01', '2020-01-01', 0)")
    accounts = {"table": "acc", "name": "name", "status": "active", "last_login": "seen", "admin": "adm"}

    def disable(*bounds):
        return DisableInactiveUsersOperator(
            task_id="t",
            mysql_conn_id="scratch",
            max_inactive_days=90,
            max_share=1,
            undo_location="none",
            accounts=AccountTable(**accounts, created="made", where=[("name", "not between", bounds)]),
        )

    with pytest.raises(AirflowFailException, match="'z' is larger than 'n'"):
        perform(disable("z", "n"))
    assert scratch.column("SELECT active FROM acc") == [1]
    assert perform(disable("n", "z"))["changed"] == 1
