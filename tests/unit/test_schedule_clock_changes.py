"""Every clock change of ten years, in every zone of the tz database that has one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest

from iam_watcher.schedule import parse
from iam_watcher.schedule.zone import zone

YEARS = range(2016, 2026)
# Their clocks change by half an hour, or not on the hour: robfig/cron steps over a reading there.
NOT_ON_THE_HOUR = {
    *("Australia/Lord_Howe", "Australia/LHI", "Pacific/Chatham", "NZ-CHAT"),
    *("Asia/Pyongyang", "America/Caracas", "Antarctica/Casey"),
}
A_DAY = timedelta(days=1)


def offset(moment: datetime, info: ZoneInfo) -> timedelta:
    return moment.astimezone(info).utcoffset()


@cache
def changes(name: str) -> list[datetime]:
    """The instants at which the offset changes, to the second, found with zoneinfo alone."""
    info = ZoneInfo(name)
    found = []
    late = datetime(YEARS[0], 1, 1, tzinfo=UTC)
    behind = offset(late, info)
    while late.year <= YEARS[-1]:
        early, late = late, late + 5 * A_DAY
        before, behind = behind, offset(late, info)
        if before == behind:
            continue
        low, high = early, late
        while high - low > timedelta(seconds=1):
            middle = (low + (high - low) / 2).replace(microsecond=0)
            low, high = (low, middle) if offset(middle, info) == behind else (middle, high)
        found.append(high)
    return found


ZONES = sorted(name for name in available_timezones() if name not in {"localtime", "Factory"})
# Of zones with the same history one is enough: {changes and offsets: name}.
HISTORIES = {
    tuple((change, offset(change, ZoneInfo(name))) for change in changes(name)): name for name in ZONES
}
CHANGING = sorted(name for history, name in HISTORIES.items() if history)


def instants(reading: datetime, info: ZoneInfo) -> list[datetime]:
    """The instants at which the clock shows `reading`: none in a gap, two in a repeated hour."""
    both = {reading.replace(tzinfo=info, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(moment for moment in both if moment.astimezone(info).replace(tzinfo=None) == reading)


def ticks(spec: str, name: str, start: datetime, end: datetime, dst: str = "robfig") -> list[datetime]:
    schedule = parse(spec, timezone=name, dst=dst)
    found = []
    while (tick := schedule.next(found[-1] if found else start)) is not None and tick <= end:
        found.append(tick)
    return found


def daily(hour: int, minute: int, name: str, change: datetime) -> list[datetime]:
    """The readings of that time on the days around a change."""
    day = change.astimezone(ZoneInfo(name)).replace(tzinfo=None, hour=hour, minute=minute, second=0)
    return [day + A_DAY * n for n in range(-3, 4)]


def test_the_zones_have_changes():
    assert len(CHANGING) > 60
    assert sum(len(changes(name)) for name in CHANGING) > 800


def test_our_spans_end_where_the_offset_changes():
    for name in CHANGING:
        local = zone(name)
        for change in changes(name):
            at = int(change.timestamp())
            assert local.span(at - 1).end == at
            assert local.span(at).start == at
            assert local.span(at).offset == offset(change, ZoneInfo(name)).total_seconds()


@pytest.mark.parametrize(("hour", "minute"), [(0, 0), (1, 30), (2, 30)])
def test_robfig_runs_at_each_instant_that_shows_the_reading(hour, minute):
    for name in CHANGING:
        if name in NOT_ON_THE_HOUR:
            continue
        info = ZoneInfo(name)
        for change in changes(name):
            start, end = change - 2 * A_DAY, change + 2 * A_DAY
            expected = [
                tick for reading in daily(hour, minute, name, change) for tick in instants(reading, info)
            ]
            found = ticks(f"0 {minute} {hour} * * *", name, start, end)
            assert found == [tick for tick in expected if start < tick <= end], (name, change)


@pytest.mark.parametrize(("hour", "minute"), [(0, 0), (1, 30), (2, 30)])
def test_vixie_runs_once_for_each_reading(hour, minute):
    for name in CHANGING:
        info = ZoneInfo(name)
        for change in changes(name):
            start, end = change - 2 * A_DAY, change + 2 * A_DAY
            expected = {
                (instants(reading, info) or [change])[0] for reading in daily(hour, minute, name, change)
            }
            found = ticks(f"0 {minute} {hour} * * *", name, start, end, "vixie")
            assert found == sorted(tick for tick in expected if start < tick <= end), (name, change)


@pytest.mark.parametrize("dst", ["robfig", "vixie"])
def test_a_schedule_of_every_hour_goes_by_elapsed_time(dst):
    for name in CHANGING:
        for change in changes(name):
            found = ticks("*/20 * * * *", name, change - A_DAY / 12, change + A_DAY / 12, dst)
            gaps = {timedelta(minutes=20)}
            if name in NOT_ON_THE_HOUR:
                gaps |= {timedelta(minutes=10), timedelta(minutes=30)}
            assert len(found) >= 11, (name, change)
            assert {late - early for early, late in pairwise(found)} <= gaps, (name, change)


def test_a_day_that_the_zone_left_out():
    # robfig/cron never comes past it: Samoa had no 30 December 2011.
    before = datetime(2011, 12, 29, 12, tzinfo=UTC)
    tick = parse("0 0 12 * * 6", timezone="Pacific/Apia").next(before)
    assert tick == datetime(2011, 12, 30, 22, tzinfo=UTC)
    assert tick.astimezone(ZoneInfo("Pacific/Apia")).strftime("%a %H:%M") == "Sat 12:00"


def test_always_later_where_robfig_goes_back():
    # 3:45 becomes 2:45: from the second 2:55, robfig/cron answers with that moment again and again.
    schedule = parse("55 3 * * *", timezone="Pacific/Chatham")
    moment = datetime(2018, 3, 31, 13, tzinfo=UTC)
    for _ in range(5):
        tick = schedule.next(moment)
        assert tick > moment
        moment = tick


def test_a_later_hour_of_a_second_pass():
    # 0:01 became 22:01: half an hour after the second 22:30, the clock shows 23:00.
    schedule = parse("0 0 23 * * *", timezone="America/St_Johns")
    assert schedule.next(datetime(1988, 10, 30, 2, tzinfo=UTC)) == datetime(1988, 10, 30, 2, 30, tzinfo=UTC)


def test_a_second_pass_is_left_behind_at_once():
    # vixie: all 3600 readings of the repeated hour have had their turn.
    schedule = parse("* 0-59 1 * * *", timezone="America/New_York", dst="vixie")
    second_pass = datetime(2027, 11, 7, 6, 0, 0, tzinfo=UTC)
    assert schedule.next(second_pass) == datetime(2027, 11, 8, 6, 0, 0, tzinfo=UTC)
    # But not what comes right behind it.
    schedule = parse("0 0,1 1,2 * * *", timezone="America/New_York", dst="vixie")
    assert schedule.next(second_pass) == datetime(2027, 11, 7, 7, 0, 0, tzinfo=UTC)
