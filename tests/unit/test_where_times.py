"""What a date or a time is compared with a column as."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from iam_watcher.database.column import Column
from iam_watcher.jobs.table_job.where_times import UnfitValueError, moment, time_of_day

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("value", "compared_as"),
    [
        (time(0), "00:00:00.000000"),
        (timedelta(seconds=-1), "-00:00:01.000000"),
        ("838:59:59", "838:59:59.000000"),
        ("-838:59:59", "-838:59:59.000000"),
        ("7:05", "07:05:00.000000"),
    ],
)
def test_only_a_time_below_zero_has_a_sign(value, compared_as):
    assert time_of_day(value, None) == compared_as


@pytest.mark.parametrize("value", ["838:59:59.000001", "-839:00"])
def test_a_time_that_no_column_can_hold_is_refused(value):
    with pytest.raises(UnfitValueError, match="from -838:59:59 to 838:59:59"):
        time_of_day(value, None)


def compared(data_type, value, operator="<", zone=UTC):
    return str(moment(value, Column("c", data_type, nullable=False), operator, zone))


@pytest.mark.parametrize(
    ("data_type", "value", "as_the_column"),
    [
        ("date", "1000-01-01", "1000-01-01"),
        ("date", date(9999, 12, 31), "9999-12-31"),
        ("datetime", "1000-01-01T00:00", "1000-01-01 00:00:00"),
        ("datetime", "9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"),
        ("timestamp", "1970-01-01 00:00:01", "1970-01-01 00:00:01"),
        ("timestamp", "2106-02-07 06:28:15", "2106-02-07 06:28:15"),
    ],
)
def test_the_first_and_the_last_value_of_a_column(data_type, value, as_the_column):
    assert compared(data_type, value) == as_the_column


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        ("date", "0999-12-31"),
        ("datetime", "0999-12-31 23:59:59.999999"),
        ("timestamp", "1970-01-01 00:00:00.999999"),
        ("timestamp", "2106-02-07 06:28:15.000001"),
    ],
)
def test_a_time_before_the_first_or_after_the_last_is_refused(data_type, value):
    with pytest.raises(UnfitValueError, match="which the column can hold"):
        compared(data_type, value)


@pytest.mark.parametrize("data_type", ["timestamp", "datetime"])
def test_a_time_after_the_last_year_is_refused(data_type):
    with pytest.raises(UnfitValueError, match="a time before the year 10000"):
        compared(data_type, "9999-12-31T23:59:59-01:00")


@pytest.mark.parametrize("operator", ["=", "<>", "in", "not in"])
@pytest.mark.parametrize("value", ["0000-00-00", "0000-00-00 00:00:00"])
def test_a_zero_date_can_be_equal_and_no_more(operator, value):
    assert compared("datetime", value, operator) == value
    with pytest.raises(UnfitValueError, match="a date or a time such as"):
        compared("datetime", value, "<")


@pytest.mark.parametrize("operator", ["<", ">="])
def test_a_date_alone_is_the_beginning_of_its_day(operator):
    assert compared("datetime", "2026-01-31", operator) == "2026-01-31 00:00:00"
    for unclear in ("<=", ">", "=", "<>", "in"):
        with pytest.raises(UnfitValueError, match="a date alone is clear only after < and >="):
            compared("datetime", "2026-01-31", unclear)


def test_a_time_is_none_for_a_column_of_dates():
    with pytest.raises(UnfitValueError, match="a date without a time"):
        compared("date", datetime(2026, 1, 31, tzinfo=UTC))


@pytest.mark.parametrize(
    ("data_type", "value", "as_the_column"),
    [
        # A timestamp is in UTC, another column in the zone of the argument.
        ("timestamp", "2026-07-01 12:00", "2026-07-01 10:00:00"),
        ("timestamp", "2026-07-01T12:00Z", "2026-07-01 12:00:00"),
        ("datetime", "2026-07-01 12:00", "2026-07-01 12:00:00"),
        ("datetime", "2026-07-01T12:00Z", "2026-07-01 14:00:00"),
        # The clock goes back from 03:00 to 02:00.
        ("timestamp", "2026-10-25T02:30+01:00", "2026-10-25 01:30:00"),
        ("timestamp", "2026-10-25 01:59:59", "2026-10-24 23:59:59"),
        ("timestamp", "2026-10-25 03:00", "2026-10-25 02:00:00"),
        ("datetime", "2026-10-25T02:00Z", "2026-10-25 03:00:00"),
        ("datetime", "2026-10-24T23:59:59Z", "2026-10-25 01:59:59"),
    ],
)
def test_a_time_in_a_zone(data_type, value, as_the_column):
    assert compared(data_type, value, zone=BERLIN) == as_the_column


@pytest.mark.parametrize(
    ("data_type", "value", "message"),
    [
        ("timestamp", "2026-10-25 02:30", "a time with an offset: a clock change in Europe/Berlin"),
        ("timestamp", "2026-03-29 02:30", "a time with an offset: a clock change in Europe/Berlin"),
        ("datetime", "2026-10-25T00:30Z", "another time: a clock change in Europe/Berlin repeats this one"),
        ("datetime", "2026-10-25T01:30Z", "another time: a clock change in Europe/Berlin repeats this one"),
    ],
)
def test_a_time_that_a_clock_change_makes_unclear_is_refused(data_type, value, message):
    with pytest.raises(UnfitValueError, match=message):
        compared(data_type, value, zone=BERLIN)


@pytest.mark.parametrize(
    "value", ["2026-01-32", "2026-1-31", "yesterday", "2026-01-31 25:00", 20260131, None]
)
def test_what_is_no_time_is_refused(value):
    with pytest.raises(UnfitValueError, match="a date or a time such as"):
        compared("datetime", value)
