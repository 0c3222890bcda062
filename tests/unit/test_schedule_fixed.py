from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam_watcher.schedule import Every, InvalidSpec, parse

moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  naive by contract


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@settings(deadline=None)
@given(moments, st.integers(1, 10**9))
def test_every_ticks_at_multiples_since_the_epoch(moment, seconds):
    schedule = Every(timedelta(seconds=seconds))
    tick = schedule.next(moment)
    assert moment < tick <= moment + timedelta(seconds=seconds)
    assert tick.timestamp() % seconds == 0
    assert schedule.next(tick) == tick + timedelta(seconds=seconds)


def test_every_day_ticks_at_midnight_utc_in_any_zone():
    schedule = parse("@every 1d", timezone="Asia/Tokyo")
    assert schedule.next(at("2027-01-01T05:00:00+09:00")) == at("2027-01-01T00:00:00Z")
    assert schedule == parse("@every 24h")


def test_after_counts_from_what_it_is_given():
    end = at("2027-01-01T00:00:00.123456+01:00")
    tick = parse("@after 90s").next(end)
    assert tick == end + timedelta(seconds=90)
    assert tick.utcoffset() == timedelta(hours=1)


def test_at_comes_once():
    schedule = parse("@at 2027-01-31T08:00:00+01:00")
    moment = at("2027-01-31T07:00:00Z")
    assert schedule.next(at("2020-01-01T00:00:00Z")) == moment
    assert schedule.next(moment - timedelta(microseconds=1)) == moment
    assert schedule.next(moment) is None
    assert schedule.latest(after=at("2020-01-01T00:00:00Z"), until=moment) == moment
    assert schedule.latest(after=moment, until=at("2030-01-01T00:00:00Z")) is None


@pytest.mark.parametrize("spec", ["@every 5m", "@after 5m", "@at 2027-01-31T08:00:00Z"])
def test_a_time_without_a_zone_is_refused(spec):
    with pytest.raises(ValueError, match="no time zone"):
        parse(spec).next(datetime(2027, 1, 1))  # noqa: DTZ001  that is the point


@pytest.mark.parametrize(
    "moment",
    [
        "9999-12-31T23:59:59-01:00",
        "9999-12-31T00:00:00Z",
        "0001-01-01T00:30:00+01:00",
        "0001-01-02T00:00:00Z",
    ],
)
def test_a_time_that_some_zone_cannot_show_is_refused(moment):
    with pytest.raises(InvalidSpec, match="between the years 1 and 9999 in every time zone") as caught:
        parse(f"@at {moment}")
    assert (caught.value.field, caught.value.part) == ("@at time", moment)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize("moment", ["9999-12-28T23:59:59Z", "0001-01-04T00:00:00Z"])
def test_a_time_that_is_taken_can_be_shown_everywhere(moment, zone):
    schedule = parse(f"@at {moment}")
    before = schedule.moment - timedelta(hours=1)
    assert schedule.next(before.astimezone(ZoneInfo(zone))) == schedule.moment


@pytest.mark.parametrize("spec", ["@every 1d", "@after 1d", "@every 200w", "@daily"])
def test_no_tick_comes_behind_the_calendar(spec):
    assert parse(spec).next(at("9999-12-30T23:00:00Z")) is None


@pytest.mark.parametrize(
    ("spec", "instead"), [("@once", "@at <RFC 3339 time>"), ("@continuous", "@after <duration>")]
)
def test_airflows_own_names_are_refused_with_ours(spec, instead):
    with pytest.raises(InvalidSpec, match=f"descriptor: '{spec}'; expected {instead}"):
        parse(spec)


@pytest.mark.parametrize("name", ["localtime", "posixrules", "posix/Europe/Berlin", "right/UTC"])
@pytest.mark.parametrize("spec", ["TZ={} @daily", "@daily"])
def test_a_zone_that_differs_between_machines_is_refused(name, spec):
    with pytest.raises(InvalidSpec, match=f"time zone: '{name}'"):
        parse(spec.format(name), timezone=name)
