"""Times before 1980 are no ages: programs use such values for "never", so their rows stay.

Each form of an age has the same tests: hence the length.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.database.detached_table import DetachedTable
from iam_watcher.jobs.anonymize_rows import AnonymizeRowsOperator
from iam_watcher.jobs.children import Child
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from tests.integration.conftest import numbers
from tests.integration.partitioned import archived, create, ids, partitions

pytestmark = pytest.mark.every_server

NOW = datetime.now(UTC)
OLD, YOUNG = NOW - timedelta(days=800), NOW - timedelta(days=1)


def date(moment):
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def unix(factor):
    return lambda moment: int(moment.timestamp()) * factor


def day(form):
    return lambda moment: f"{moment:{form}}"


FIRST_SECOND = 315_532_800  # of 1980

# Type, arguments, value of a moment, values before 1980, the first value that is an age.
FORMS = {
    "timestamp": (
        "timestamp",
        {},
        date,
        ["0000-00-00", "1970-01-01 00:00:01", "1979-12-31 23:59:59"],
        "1980-01-01 00:00:00",
    ),
    "datetime": (
        "datetime(6)",
        {},
        date,
        ["0000-00-00", "0001-01-01", "1000-01-01", "1900-01-01", "1970-01-01", "1979-12-31 23:59:59.999999"],
        "1980-01-01 00:00:00",
    ),
    "date": (
        "date",
        {},
        day("%Y-%m-%d"),
        ["0000-00-00", "1000-01-01", "1970-01-01", "1979-12-31"],
        "1980-01-01",
    ),
    "seconds": (
        "bigint",
        {"age_unit": "unix_seconds"},
        unix(1),
        [-1, 0, 1, 18_000, 20_240_131, FIRST_SECOND - 1],
        FIRST_SECOND,
    ),
    # A program that wrote seconds at first, and milliseconds from some day on.
    "milliseconds": (
        "bigint",
        {"age_unit": "unix_milliseconds"},
        unix(1000),
        [0, 1, *(unix(1)(YOUNG) - n for n in range(10)), FIRST_SECOND * 1000 - 1],
        FIRST_SECOND * 1000,
    ),
    "microseconds": (
        "decimal(20,0)",
        {"age_unit": "unix_microseconds"},
        unix(10**6),
        [0, 1, unix(1)(YOUNG), unix(1000)(YOUNG), FIRST_SECOND * 10**6 - 1],
        FIRST_SECOND * 10**6,
    ),
    "number of a day": (
        "int",
        {"age_unit": "YYYYMMDD"},
        day("%Y%m%d"),
        [0, 1, 19000101, 19700101, 19791231],
        19800101,
    ),
    "text of a day": (
        "varchar(20)",
        {"age_unit": "YYYYMMDD"},
        day("%Y%m%d"),
        ["", "19000101", "19700101", "19791231"],
        "19800101",
    ),
    "month": ("int", {"age_unit": "YYYYMM"}, day("%Y%m"), [0, 190001, 197912], 198001),
    "year": ("year", {"age_unit": "year"}, day("%Y"), [0, 1901, 1970, 1979], 1980),
    "text": (
        "char(20)",
        {"age_format": "%Y-%m-%dT%H:%M:%SZ"},
        day("%Y-%m-%dT%H:%M:%SZ"),
        ["", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1979-12-31T23:59:59Z"],
        "1980-01-01T00:00:00Z",
    ),
    "day first": (
        "varchar(10)",
        {"age_format": "%d.%m.%Y"},
        day("%d.%m.%Y"),
        ["", "01.01.1900", "01.01.1970", "31.12.1979"],
        "01.01.1980",
    ),
}


def purge(**options):
    return PurgeRowsOperator(
        **{
            "task_id": "purge",
            "table": "t",
            "age_column": "at",
            "older_than_days": 365,
            "mysql_conn_id": "scratch",
            **options,
        }
    )


def filled(scratch, name, more="", each=1):
    """Create a table: twenty old rows, twenty young ones, and for each value before 1980 some rows.

    Returns:
        The keys of the rows that are to stay.
    """
    column, _, value, before, first = FORMS[name]
    scratch.run("SET sql_mode = ''")
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY AUTO_INCREMENT, at {column} NULL{more})")
    old = [first, *(value(OLD - timedelta(days=40 * number)) for number in range(19))]
    young = [value(YOUNG)] * 20
    values = [*young, *(one for one in before for _ in range(each)), *old]
    scratch.run_many("INSERT INTO t (at) VALUES (%s)", [[one] for one in values])
    return list(range(1, len(values) - len(old) + 1))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
def test_rows_with_them_stay(scratch, perform, name, zone):
    stay = filled(scratch, name, each=3)
    options = {"age_timezone": zone, **FORMS[name][1]}
    dry = perform(purge(dry_run=True, **options))
    report = perform(purge(**options))
    assert scratch.column("SELECT id FROM t ORDER BY id") == stay
    assert (dry["matched"], report["changed"]) == (20, 20)
    assert dry["skipped"] == report["skipped"] == {"zero_date": len(FORMS[name][3]) * 3}


@pytest.mark.parametrize("name", [name for name in FORMS if name != "day first"])
def test_the_walk_goes_by_an_index_and_reads_few_of_them(scratch, perform, monkeypatch, name):
    monkeypatch.setattr("iam_watcher.walk.index_order.MOST_LEFT_OUT", 50)
    filled(scratch, name, ", KEY by_at (at)")
    low = FORMS[name][3][-1]
    scratch.run(f"INSERT INTO t (at) SELECT %s FROM {numbers(5000)}", [low])
    scratch.run("ANALYZE TABLE t")
    before = scratch.value("SELECT COUNT(*) FROM t")
    report = perform(purge(**FORMS[name][1]))
    assert (report["order"], report["changed"], report["examined"]) == ("index", 20, 20)
    assert scratch.value("SELECT COUNT(*) FROM t") == before - 20


def test_the_report_says_so(scratch, perform, caplog):
    filled(scratch, "datetime")
    caplog.set_level("INFO")
    perform(purge())
    assert "(6 with a zero date or one before 1980 left alone)" in caplog.text


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("seconds", {"grace_days": 0}, "never_expires"),
        ("datetime", {"grace_days": 0}, "zero_date"),
        ("datetime", {"older_than": {"column": "id", 1: "5d", None: "1y"}}, "zero_date"),
    ],
)
def test_they_stay_with_each_kind_of_period(scratch, perform, name, options, reason):
    stay = filled(scratch, name)
    scratch.run("UPDATE t SET at = %s WHERE id <= 20", [FORMS[name][2](NOW + timedelta(days=1))])
    options = {"older_than_days": None, **FORMS[name][1], **options}
    assert perform(purge(**options))["skipped"] == {reason: len(FORMS[name][3])}
    assert scratch.column("SELECT id FROM t ORDER BY id") == stay


@pytest.mark.parametrize("name", ["timestamp", "seconds", "text of a day"])
@pytest.mark.parametrize("per", [None, "grp"])
def test_they_stay_and_take_no_place_among_the_newest(scratch, perform, name, per):
    stay = filled(scratch, name, ", grp int NOT NULL DEFAULT 7, KEY (at), KEY (grp, at)")
    scratch.run("DELETE FROM t WHERE id <= 20")
    options = {"older_than_days": None, "keep_last": 3, "per": per, **FORMS[name][1]}
    report = perform(purge(**options))
    assert (report["changed"], report["skipped"]["newest"]) == (17, 3)
    assert set(stay[20:]) <= set(scratch.column("SELECT id FROM t"))
    scratch.run("DELETE FROM t WHERE at > 0 AND at <= %s", [FORMS[name][3][-1]])
    assert perform(purge(**{**options, "keep_last": 4}))["changed"] == 0
    assert perform(purge(**{**options, "keep_last": 2}))["changed"] == 1


def test_their_children_stay(scratch, perform):
    filled(scratch, "timestamp")
    scratch.run("CREATE TABLE child (id int PRIMARY KEY, t_id int NOT NULL, KEY (t_id))")
    scratch.run("INSERT INTO child SELECT id, id FROM t")
    perform(purge(children=[Child("child", key="t_id")]))
    assert scratch.column("SELECT id FROM child ORDER BY id") == list(range(1, 24))


def test_they_are_not_made_anonymous(scratch, perform):
    stay = filled(scratch, "timestamp", ", name varchar(9) NULL DEFAULT 'ann'")
    operator = AnonymizeRowsOperator(
        task_id="anonymize", table="t", age_column="at", older_than_days=365, set={"name": None},
        mysql_conn_id="scratch",
    )  # fmt: skip
    assert perform(operator)["changed"] == 20
    assert scratch.column("SELECT id FROM t WHERE name = 'ann' ORDER BY id") == stay


def test_the_safety_limit_counts_them_as_rows_that_stay(scratch, perform):
    filled(scratch, "timestamp", each=100)
    report = perform(purge(max_share=0.1, dry_run=True))
    assert (report["matched"], report["eligible"]) == (20, 340)
    assert perform(purge(max_share=0.1))["changed"] == 20


@pytest.mark.parametrize("keeps", [True, False], ids=["archive", "no-archive"])
@pytest.mark.parametrize("key", ["id, day", "day, id"])
@pytest.mark.parametrize(
    ("column", "bounds", "value", "options"),
    [
        ("datetime NOT NULL", "'{}'", "{} 00:00:00", {}),
        ("date NOT NULL", "'{}'", "{}", {}),
        ("int NOT NULL", "{}", "{}", {"age_unit": "YYYYMMDD"}),
    ],
    ids=["datetime", "date", "number"],
)
def test_no_partition_with_them_is_dropped(
    scratch, perform, caplog, tmp_path, monkeypatch, column, bounds, value, options, key, keeps
):
    """Not only the first partition can have rows without an age."""
    days = {"a": "1950-01-01", "b": "1975-01-01", "c": "1981-01-01", "d": "2001-01-01"}
    values = ["0000-00-00", "1949-05-05", "1970-01-01", "1979-12-31", "1980-05-05"]
    values += [f"1999-05-{number}" for number in range(10, 20)]
    number = column.startswith("int")

    def written(text, day):
        return text.format(day.replace("-", "") if number else day)

    create(
        scratch,
        column,
        "RANGE (day)" if number else "RANGE COLUMNS (day)",
        {name: written(bounds, one) for name, one in days.items()} | {"later": "MAXVALUE"},
        key,
    )
    scratch.run_many(
        "INSERT INTO t (id, day) VALUES (%s, %s)",
        [(one, written(value, day)) for one, day in enumerate(values, 1)],
    )
    exchanged, exchange = [], DetachedTable.exchange

    def note(self, name):
        exchanged.append(name)
        return exchange(self, name)

    monkeypatch.setattr(DetachedTable, "exchange", note)
    dry = perform(purge_partitions(dry_run=True, **options))
    report = perform(purge_partitions(archive=f"file://{tmp_path}" if keeps else None, **options))
    assert dry["partitions"] == report["partitions"] == [{"partition": "d", "rows": 10}]
    assert "not drop the partition c: 1 of its rows stay" in dry["real_run"]
    assert exchanged == ["d"]
    assert ids(scratch) == {1, 2, 3, 4}
    assert partitions(scratch) == ["a", "b", "c", "later"]
    assert archived(tmp_path) == (set(range(5, 16)) if keeps else set())
    assert (dry["skipped"], report["changed"]) == ({"zero_date": 4}, 11)
    assert "The partition c of t is not dropped, because" in caplog.text
    assert "The partition a of t is not dropped" not in caplog.text


def purge_partitions(**options):
    return purge(age_column="day", drop_partitions=True, **options)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_column_that_has_only_such_values_is_refused(scratch, perform, dry_run):
    """It has another unit: seconds are not milliseconds."""
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, at bigint)")
    scratch.run_many("INSERT INTO t VALUES (%s, %s)", [(n, unix(1)(OLD) + n) for n in range(50)])
    with pytest.raises(AirflowFailException, match="Set age_unit='unix_seconds'"):
        perform(purge(age_unit="unix_milliseconds", dry_run=dry_run))
