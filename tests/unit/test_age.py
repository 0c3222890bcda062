"""The cut-off as an age column has it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from iam_watcher.database.column import Column
from iam_watcher.jobs.table_job.age_column import DateColumn

BERLIN = ZoneInfo("Europe/Berlin")


def column(data_type: str, zone: ZoneInfo = BERLIN) -> DateColumn:
    return DateColumn(Column("age", data_type, nullable=True), zone)


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
)
def test_no_row_is_old_before_its_time_is_whatever_a_clock_change_makes_of_it(zone: str) -> None:
    """Each value is the latest moment that it can mean."""
    age = column("datetime", ZoneInfo(zone))
    first = datetime(2026, 1, 1, tzinfo=UTC)
    for minutes in range(0, 366 * 24 * 60, 10):
        moment = first + timedelta(minutes=minutes)
        cut_off = age.cut_off(moment)
        assert isinstance(cut_off, datetime)
        last_old = (cut_off - timedelta(microseconds=1)).replace(tzinfo=ZoneInfo(zone), fold=1)
        assert last_old.astimezone(UTC) < moment


def test_a_cut_off_is_its_local_time_unless_the_clock_is_set_back_soon() -> None:
    age = column("datetime")
    for utc, local in (
        ("2026-07-01 12:00", "2026-07-01 14:00"),
        ("2026-03-29 01:00", "2026-03-29 03:00"),
        ("2026-10-24 23:59", "2026-10-25 01:59"),
        ("2026-10-25 00:30", "2026-10-25 01:30"),  # 02:30, which comes again an hour later
        ("2026-10-25 01:30", "2026-10-25 02:30"),
        ("2026-10-25 02:00", "2026-10-25 03:00"),
    ):
        found = age.cut_off(datetime.fromisoformat(utc).replace(tzinfo=UTC))
        assert found == datetime.fromisoformat(local)


def test_a_day_is_over_only_on_a_later_one() -> None:
    moment = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert column("date").cut_off(moment) == date(2026, 10, 25)
    assert column("timestamp").cut_off(moment) == moment.replace(tzinfo=None)
