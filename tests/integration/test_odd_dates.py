"""Dates that the server keeps and Python has not: they go like other old rows, by key and by index."""

from __future__ import annotations

import pytest

from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk import walk
from iam_watcher.walk.pace import ChunkSize

# In the order in which the server has them; those without a year are no dates at all.
ODD = (
    "0000-00-00", "0000-05-05", "0999-12-31", "1000-01-01", "2019-00-00", "2019-00-31", "2019-02-00",
    "2019-02-29", "2019-02-31", "2019-11-31", "2019-12-31",
)  # fmt: skip
NO_DATES = 3
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
    assert list(examples) == ["1000-01-01", "2019-00-00", "2019-00-31", "2019-02-00", "2019-02-29"]
    assert [days is None for days in examples.values()] == [False, True, True, True, True]


@pytest.mark.every_server
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Shanghai"])
@pytest.mark.parametrize("days", [10, 36_500])
def test_the_first_and_the_last_year_in_any_zone(odd_dates, perform, zone, days):
    scratch = odd_dates("", copies=1)
    scratch.run("DELETE FROM t WHERE at > '1000-01-01' AND at < '9999-01-01'")
    operator = PurgeRowsOperator(
        task_id="purge", table="t", age_column="at", older_than_days=days, age_timezone=zone,
        mysql_conn_id="scratch", dry_run=True,
    )  # fmt: skip
    report = perform(operator)
    assert (report["matched"], report["skipped"]) == (1, {"zero_date": NO_DATES})
