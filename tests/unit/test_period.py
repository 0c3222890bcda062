"""Periods: months by the calendar, everything else by elapsed time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

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


def test_nothing_is_no_period():
    assert [bool(period("older_than", value)) for value in ("0", "0d", "0mo", timedelta(0), "1s")] == [
        *[False] * 4,
        True,
    ]


@pytest.mark.parametrize("value", ["6m", "1.5m"])
def test_minutes_are_not_taken_for_months(value):
    with pytest.raises(JobArgumentError, match=f"is '{value}', which could mean minutes or months"):
        period("older_than", value)


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
