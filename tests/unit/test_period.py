"""Periods: months by the calendar, everything else by elapsed time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pendulum
import pytest

from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.table_job.period import period

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("value", "now", "then"),
    [
        ("36h", "2026-03-30T12:00+02:00", "2026-03-28T23:00+01:00"),
        ("90d", "2026-11-27T00:00+00:00", "2026-08-29T00:00+00:00"),
        ("2w", "2026-11-27T00:00+00:00", "2026-11-13T00:00+00:00"),
        (timedelta(minutes=5), "2026-11-27T00:00+00:00", "2026-11-26T23:55+00:00"),
        # The same time of day, though the clock was changed between the two.
        ("1mo", "2026-04-15T12:00+02:00", "2026-03-15T12:00+01:00"),
        ("6mo", "2026-01-31T12:00+01:00", "2025-07-31T12:00+02:00"),
        # The last day of a month that is too short.
        ("1mo", "2026-03-31T12:00+02:00", "2026-02-28T12:00+01:00"),
        ("1y", "2024-02-29T12:00+01:00", "2023-02-28T12:00+01:00"),
        ("14mo", "2026-01-15T12:00+01:00", "2024-11-15T12:00+01:00"),
        # A day in Berlin that is still the day before in UTC.
        ("1mo", "2026-05-30T23:30+00:00", "2026-04-29T23:30+00:00"),
        # 02:30 exists twice on 25 October, and never on 29 March: the earlier moment counts.
        ("1mo", "2026-11-25T02:30+01:00", "2026-10-25T02:30+02:00"),
        ("1mo", "2026-04-29T02:30+02:00", "2026-03-29T01:30+01:00"),
    ],
)
def test_the_moment_before_a_period(value, now, then):
    found = period("older_than", value).before(datetime.fromisoformat(now).astimezone(UTC), BERLIN)
    assert found == datetime.fromisoformat(then)
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize("unit", ["months", "years"])
def test_a_duration_whose_months_have_30_days_is_refused(unit):
    with pytest.raises(JobArgumentError, match=r"older_than is Duration\(.*; expected a text such as '6mo'"):
        period("older_than", pendulum.duration(**{unit: 1}))
    assert period("older_than", pendulum.duration(days=30)) == period("older_than", "30d")


def test_nothing_is_no_period():
    none, some = ("0", "0d", "0mo", timedelta(0)), ("1s", "0.5d")
    assert [bool(period("older_than", value)) for value in (*none, *some)] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("value", ["1h30m", "1d12h30m", "7d1h30m", "1d2h3m4s", "3m4s"])
def test_minutes_behind_hours_are_no_months(value):
    assert period("older_than", value)


@pytest.mark.parametrize(
    ("value", "months", "minutes"),
    [
        ("6m", "6mo", "0h6m"),
        ("90m", "90mo", "1h30m"),
        ("1.5m", "45d", "0h1m30s"),
        ("6m15d", "195d", "360h6m"),
        ("1m15d", "45d", "360h1m"),
        ("6m1w", "187d", "168h6m"),
        ("1d6m", "181d", "24h6m"),
        ("6m12h", "181d", "12h6m"),
        ("+6m15d", "195d", "360h6m"),
        ("+6m", "6mo", "0h6m"),
        (" 6m15d ", "195d", "360h6m"),
    ],
)
def test_minutes_are_not_taken_for_months(value, months, minutes):
    """The error has a spelling for each meaning, and the job takes both."""
    with pytest.raises(JobArgumentError) as refused:
        period("older_than", value)
    assert f"is {value.strip()!r}, which could mean minutes or months; write {months!r}" in str(refused.value)
    assert f"or {minutes!r} if it means minutes" in str(refused.value)
    assert period("older_than", months)
    assert period("older_than", minutes)


@pytest.mark.parametrize(
    ("value", "elapsed"),
    [
        ("1h30m", timedelta(minutes=90)),
        ("36h30m10s", timedelta(hours=36, minutes=30, seconds=10)),
        ("6m30s", timedelta(minutes=6, seconds=30)),
        ("1d6h", timedelta(hours=30)),
        ("1d1000ms", timedelta(days=1, seconds=1)),
    ],
)
def test_minutes_that_can_only_be_minutes(value, elapsed):
    assert period("older_than", value).elapsed == elapsed


@pytest.mark.parametrize(
    "value",
    [
        *["0days", "0x", "", "90", "-1d", "1.5mo", "mo", "6 mo", "6MO", "1d6mo", "101y", "1201mo", "36501d"],
        *[90, None, True, 1.5, timedelta(days=-1), timedelta(days=36_501)],
    ],
)
def test_anything_else_is_refused(value):
    with pytest.raises(JobArgumentError, match=r'older_than is .*expected a text such as "90d"'):
        period("older_than", value)
