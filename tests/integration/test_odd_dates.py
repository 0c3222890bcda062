"""Dates that the server keeps and Python has not: they go like other old rows, by key and by index."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.jobs.conditions import AnyOf
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk import walk
from iam_watcher.walk.pace import ChunkSize

# In the order in which the server has them; those before 1980 are no ages.
ODD = (
    "0000-00-00", "0000-05-05", "1000-01-01", "1970-00-00", "1970-01-01", "1979-12-31", "1980-00-00",
    "1980-01-01", "2019-00-00", "2019-00-31", "2019-02-00", "2019-02-29", "2019-02-31", "2019-11-31",
    "2019-12-31",
)  # fmt: skip
NO_DATES = 7
YOUNG = "9999-02-31", "9999-12-31"


@pytest.fixture(params=["datetime(6)", "datetime", "date"])
def odd_dates(scratch, request):
    """A function that creates a table with each of these dates a few times, by an index on it or without."""

    def create(index, copies=3):
        scratch.run("SET sql_mode = 'ALLOW_INVALID_DATES'")
        scratch.run(f"CREATE TABLE t (id int PRIMARY KEY AUTO_INCREMENT, at {request.param} NOT NULL{index})")
        scratch.run_many(
            "INSERT INTO t (at) VALUES (%s)", [[day] for day in (*ODD, *YOUNG) for _ in range(copies)]
        )
        return scratch

    return create


def purge(**options):
    return PurgeRowsOperator(
        task_id="purge", table="t", age_column="at", older_than_days=10, mysql_conn_id="scratch", **options
    )


@pytest.mark.every_server
@pytest.mark.parametrize("by", ["key", "index"])
def test_odd_dates_go_or_are_counted(odd_dates, perform, monkeypatch, by):
    monkeypatch.setattr("iam_watcher.walk.index_order.FEW_SHARE", 10)
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_ROWS", 1)
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(1e-9, rows=2, span=5))
    scratch = odd_dates(", KEY (at)" if by == "index" else "")
    report = perform(purge())
    assert report["order"] == by
    assert report["skipped"] == {"zero_date": NO_DATES * 3}
    assert report["changed"] == report["matched"] == (len(ODD) - NO_DATES) * 3
    left = scratch.column("SELECT CAST(at AS CHAR(10)) FROM t ORDER BY id")
    assert left == [day for day in (*ODD[:NO_DATES], *YOUNG) for _ in range(3)]


@pytest.mark.every_server
def test_a_dry_run_shows_them_as_the_server_does(odd_dates, perform):
    odd_dates("", copies=1)
    report = perform(purge(dry_run=True))
    assert report["matched"] == len(ODD) - NO_DATES
    examples = {example["since"][:10]: example["age_days"] for example in report["examples"]}
    assert list(examples) == ["1980-01-01", "2019-00-00", "2019-00-31", "2019-02-00", "2019-02-29"]
    assert [days is None for days in examples.values()] == [False, True, True, True, True]


@pytest.mark.every_server
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Shanghai"])
@pytest.mark.parametrize("days", [10, 36_500])
def test_the_first_and_the_last_year_in_any_zone(odd_dates, perform, zone, days):
    scratch = odd_dates("", copies=1)
    scratch.run("DELETE FROM t WHERE at > '1980-01-01' AND at < '9999-01-01'")
    operator = PurgeRowsOperator(
        task_id="purge", table="t", age_column="at", older_than_days=days, age_timezone=zone,
        mysql_conn_id="scratch", dry_run=True,
    )  # fmt: skip
    report = perform(operator)
    assert (report["matched"], report["skipped"]) == (int(days == 10), {"zero_date": NO_DATES})


ZEROS = {
    "date": "0000-00-00",
    "datetime": "0000-00-00 00:00:00",
    "datetime(6)": "0000-00-00 00:00:00",
}  # fmt: skip


@pytest.fixture
def seen(scratch):
    """A function that creates old rows with values in a column `seen` of a type; returns the database."""

    def create(column, *values):
        scratch.run("SET sql_mode = ''")
        scratch.run(f"CREATE TABLE t (id int PRIMARY KEY AUTO_INCREMENT, at date NOT NULL, seen {column})")
        scratch.run_many("INSERT INTO t (at, seen) VALUES ('2019-01-01', %s)", [[value] for value in values])
        return scratch

    return create


@pytest.mark.every_server
@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(("column", "zero"), ZEROS.items())
def test_null_is_not_asked_of_a_column_in_which_it_would_mean_the_zero_date(
    seen, perform, column, zero, dry_run
):
    scratch = seen(f"{column} NOT NULL", zero, "2019-01-01", zero)
    # In WHERE the server takes it for the zero date. In the columns of a SELECT, where a dry run counts, it
    # does not.
    assert scratch.value("SELECT COUNT(*) FROM t WHERE seen IS NULL") == 2
    assert scratch.value("SELECT COUNT((seen IS NULL) OR NULL) FROM t") == 0
    expected = rf"'seen' of t can't be NULL\. For rows without a date, use \('seen', '=', '{zero}'\)"
    for where in (
        ("seen", "is null"),
        ("seen", "is", None),
        AnyOf([("id", "=", 9), ("seen", "is null")]),
        AnyOf([("id", "=", 9), [("id", ">", 0), ("seen", "is null")]]),
    ):
        with pytest.raises(AirflowFailException, match=expected):
            perform(purge(where=[where], dry_run=dry_run))
    assert scratch.value("SELECT COUNT(*) FROM t") == 3


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("column", "values", "left"),
    [
        ("date NULL", [None, "0000-00-00", "2019-01-01"], {2, 3}),
        ("datetime NULL", [None, "0000-00-00", "2019-01-01"], {2, 3}),
        ("timestamp NULL", [None, "0000-00-00", "2019-01-01"], {2, 3}),
        ("timestamp NOT NULL DEFAULT '2019-01-01'", ["0000-00-00", "2019-01-01"], {1, 2}),
        ("int NOT NULL", [0, 1], {1, 2}),
        ("varchar(9) NOT NULL", ["", "x"], {1, 2}),
    ],
)
def test_null_is_asked_of_a_column_in_which_it_means_null_alone(seen, perform, column, values, left):
    scratch = seen(column, *values)
    where = [("seen", "is null")]
    assert perform(purge(where=where, dry_run=True))["matched"] == len(values) - len(left)
    assert perform(purge(where=where))["changed"] == len(values) - len(left)
    assert set(scratch.column("SELECT id FROM t")) == left


@pytest.mark.every_server
@pytest.mark.parametrize("null", ["NULL", "NOT NULL"])
@pytest.mark.parametrize(("column", "zero"), ZEROS.items())
def test_rows_without_a_date_are_found_by_the_zero_date(seen, perform, column, zero, null):
    scratch = seen(f"{column} {null}", zero, "2019-01-01", "2019-00-00", zero)
    for where in (("seen", "=", zero), AnyOf([("seen", "=", zero), ("id", "=", 9)])):
        assert perform(purge(where=[where], dry_run=True))["matched"] == 2
    assert perform(purge(where=[("seen", "=", zero)]))["changed"] == 2
    assert scratch.column("SELECT id FROM t ORDER BY id") == [2, 3]
