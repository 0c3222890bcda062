from __future__ import annotations

import pytest

from iam_watcher.schedule import describe, parse


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("CRON_TZ=Asia/Shanghai 0 30 3 * * *", "every day at 03:30:00 Asia/Shanghai"),
        ("CRON_TZ=Asia/Shanghai 0 5 * * * *", "at minute 5 of every hour"),
        ("CRON_TZ=Asia/Kolkata 0 5 * * * *", "at minute 5 of every hour Asia/Kolkata"),
        ("CRON_TZ=Australia/Lord_Howe 0 5 * * * *", "at minute 5 of every hour Australia/Lord_Howe"),
        ("@daily", "every day at 00:00:00 UTC"),
        ("@weekly", "on Sunday at 00:00:00 UTC"),
        ("@monthly", "on day 1 of the month at 00:00:00 UTC"),
        ("@yearly", "on day 1 of the month in January at 00:00:00 UTC"),
        ("@hourly", "every hour"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("* * * * *", "every minute"),
        ("* * * * * *", "every second"),
        ("* 3 * * *", "every minute from 03:00 to 03:59 UTC"),
        ("*/15 9-17 * * MON-FRI", "every 15 minutes from 09:00 to 17:59 on Monday to Friday UTC"),
        ("*/15 9-11,14 * * *", "every 15 minutes in hours 9-11 and 14 UTC"),
        ("30 9-17 * * *", "every hour from 09:30:00 to 17:30:00 UTC"),
        ("0 22-23,0-5 * * *", "at minute 0 of hours 0-5 and 22-23 UTC"),
        ("0 9,12,18 * * *", "every day at 09:00:00, 12:00:00 and 18:00:00 UTC"),
        ("0 22 * * 1,3,5", "on Monday, Wednesday and Friday at 22:00:00 UTC"),
        ("0 0 1 jan,jul *", "on day 1 of the month in January and July at 00:00:00 UTC"),
        ("0 0 13 * 5", "on day 13 of the month or on Friday at 00:00:00 UTC"),
        ("0 0 1-31 * 5", "every day at 00:00:00 UTC"),
        ("0 */2 * * *", "every 2 hours UTC"),
        ("15 * * * *", "at minute 15 of every hour"),
        ("30 5,25 * * * *", "at second 30 of minutes 5 and 25 of every hour"),
        ("20-40 2 * * *", "at minutes 20-40 of hour 2 UTC"),
        ("@every 1d", "every day"),
        ("@every 2h", "every 2 hours"),
        ("@every 90m", "every 1 hour 30 minutes"),
        ("@after 5m", "5 minutes after the last run ended"),
        ("@at 2027-01-31T08:00:00+01:00", "once, at 2027-01-31 08:00:00+01:00"),
    ],
)
def test_describe(spec, words):
    assert describe(parse(spec)) == words


def test_describe_keeps_the_offset_of_equal_moments():
    first, second = parse("@at 2027-01-31T08:00:00+01:00"), parse("@at 2027-01-31T07:00:00Z")
    assert first == second
    assert [describe(one) for one in (first, second)] == [
        "once, at 2027-01-31 08:00:00+01:00",
        "once, at 2027-01-31 07:00:00+00:00",
    ]
