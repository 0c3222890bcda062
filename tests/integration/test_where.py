"""`where` against columns of every type: which rows match, and which values are refused.

The table of column types and their values is used by every test: hence the length.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import product
from operator import eq, lt
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.database.catalogue import read_table
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import JobArgumentError, TableError
from iam_watcher.jobs.conditions import AnyOf, Column
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.table_job import conditions

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")


class Spoken(datetime):
    """A datetime with a text of its own, which the driver would take."""

    def __str__(self):
        return f"{self:%H} o'clock"


def naive(*numbers):
    return datetime(*numbers)  # noqa: DTZ001  without a zone, as such columns are


OPERATORS = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

# A column's type, and three values of it as SQL has them and as `where` has them, in ascending order.
TYPES = {
    "tinyint": ("tinyint", ["-128", "0", "1"], [-128, False, True]),
    "smallint": ("smallint unsigned", ["0", "7", "65535"], [0, 7.0, Decimal(65535)]),
    "mediumint": ("mediumint", ["-8388608", "0", "8388607"], [-8388608, 0, 8388607]),
    "int": ("int", ["-1", "0", "5"], [-1, 0, 5]),
    "bigint": (
        "bigint unsigned",
        [str(2**64 - 3), str(2**64 - 2), str(2**64 - 1)],
        [2**64 - 3, 2**64 - 2, 2**64 - 1],
    ),
    "decimal": (
        "decimal(30,2)",
        ["0.10", "0.30", "12345678901234567890.12"],
        [0.1, 0.3, Decimal("12345678901234567890.12")],
    ),
    "price": ("decimal(5,2) unsigned", ["0.00", "0.50", "999.99"], [0, 0.5, Decimal("999.99")]),
    "float": ("float", ["0.1", "0.2", "0.3"], [0.1, 0.2, Decimal("0.3")]),
    "level": ("float unsigned", ["0", "0.5", "1e30"], [0, 0.5, 1e30]),
    "share": ("double unsigned", ["0", "0.5", "1e300"], [0.0, Decimal("0.5"), 1e300]),
    "double": ("double", ["0.1", "0.2", "1e300"], [0.1, 0.2, 1e300]),
    "bit": ("bit(9)", ["b'0'", "b'101'", "b'111111111'"], [0, 5, 511]),
    "year": ("year", ["1970", "2026", "2155"], [1970, 2026, 2155]),
    "date": (
        "date",
        ["'1000-01-01'", "'2026-01-31'", "'9999-12-31'"],
        [date(1000, 1, 1), "2026-01-31", pendulum.date(9999, 12, 31)],
    ),
    "datetime": (
        "datetime(6)",
        ["'1000-01-01'", "'2026-01-31 12:00:00.000001'", "'9999-12-31 23:59:59.999999'"],
        ["1000-01-01 00:00", naive(2026, 1, 31, 12, 0, 0, 1), "9999-12-31T23:59:59.999999"],
    ),
    "timestamp": (
        "timestamp NULL",
        ["'1970-01-01 00:00:01'", "'2026-01-31 12:00:00'", "'2038-01-19 03:14:07'"],
        ["1970-01-01T00:00:01Z", datetime(2026, 1, 31, 12, tzinfo=UTC), "2038-01-19 03:14:07"],
    ),
    "time": (
        "time(3)",
        ["'-838:59:59'", "'12:30:00'", "'838:59:59'"],
        [-timedelta(hours=838, minutes=59, seconds=59), time(12, 30), "838:59:59"],
    ),
    "char": ("char(5)", ["'a'", "'b'", "'é'"], ["a", "b", "é"]),
    "varchar": ("varchar(20) CHARACTER SET latin1", ["'10'", "'9'", "'a''b'"], ["10", "9", "a'b"]),
    "text": ("text", ["''", "'5%s'", "'a{x}'"], ["", "5%s", "a{x}"]),
    "enum": (r"enum('1','a,b','it''s \\ é')", ["'1'", "'a,b'", r"'it''s \\ é'"], ["1", "A,B", "it's \\ é"]),
    "set": ("set('a','b','c')", ["''", "'a,b'", "'c'"], ["", "b,a", "C"]),
    "binary": ("binary(4)", ["'a'", "'ab'", "x'ff00ff00'"], [b"a", b"ab", b"\xff\x00\xff"]),
    "varbinary": ("varbinary(16)", ["''", "'a'", "x'ff'"], [b"", b"a", b"\xff"]),
    "blob": ("blob", ["''", "'a%s'", "x'ff'"], [b"", b"a%s", b"\xff"]),
}
UUID = "00000000-0000-0000-0000-00000000000{}"
ONLY_MARIADB = {
    "uuid": ("uuid", [f"'{UUID.format(n)}'" for n in (1, 2, 3)], [UUID.format(n) for n in (1, 2, 3)]),
    "inet4": ("inet4", ["'1.2.3.4'", "'1.2.3.5'", "'10.0.0.1'"], ["1.2.3.4", "1.2.3.5", "10.0.0.1"]),
    "inet6": ("inet6", ["'::1'", "'2001:db8::1'", "'2001:db8::2'"], ["::1", "2001:db8:0::1", "2001:DB8::2"]),
}


def create(scratch, types):
    """Create a table with a column for each type: three rows in ascending order, and one of NULLs."""
    columns = ", ".join(f"c_{name} {sql}" for name, (sql, _, _) in types.items())
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, {columns}) CHARACTER SET utf8mb4")
    scratch.connection.set_character_set("utf8mb4")
    for row in range(3):
        values = ", ".join(literals[row] for _, literals, _ in types.values())
        scratch.run(f"INSERT INTO t VALUES ({row}, {values})")
    scratch.run("INSERT INTO t (id) VALUES (3)")


@pytest.fixture
def matching(session):
    """A function that returns the keys of the rows that meet conditions."""
    db = Transactions(session)

    def matching(*where, zone=UTC):
        conditions.check(where)
        text, values = conditions.as_sql(where, read_table(db, "t"), zone)
        return {key for (key,) in db.read(f"SELECT id FROM t WHERE {text}", values)}

    return matching


@pytest.mark.every_server
@pytest.mark.parametrize(
    "types",
    [TYPES, pytest.param(ONLY_MARIADB, marks=pytest.mark.needs("address-types"))],
    ids=["all", "mariadb"],
)
def test_columns_of_each_type_are_compared_as_python_would(scratch, matching, types):
    create(scratch, types)
    for name, (_, _, values) in types.items():
        column = f"c_{name}"
        found, expected = {}, {}
        for row, value in enumerate(values):
            for sign, compare in OPERATORS.items():
                found[sign, row] = matching((column, sign, value))
                expected[sign, row] = {other for other in range(3) if compare(other, row)}
        found["in"], expected["in"] = matching((column, "in", values[:2])), {0, 1}
        found["not in"], expected["not in"] = matching((column, "not in", values[1:])), {0}
        found["is"], expected["is"] = matching((column, "is", None)), {3}
        found["is not"], expected["is not"] = matching((column, "is not", None)), {0, 1, 2}
        assert found == expected, name


@pytest.mark.every_server
def test_members_that_differ_by_case_only_are_different(scratch, matching):
    members = "('a', 'A', 'b') CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, e enum{members}, s set{members})")
    scratch.run("INSERT INTO t VALUES (1, 'a', 'a'), (2, 'A', 'A'), (3, 'b', 'a,A'), (4, 'b', 'b')")
    for column in "es":
        assert matching((column, "=", "A")) == {2}
        assert matching((column, "not in", ["a"])) == {2, 3, 4}
    assert matching(("s", "=", "A,a")) == {3}
    # The member is meant, as there is no other.
    assert matching(("e", "<>", "B")) == {1, 2}
    assert matching(("s", "=", "B")) == {4}


NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


# One moment; without a zone it is that of the columns.
SAME_NOON = (
    NOON,
    NOON.astimezone(SHANGHAI),
    NOON.astimezone(timezone(-timedelta(hours=7))),
    pendulum.instance(NOON),
    pendulum.instance(NOON).in_timezone("America/New_York"),
    "2026-01-31T12:00:00Z",
    "2026-01-31T20:00:00+08:00",
    "2026-01-31 20:00+0800",
    "2026-01-31 20:00:00",
    naive(2026, 1, 31, 20),
    pendulum.naive(2026, 1, 31, 20),
    Spoken(2026, 1, 31, 20),
)


@pytest.mark.every_server
@pytest.mark.parametrize("column", ["timestamp", "datetime"])
def test_a_time_is_the_same_moment_in_each_way_to_write_it(scratch, matching, column):
    """The columns hold the same moments: a TIMESTAMP in UTC, a DATETIME in Shanghai's time."""
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, at {column} NULL)")
    hour = 12 if column == "timestamp" else 20
    scratch.run_many(
        "INSERT INTO t VALUES (%s, %s)",
        [(n, f"2026-01-31 {hour + n // 60:02}:{n % 60:02}:00") for n in (-60, -1, 0, 1, 60)],
    )
    for noon in SAME_NOON:
        found = {sign: matching(("at", sign, noon), zone=SHANGHAI) for sign in ("<", "=", ">=")}
        assert found == {"<": {-60, -1}, "=": {0}, ">=": {0, 1, 60}}, repr(noon)


def test_a_date_is_the_midnight_of_the_columns_zone(scratch, matching):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, at timestamp NULL, day date)")
    scratch.run(
        "INSERT INTO t VALUES (1, '2026-01-30 15:59:59', '2026-01-30'), (2, '2026-01-30 16:00', '2026-01-31')"
    )
    for day in (date(2026, 1, 31), "2026-01-31", pendulum.date(2026, 1, 31)):
        assert matching(("at", "<", day), zone=SHANGHAI) == {1}
        assert matching(("day", "<", day), zone=SHANGHAI) == {1}
        assert matching(("day", "=", day), zone=SHANGHAI) == {2}
        for sign in ("=", "<>", "<=", ">"):
            with pytest.raises(TableError, match="a date alone is clear only after < and >="):
                matching(("at", sign, day))


def test_the_zero_date_can_be_asked_for(scratch, matching):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, a timestamp NULL, b datetime, c date)")
    scratch.run("SET sql_mode = ''")
    scratch.run(
        "INSERT INTO t VALUES (1, 0, 0, 0), (2, '2026-01-01', '2026-01-01', '2026-01-01'),"
        " (3, NULL, NULL, NULL)"
    )
    for column in "abc":
        for zero in ("0000-00-00", "0000-00-00 00:00:00"):
            assert matching((column, "=", zero)) == {1}
            assert matching((column, "<>", zero)) == {2}
            assert matching((column, "not in", [zero])) == {2}
            with pytest.raises(TableError, match="expected a date or a time such as"):
                matching((column, ">", zero))


NO_DATE = "expected a date or a time such as"


@pytest.mark.parametrize(
    ("column", "sign", "value", "expected"),
    [
        # A text that is no date was compared as the zero date, and all rows were deleted.
        *((column, ">", text, NO_DATE)
          for column in ("date", "datetime", "timestamp")
          for text in ("NOW()", "c_date", "", "yesterday", "2026", "2026-02-30", "2026-1-1", "20260131",
                       "2026-01-31 25:00", "31.01.2026", "2026-01-31 12:00 Europe/Berlin", "2026-00-01")),
        *((column, "=", value, NO_DATE)
          for column in ("date", "datetime", "timestamp")
          for value in (20260131, 1.5, True, b"2026-01-31", time(12))),
        ("date", "<", "2026-01-31 12:00:00", "a date without a time"),
        ("date", "<", NOON, "a date without a time"),
        ("date", "<", pendulum.instance(NOON), "a date without a time"),
        ("date", "<", date(999, 1, 1), "from 1000-01-01"),
        ("datetime", "<", naive(1, 1, 1), "from 1000-01-01"),
        ("datetime", "<", "9999-12-31T23:59:59-12:00", "before the year 10000"),
        ("timestamp", "<", "1960-01-01 00:00:00", "from 1970-01-01 00:00:01"),
        ("timestamp", ">", "2200-01-01 00:00:00", "to 2106-02-07"),
        ("time", "<", "noon", "a time such as"),
        ("time", "<", "12:60", "a time such as"),
        ("time", "<", "839:00:00", "838:59:59"),
        ("time", "<", timedelta(hours=-839), "838:59:59"),
        ("time", "<", time(12, tzinfo=UTC), "without a zone"),
        ("time", "<", 120000, "a time such as"),
        ("time", "<", NOON, "a time such as"),
        # A text that is no number was compared as 0.
        *((column, "=", text, "a number")
          for column in ("int", "decimal", "double", "bigint") for text in ("c_int", "", "1", b"1")),
        ("int", "=", date(2026, 1, 1), "a number"),
        ("int", "=", NOON, "a number"),
        ("tinyint", "<", 128, "from -128 to 127"),
        ("smallint", ">", -1, "from 0 to 65535"),
        ("int", "in", [1, 2**31], "from -2147483648 to"),
        ("bigint", "<", 2**64, "from 0 to 18446744073709551615"),
        ("int", "<", 1.5, "a whole number"),
        ("int", "<", Decimal("0.1"), "a whole number"),
        ("bit", "=", 512, "from 0 to 511"),
        ("year", "=", 70, "from 1901 to 2155"),
        ("decimal", "<", Decimal(10) ** 28, "the column can hold"),
        ("price", ">", Decimal("-0.01"), "the column can hold"),
        ("price", "<", 1000, "the column can hold"),
        ("float", "<", 1e39, "the column can hold"),
        ("share", ">", -0.5, "the column can hold"),
        ("double", "<", 10**400, "the column can hold"),
        # A number made a text column be compared as a number.
        *((column, "=", value, "a text")
          for column in ("char", "varchar", "text", "enum", "set")
          for value in (0, 1.5, True, date(2026, 1, 1), NOON, b"a")),
        ("char", "<>", "abcdef", "up to 5 characters"),
        ("enum", "<>", "a,", r"one of '1', 'a,b', \"it's"),
        ("enum", "not in", ["1", "nothing"], "'nothing', expected one of"),
        ("set", "<>", "a,d", "some of 'a', 'b', 'c'"),
        ("binary", "=", "a", "expected bytes"),
        ("blob", "=", "a", "expected bytes"),
        ("varbinary", "=", b"a" * 17, "up to 16 bytes"),
        *((column, "like", "2026%", "a text column and a text pattern")
          for column in ("int", "date", "datetime", "timestamp", "time", "decimal", "blob")),
        ("varchar", "like", 20, "a text column and a text pattern"),
        ("json", "=", "x", "None after is or is not"),
        ("point", "=", "x", "None after is or is not"),
    ],
)  # fmt: skip
def test_a_value_that_the_column_cannot_hold_is_refused(refusing, column, sign, value, expected):
    with pytest.raises(TableError, match=expected) as refused:
        refusing((f"c_{column}", sign, value))
    assert f"column 'c_{column}' of t is " in str(refused.value)


@pytest.mark.parametrize(
    ("column", "value"), [("char", "abcde"), ("varchar", "x" * 20), ("varbinary", b"a" * 16)]
)
def test_the_longest_value_of_a_column_fits(refusing, column, value):
    refusing((f"c_{column}", "=", value))


@pytest.fixture(scope="module")
def refusing(mariadb):
    """A function that turns conditions into SQL for a table with a column of each type."""
    with mariadb.connect("") as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS refusing")
        cursor.execute("CREATE DATABASE refusing")
        cursor.execute("USE refusing")
        connection.set_character_set("utf8mb4")
        columns = ", ".join(f"c_{name} {sql}" for name, (sql, _, _) in TYPES.items())
        cursor.execute(f"CREATE TABLE t (id int PRIMARY KEY, c_point point, {columns})")
        table = read_table(Transactions(connection), "t")
        json = {
            **table.columns,
            "c_json": type(table.columns["c_int"])("c_json", "json", nullable=True, column_type="json"),
        }
        table = replace(table, columns=json)

        def refusing(*where):
            conditions.check(where)
            conditions.as_sql(where, table, UTC)

        yield refusing
        cursor.execute("DROP DATABASE refusing")


def test_a_time_that_a_clock_change_makes_unclear_needs_an_offset(scratch, matching):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, at timestamp NULL)")
    scratch.run("INSERT INTO t VALUES (1, '2026-10-25 00:29:00'), (2, '2026-10-25 01:31')")
    for unclear in ("2026-10-25 02:30:00", "2026-03-29 02:30:00"):
        with pytest.raises(TableError, match="a clock change in Europe/Berlin makes this one unclear"):
            matching(("at", "<", unclear), zone=BERLIN)
    assert matching(("at", "<", "2026-10-25T02:30:00+02:00"), zone=BERLIN) == {1}
    assert matching(("at", "<", datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1)), zone=BERLIN) == {1}
    assert matching(("at", "<", datetime(2026, 10, 25, 2, 32, tzinfo=BERLIN, fold=1)), zone=BERLIN) == {1, 2}


def test_a_time_that_a_column_without_offsets_has_twice_is_refused(scratch, matching):
    """Rows of 02:10 would be before 02:30+02:00, also those that were written 40 minutes after it."""
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, at datetime NULL)")
    scratch.run(
        "INSERT INTO t VALUES (1, '2026-10-25 01:59:59'), (2, '2026-10-25 02:10'), (3, '2026-10-25 03:00')"
    )
    for twice in ("2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T00:00:00Z"):
        with pytest.raises(TableError, match="a clock change in Europe/Berlin repeats this one"):
            matching(("at", "<", twice), zone=BERLIN)
    assert matching(("at", "<", "2026-10-24T23:59:59.5Z"), zone=BERLIN) == {1}
    assert matching(("at", "<", "2026-10-25T02:00:00Z"), zone=BERLIN) == {1, 2}
    assert matching(("at", "<", "2026-03-29T01:00:00Z"), zone=BERLIN) == set()


def purge(**options):
    arguments = {"task_id": "purge", "table": "t", "age_column": "age", "older_than_days": 10, **options}
    return PurgeRowsOperator(mysql_conn_id="scratch", **arguments)


@pytest.fixture
def old(scratch):
    """Ten old rows."""
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, age datetime, expires datetime,"
        " name varchar(9) CHARACTER SET latin1)"
    )
    scratch.run_many(
        "INSERT INTO t VALUES (%s, UTC_TIMESTAMP() - INTERVAL 20 DAY, '2026-01-31 12:00:00', 'a')",
        [[n] for n in range(10)],
    )
    return scratch


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (("expires", ">", "NOW()"), "where has expires > 'NOW\\(\\)', expected a date or a time"),
        (("name", "=", 0), "where has name = 0, expected a text"),
        (("name", "<>", "Ж"), "where has a text that a column of t can't hold"),
        (("name", "not in", ["a", "😀"]), "where has a text that a column of t can't hold"),
        (("name", "not in", ["a", "b", "c", "😀"]), "where has a text that a column of t can't hold"),
        (("name", "like", "Ж%"), "where has a text that a column of t can't hold"),
    ],
)
def test_a_run_fails_for_good_before_its_first_write(old, perform, condition, message, dry_run):
    with pytest.raises(AirflowFailException, match=message):
        perform(purge(where=[condition], dry_run=dry_run))
    assert old.value("SELECT COUNT(*) FROM t") == 10


def test_the_zone_of_where_is_that_of_the_age(old, perform):
    shanghai = {"age_timezone": "Asia/Shanghai"}
    assert perform(purge(where=[("expires", ">", "2026-01-31T12:00:00+08:00")], **shanghai))["changed"] == 0
    assert perform(purge(where=[("expires", ">=", "2026-01-31T12:00:00+08:00")], **shanghai))["changed"] == 10


@pytest.fixture
def pairs(scratch):
    """Rows of two numbers, two times and a text, each of them NULL in some rows; key → row."""
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int NULL, b decimal(6,2) NULL, since datetime NULL,"
        " until datetime NULL, seen timestamp NULL, word varchar(20) NULL, other varchar(20) NULL,"
        " mood enum('up','down') NULL, wish enum('down','up') NULL)"
    )
    numbers, words = (None, -1, 0, 1, 2), (None, "", "a", "ab", "b%")
    times = (None, datetime(2026, 1, 1), datetime(2026, 1, 2))  # noqa: DTZ001  as the column has them
    found = {
        key: dict(zip(("a", "b", "since", "until", "word", "other"), values, strict=True))
        for key, values in enumerate(product(numbers, numbers, times, times, words[1:], words[:3]), 1)
    }
    scratch.run_many(
        "INSERT INTO t (id, a, b, since, until, word, other) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [(key, *row.values()) for key, row in found.items()],
    )
    return found


def is_true(compare, *values):
    return None not in values and compare(*values)


COMBINED = [
    ([("a", "between", (0, 1))], lambda r: is_true(lambda a: 0 <= a <= 1, r["a"])),
    ([("a", "not between", [0, 1])], lambda r: is_true(lambda a: not 0 <= a <= 1, r["a"])),
    ([("word", "not like", "a%")], lambda r: not r["word"].startswith("a")),
    ([("word", "between", ("a", "b"))], lambda r: "a" <= r["word"] <= "b"),
    ([("a", "is null")], lambda r: r["a"] is None),
    ([("a", "is not null")], lambda r: r["a"] is not None),
    *(
        ([("a", sign, Column("b"))], lambda r, compare=compare: is_true(compare, r["a"], r["b"]))
        for sign, compare in OPERATORS.items()
    ),
    ([("since", "<", Column("until"))], lambda r: is_true(lt, r["since"], r["until"])),
    ([("word", "=", Column("other"))], lambda r: is_true(eq, r["word"], r["other"])),
    ([AnyOf([("a", "=", 1), ("b", "=", 2)])], lambda r: r["a"] == 1 or r["b"] == 2),
    (
        [AnyOf([[("a", "=", 1), ("b", "=", 2)], ("since", "is null")]), ("word", "in", ["a", "b%"])],
        lambda r: ((r["a"] == 1 and r["b"] == 2) or r["since"] is None) and r["word"] in {"a", "b%"},
    ),
    (
        [AnyOf([[("a", "=", 1), AnyOf([("b", "<", 0), ("b", ">", Column("a"))])], ("a", "=", 2)])],
        lambda r: (r["a"] == 1 and is_true(lambda b: b < 0 or b > 1, r["b"])) or r["a"] == 2,
    ),
]


@pytest.mark.every_server
def test_groups_ranges_and_columns_are_compared_as_python_would(pairs, matching):
    for where, model in COMBINED:
        expected = {key for key, row in pairs.items() if model(row)}
        assert 0 < len(expected) < len(pairs)
        assert matching(*where) == expected, where


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (("since", "<", Column("seen")), "'since' of t, which is datetime.*'seen', which is timestamp"),
        (("a", "=", Column("word")), "'a' of t, which is int.*'word', which is varchar"),
        (("mood", "=", Column("wish")), "expected two columns of one type"),
        (("mood", "<", Column("mood")), "expected two columns of one type"),
        (("a", "<", Column("absent")), "no column 'absent'"),
        (("a", "between", (1, 0)), "expected the smaller value first"),
        (("a", "between", (0, 2**40)), "expected a whole number"),
        (("since", "between", (date(2026, 1, 1), date(2026, 1, 2))), "a date alone is clear only after"),
        (AnyOf([("a", "=", 1), [("word", "=", 1)]]), "word = 1, expected a text"),
    ],
)  # fmt: skip
def test_what_the_server_would_convert_is_refused(pairs, matching, condition, message):
    with pytest.raises(TableError, match=message):
        matching(condition)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (("a", "is nothing"), r"\(column, \"is null\"\)"),
        (("a",), r"expected \(column, operator, value\)"),
        (("a", "between", 1), "two values after between"),
        (("a", "between", (1, 2, 3)), "two values after between"),
        (("a", "between", (1, "{{ x }}")), "a text without a template"),
        (("a", "like", Column("b")), "a Column only after"),
        (("a", "in", Column("b")), "a Column only after"),
        (("a", "=", Column("b`")), "expected a name"),
        (("a", "not in", []), "expected a list after in"),
        (AnyOf([]), "expected AnyOf of a list of conditions"),
        (AnyOf("ab"), "expected AnyOf of a list of conditions"),
        (AnyOf([[]]), "an empty list, which every row would meet"),
        (AnyOf([("a", "=")]), r"\(column, \"is null\"\)"),
        (AnyOf([AnyOf([AnyOf([AnyOf([AnyOf([AnyOf([("a", "=", 1)])])])])])]), "nested up to 5 times"),
    ],
)
def test_a_condition_that_is_none_is_refused(condition, message):
    with pytest.raises(JobArgumentError, match=message):
        conditions.check([condition])
