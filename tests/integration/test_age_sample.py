"""The unit of an integer age column: seen on a sample before the first write, which reads few rows."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from airflow.sdk.exceptions import AirflowFailException
from MySQLdb import OperationalError

from iam_watcher.database.catalogue import read_table
from iam_watcher.database.server_errors import LOCK_WAIT_TIMEOUT
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.table_job import age_sample
from iam_watcher.walk.key_order import KeyOrder
from tests.integration.conftest import numbers, politeness

NOW, DAY = "UNIX_TIMESTAMP()", 86_400


def purge(**options):
    arguments = {"task_id": "purge", "table": "t", "age_column": "at", "older_than_days": 30, **options}
    return PurgeRowsOperator(mysql_conn_id="scratch", age_unit="unix_seconds", **arguments)


@pytest.fixture
def table(scratch):
    """A function that creates a table with these values of `at`, and an index on them if asked for."""

    def table(values, index=""):
        scratch.run(
            f"CREATE TABLE t (id bigint PRIMARY KEY, at bigint NULL, kind int NOT NULL DEFAULT 0 {index})"
        )
        scratch.run_many("INSERT INTO t (id, at) VALUES (%s, %s)", list(enumerate(values, 1)))
        return scratch

    return table


def seconds(days_ago):
    return int(time.time()) - days_ago * DAY


SUGGESTIONS = {
    "milliseconds": "Set age_unit='unix_milliseconds'",
    "microseconds": "Set age_unit='unix_microseconds'",
    "YYYYMMDD": "Set age_unit='YYYYMMDD'",
    "YYYYMMDDhhmmss": "Set age_format='%Y%m%d%H%M%S'",
}
WRONG_UNITS = {
    "milliseconds": [seconds(n) * 1000 for n in range(0, 4000, 40)],
    "microseconds": [seconds(n) * 10**6 for n in range(0, 4000, 40)],
    "nanoseconds": [seconds(n) * 10**9 for n in range(0, 4000, 40)],
    "YYYYMMDD": [20_000_101 + 10_000 * n for n in range(27)],
    "YYYYMMDDhhmmss": [20_000_131_235_959 + 10**10 * n for n in range(27)],
    "days since 1970": [seconds(n) // DAY for n in range(0, 4000, 40)],
}
# One of ten values is no plausible time in any unit.
MIXED = [1, *(seconds(n) * 1000 for n in range(9))]


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("expiry", [{}, {"older_than_days": None, "grace_days": 0}], ids=["age", "expiry"])
@pytest.mark.parametrize("unit", WRONG_UNITS)
def test_another_unit_is_named_before_the_first_write(table, perform, unit, expiry, dry_run):
    values = WRONG_UNITS[unit]
    scratch = table([0, None, *values])
    with pytest.raises(AirflowFailException, match=f"They look like {unit}. ") as failed:
        perform(purge(dry_run=dry_run, **expiry))
    assert str(failed.value).endswith(SUGGESTIONS.get(unit, age_sample.OTHERWISE))
    assert (
        f"{len(values)} of {len(values)} different values of column 'at' of t are no plausible time"
        in str(failed.value)
    )
    assert any(f"{value} (" in str(failed.value) for value in values)
    assert scratch.value("SELECT COUNT(*) FROM t") == len(values) + 2


def test_a_unit_is_named_if_nine_of_ten_values_fit(table, perform):
    table(MIXED)
    with pytest.raises(AirflowFailException, match="They look like milliseconds"):
        perform(purge())


def test_the_key_itself_is_no_age(table, perform):
    scratch = table([seconds(1)] * 100)
    with pytest.raises(AirflowFailException, match="They look like the primary key, which is no time"):
        perform(purge(age_column="id"))
    assert scratch.value("SELECT COUNT(*) FROM t") == 100


def test_what_a_column_of_seconds_may_hold(table, perform):
    """No age, a few values of nonsense, and the most frequent value one that stands for never."""
    old, young = [seconds(40 + n) for n in range(10)], [seconds(n) for n in range(10)]
    scratch = table([0, None, -5, 7, 20260131, 2**40, *[2**32 - 1] * 50, *old, *young])
    report = perform(purge())
    assert (report["changed"], report["skipped"]) == (10, {"no_date": 1, "zero_date": 4})
    assert scratch.value("SELECT COUNT(*) FROM t") == 66


def test_an_expiry_may_be_far_ahead(table, perform):
    never = [2**31 - 1, 2**32 - 1, 4_102_444_800, 32_503_680_000, 253_402_214_400]
    scratch = table([*never, seconds(1)])
    report = perform(purge(older_than_days=None, grace_days=0))
    assert (report["changed"], scratch.value("SELECT COUNT(*) FROM t")) == (1, 5)
    scratch.run("INSERT INTO t (id, at) VALUES (100, %s)", [seconds(40)])
    with pytest.raises(AirflowFailException, match="4 of 6 different values"):
        perform(purge())


@pytest.mark.parametrize("values", [[], [0, 0, None, -1]])
def test_a_table_without_ages_is_no_reason_to_fail(table, perform, values):
    table(values)
    assert perform(purge())["changed"] == 0


@pytest.mark.parametrize("index", ["", ", KEY by_at (at)"])
def test_rows_that_where_leaves_out_do_not_count(table, perform, index):
    scratch = table([*[seconds(n) * 1000 for n in range(100)], seconds(40)], index)
    scratch.run("UPDATE t SET kind = 1 WHERE at > 1e11")
    with pytest.raises(AirflowFailException, match="milliseconds"):
        perform(purge())
    assert perform(purge(where=[("kind", "=", 0)]))["changed"] == 1


def test_an_index_shows_what_the_ends_of_the_table_do_not(table, perform, monkeypatch):
    """Between the ends, where most rows have no age yet."""
    monkeypatch.setattr(age_sample, "BY_KEY", age_sample.BY_KEY.replace("500", "5"))
    values = [*[0] * 50, *range(20_240_101, 20_240_131), *[0] * 50]
    scratch = table(values, ", KEY by_at (at)")
    with pytest.raises(AirflowFailException, match=r"30 of 30 different .* YYYYMMDD"):
        perform(purge())
    assert scratch.value("SELECT COUNT(*) FROM t") == len(values)


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ([*[0] * 50, *range(20_240_101, 20_240_131)], ""),
        ([*range(20_240_101, 20_240_131), *[0] * 50], ""),
        # By the index one is plausible, and two are not.
        ([*[0] * 50, seconds(40), *[0] * 50, seconds(0) * 1000, seconds(1) * 1000], ", KEY by_at (at)"),
        ([*[0] * 50, seconds(40), *[0] * 50, 20_240_101, 20_240_102, *[0] * 50], ", KEY by_at (at)"),
    ],
    ids=["last rows", "first rows", "end of the index", "beginning of the index"],
)
def test_all_ends_are_looked_at(table, perform, monkeypatch, values, index):
    monkeypatch.setattr(age_sample, "BY_KEY", age_sample.BY_KEY.replace("500", "1"))
    monkeypatch.setattr(age_sample, "BY_INDEX", age_sample.BY_INDEX.replace("100", "2"))
    scratch = table(values, index)
    with pytest.raises(AirflowFailException, match="are no plausible time in seconds"):
        perform(purge())
    assert scratch.value("SELECT COUNT(*) FROM t") == len(values)


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([*[0] * 50, *range(20_240_101, 20_240_131), *[0] * 50], "kind >= 0"),
        ([*[None] * 50, *range(20_240_101, 20_240_131), *[None] * 50], "kind >= 0"),
        ([*[seconds(40)] * 50, *range(20_240_101, 20_240_131), *[seconds(40)] * 50], "at < 1e9"),
    ],
    ids=["zeros", "nulls", "other rows"],
)
def test_if_the_ends_tell_nothing_the_first_rows_to_go_are_looked_at(
    table, perform, monkeypatch, values, kind
):
    monkeypatch.setattr(age_sample, "BY_KEY", age_sample.BY_KEY.replace("500", "5"))
    scratch = table(values)
    scratch.run(f"UPDATE t SET kind = 1 WHERE {kind}")
    for dry_run in (True, False):
        with pytest.raises(AirflowFailException, match=r"30 of 30 different .* YYYYMMDD"):
            perform(purge(where=[("kind", "=", 1)], dry_run=dry_run))
    assert scratch.value("SELECT COUNT(*) FROM t") == len(values)


@pytest.mark.parametrize("pace", ["fast", "polite"])
def test_old_seconds_between_ends_without_ages_go(table, perform, monkeypatch, pace):
    monkeypatch.setattr(age_sample, "BY_KEY", age_sample.BY_KEY.replace("500", "5"))
    table([*[0] * 50, seconds(40), seconds(1), *[0] * 50])
    assert perform(purge(pace=pace))["changed"] == 1


def test_the_search_for_rows_to_go_waits_and_rests(table, perform, monkeypatch):
    monkeypatch.setattr(age_sample, "BY_KEY", age_sample.BY_KEY.replace("500", "5"))
    waits, rests = politeness(monkeypatch, age_sample, "_to_go")
    table([*[0] * 50, seconds(40), *[0] * 50])
    perform(purge(pace="polite"))
    assert waits
    assert min(rests) > 0


def test_the_search_for_rows_to_go_reads_less_after_an_error(table, perform, monkeypatch):
    monkeypatch.setattr(age_sample, "BY_KEY", age_sample.BY_KEY.replace("500", "5"))
    table([*[0] * 50, seconds(40), *[0] * 50])
    spans, next_chunk = [], KeyOrder.next_chunk

    def fail_once(order, *arguments, **options):
        spans.append(order._size.span)
        if len(spans) == 1:
            raise OperationalError(LOCK_WAIT_TIMEOUT, "made by the test")
        return next_chunk(order, *arguments, **options)

    monkeypatch.setattr(KeyOrder, "next_chunk", fail_once)
    assert perform(purge())["changed"] == 1
    assert spans[1] < spans[0]


def test_numbers_that_the_server_gives_are_no_ages_however_large(scratch, perform):
    scratch.run("CREATE TABLE t (id bigint PRIMARY KEY AUTO_INCREMENT)")
    scratch.run("INSERT INTO t VALUES (%s), (%s)", [seconds(100), seconds(90)])
    with pytest.raises(AirflowFailException, match="'id' is the primary key of t, by which"):
        perform(purge(age_column="id"))
    assert scratch.value("SELECT COUNT(*) FROM t") == 2


@pytest.mark.parametrize(
    "hidden",
    [
        pytest.param("IGNORED", marks=pytest.mark.needs("ignored-index")),
        pytest.param("INVISIBLE", marks=pytest.mark.needs("invisible-index")),
    ],
)
def test_an_index_that_is_ignored_is_not_used(table, perform, hidden):
    table([seconds(40)], f", KEY by_at (at) {hidden}")
    assert perform(purge())["changed"] == 1


@pytest.mark.parametrize("index", ["", ", KEY by_at (at)"])
def test_the_sample_reads_few_rows_of_a_large_table(scratch, session, index):
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, at int NOT NULL {index})")
    scratch.run(f"INSERT INTO t SELECT seq, {NOW} - seq FROM {numbers(5000)}")
    db, job, now = Transactions(session), purge(), datetime.now(UTC)

    def reads():
        found = dict(db.read("SHOW SESSION STATUS LIKE 'Handler_read%%'"))
        return sum(map(int, found.values())) - int(found["Handler_read_rnd_next"])

    def reads_of_a_check():
        before = reads()
        with job.throttling(db, "t") as throttler:
            job.job().check(db, job.job().plan(read_table(db, "t"), now), now, throttler)
        return reads() - before

    of_many = reads_of_a_check()
    scratch.run("DELETE FROM t WHERE id > 10")  # MySQL reads in its own tables too, for a table of any size.
    assert of_many - reads_of_a_check() <= 2 * 500 + 2 * 100
