"""Cron schedules: their ticks, compared with robfig/cron and with the definition.

The ticks of robfig/cron are a table: hence the length.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pendulum
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam_watcher.schedule import InvalidSpec, parse
from iam_watcher.schedule.fields import KINDS

# Rows [spec, default zone, [[after, [three next ticks]], …]]; null for a refused spec, and for no tick
# within five years. The answers are those of robfig/cron v3.0.1 itself, built with Go 1.19. The last rows
# have month starts that a clock change skips: answers of its search, built with Go 1.27.
ROBFIG_ANSWERS = json.loads(Path(__file__).with_name("robfig_answers.json").read_text())
# What robfig/cron refuses and this grammar takes: rules for days.
DAY_RULES = {"0 0 1W * *", "* * * * 5#3"}
NEW_YORK = "America/New_York"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def ticks(spec: str, after: str, count: int, **arguments: str) -> list[str]:
    schedule = parse(spec, **arguments)
    found = [at(after)]
    for _ in range(count):
        found.append(schedule.next(found[-1]))
    zone = ZoneInfo(arguments.get("timezone", "UTC"))
    return [moment.astimezone(zone).isoformat(sep=" ") for moment in found[1:]]


@pytest.mark.parametrize(("spec", "zone", "answers"), ROBFIG_ANSWERS)
def test_as_robfig(spec, zone, answers):
    if spec in DAY_RULES:
        assert answers is None
        assert parse(spec, timezone=zone).fields.has_rules
        return
    if answers is None:
        with pytest.raises(InvalidSpec):
            parse(spec, timezone=zone)
        return
    schedule = parse(spec, timezone=zone)
    for after, expected in answers:
        found = []
        tick = datetime.fromtimestamp(after, UTC)
        while tick is not None and len(found) < len(expected):
            tick = schedule.next(tick)
            found.append(None if tick is None else int(tick.timestamp()))
        assert found == expected, (spec, zone, after)


@pytest.mark.parametrize(
    ("spec", "first", "second"),
    [
        ("0 30 3 * * *", "2027-01-01 03:30:00+00:00", "2027-01-02 03:30:00+00:00"),
        ("* * * * * *", "2027-01-01 00:00:01+00:00", "2027-01-01 00:00:02+00:00"),
        ("*/10 * * * * *", "2027-01-01 00:00:10+00:00", "2027-01-01 00:00:20+00:00"),
        ("0 0 0 31 * *", "2027-01-31 00:00:00+00:00", "2027-03-31 00:00:00+00:00"),
        ("0 0 0 29 2 *", "2028-02-29 00:00:00+00:00", "2032-02-29 00:00:00+00:00"),
        # A star in one of the two day fields: both must match. None: one is enough.
        ("0 0 0 13 * *", "2027-01-13 00:00:00+00:00", "2027-02-13 00:00:00+00:00"),
        ("0 0 0 * * 5", "2027-01-08 00:00:00+00:00", "2027-01-15 00:00:00+00:00"),
        ("0 0 0 13 * 5", "2027-01-08 00:00:00+00:00", "2027-01-13 00:00:00+00:00"),
        # A step of two or more takes the star away, a step of one doesn't.
        ("0 0 0 */10 * 5", "2027-01-08 00:00:00+00:00", "2027-01-11 00:00:00+00:00"),
        ("0 0 0 */1 * 5", "2027-01-08 00:00:00+00:00", "2027-01-15 00:00:00+00:00"),
        ("0 0 0 1-31 * 5", "2027-01-02 00:00:00+00:00", "2027-01-03 00:00:00+00:00"),
        ("CRON_TZ=Asia/Shanghai 0 0 10 * * *", "2027-01-01 02:00:00+00:00", "2027-01-02 02:00:00+00:00"),
    ],
)
def test_next(spec, first, second):
    assert ticks(spec, "2027-01-01T00:00:00Z", 2) == [first, second]


@pytest.mark.parametrize(
    ("dst", "expected"),
    [
        ("robfig", ["2027-03-13 02:30:00-05:00", "2027-03-15 02:30:00-04:00"]),
        (
            "vixie",
            ["2027-03-13 02:30:00-05:00", "2027-03-14 03:00:00-04:00", "2027-03-15 02:30:00-04:00"],
        ),
    ],
)
def test_a_time_that_the_clock_skips(dst, expected):
    found = ticks("0 30 2 * * *", "2027-03-13T00:00:00-05:00", len(expected), timezone=NEW_YORK, dst=dst)
    assert found == expected


@pytest.mark.parametrize(
    ("dst", "expected"),
    [
        (
            "robfig",
            ["2027-11-07 01:30:00-04:00", "2027-11-07 01:30:00-05:00", "2027-11-08 01:30:00-05:00"],
        ),
        ("vixie", ["2027-11-07 01:30:00-04:00", "2027-11-08 01:30:00-05:00"]),
    ],
)
def test_a_time_that_the_clock_repeats(dst, expected):
    found = ticks("0 30 1 * * *", "2027-11-07T00:00:00-04:00", len(expected), timezone=NEW_YORK, dst=dst)
    assert found == expected


def test_vixie_runs_all_times_of_a_gap_as_one():
    found = ticks("0 0/10 2,3 * * *", "2027-03-14T01:00:00-05:00", 2, timezone=NEW_YORK, dst="vixie")
    assert found == ["2027-03-14 03:00:00-04:00", "2027-03-14 03:10:00-04:00"]


def test_robfig_forgets_a_day_without_midnight():
    # A fault of the original, kept: on the day after a gap at midnight east of Greenwich, a spec that
    # names days doesn't run. 2021-03-26 was such a Friday in Jordan.
    thursday = "2021-03-25T12:00:00+02:00"
    assert ticks("0 0 12 * * 5", thursday, 1, timezone="Asia/Amman") == ["2021-04-02 12:00:00+03:00"]


@pytest.mark.parametrize("spec", ["0 0 0 30 2 *", "0 0 0 31 4,6,9,11 *"])
@pytest.mark.parametrize("dst", ["robfig", "vixie"])
def test_never(spec, dst):
    assert parse(spec, dst=dst, timezone="Europe/Berlin").next(at("2027-01-01T00:00:00Z")) is None


def test_five_years_are_this_one_and_the_five_after_it():
    leap_day = parse("0 0 0 29 2 *")
    assert leap_day.next(at("2096-03-01T00:00:00Z")) is None  # 2100 has no leap day
    assert leap_day.next(at("2098-12-31T00:00:00Z")) is None
    assert leap_day.next(at("2099-01-01T00:00:00Z")) == at("2104-02-29T00:00:00Z")


@pytest.mark.parametrize("spec", ["@yearly", "* * * * * *", "0 0 0 30 2 *"])
@pytest.mark.parametrize(
    "moment",
    ["0001-01-01T00:00:00+00:00", "9997-10-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00"],
)
def test_the_ends_of_the_calendar(spec, moment):
    for zone in ("UTC", NEW_YORK, "Asia/Tokyo"):
        tick = parse(spec, timezone=zone).next(at(moment))
        assert tick is None or tick > at(moment)


def test_aware_in_aware_out():
    schedule = parse("0 30 3 * * *", timezone="Asia/Tokyo")
    for zone in (UTC, ZoneInfo("Asia/Tokyo"), ZoneInfo(NEW_YORK)):
        tick = schedule.next(datetime(2027, 1, 1, tzinfo=zone))
        assert tick.tzinfo is zone
        assert tick.astimezone(ZoneInfo("Asia/Tokyo")).strftime("%H:%M") == "03:30"
    with pytest.raises(ValueError, match="no time zone"):
        schedule.next(datetime(2027, 1, 1))  # noqa: DTZ001  that is the point


def test_pendulum_in():
    # Airflow's datetimes: their arithmetic refuses the standard library's durations.
    moment = pendulum.datetime(2027, 1, 1, 3, 29, 59, 999999)
    assert parse("30 3 * * *").next(moment) == at("2027-01-01T03:30:00Z")
    assert parse("@every 1m").next(moment) == at("2027-01-01T03:30:00Z")
    assert parse("@after 1s").next(moment) == at("2027-01-01T03:30:00.999999Z")
    assert parse("@every 1m").latest(after=moment.subtract(years=1), until=moment) == at(
        "2027-01-01T03:29:00Z"
    )


def test_fractions_of_a_second_are_rounded_up_to_the_next_tick():
    schedule = parse("*/10 * * * * *")
    assert schedule.next(at("2027-01-01T00:00:09.999999Z")) == at("2027-01-01T00:00:10Z")
    assert schedule.next(at("2027-01-01T00:00:10Z")) == at("2027-01-01T00:00:20Z")
    assert schedule.next(at("2027-01-01T00:00:10.000001Z")) == at("2027-01-01T00:00:20Z")


def matches(schedule, wall: datetime) -> bool:
    """The definition, without any search."""
    weekday = wall.isoweekday() % 7
    named = dict(zip(KINDS, schedule.fields.in_order(), strict=True))
    *rest, day, month, week = named.values()
    clock = (wall.second, wall.minute, wall.hour)
    if not all(field.mask >> number & 1 for field, number in zip(rest, clock, strict=True)):
        return False
    in_month, in_week = bool(day.mask >> wall.day & 1), bool(week.mask >> weekday & 1)
    either = in_month and in_week if day.star or week.star else in_month or in_week
    return bool(month.mask >> wall.month & 1) and either


numbers = {kind.name: st.integers(kind.low, kind.high) for kind in KINDS}


def some(kind):
    number = numbers[kind.name]
    steps = st.tuples(number, st.integers(1, 20)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    lists = st.lists(number, min_size=1, max_size=3).map(lambda found: ",".join(map(str, found)))
    return st.one_of(st.just("*"), st.just("*"), lists, steps, st.integers(2, 20).map("*/{}".format))


# The second stands still, so that the definition can be tried minute by minute.
specs = st.tuples(numbers["second"].map(str), *(some(kind) for kind in KINDS[1:])).map(" ".join)
# No clock of these changes at midnight, or by other than a whole hour.
zones = st.sampled_from(["UTC", "Asia/Kathmandu", NEW_YORK, "Europe/Berlin", "Australia/Sydney"])
moments = st.datetimes(datetime(2020, 1, 1), datetime(2032, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  naive by contract
changes = st.sampled_from(
    ["2027-03-14T07:00Z", "2027-11-07T06:00Z", "2027-03-28T01:00Z", "2027-10-31T01:00Z", "2027-10-02T16:00Z"]
)
near_changes = st.tuples(changes.map(at), st.integers(-200_000, 100_000)).map(
    lambda pair: pair[0] + timedelta(seconds=pair[1])
)


@settings(deadline=None)
@given(specs, zones, st.one_of(moments, near_changes))
def test_next_is_the_first_match(spec, zone, moment):
    schedule = parse(spec, timezone=zone)
    info = ZoneInfo(zone)
    tick = schedule.next(moment)
    assert tick is None or tick > moment
    assert tick is None or matches(schedule, tick.astimezone(info))
    second = int(spec.split()[0])
    candidate = moment.replace(second=second, microsecond=0)
    while candidate <= moment:
        candidate += timedelta(minutes=1)
    end = min(tick, moment + timedelta(hours=12)) if tick else moment + timedelta(hours=12)
    while candidate < end:
        assert not matches(schedule, candidate.astimezone(info)), candidate
        candidate += timedelta(minutes=1)


@settings(deadline=None)
@given(specs, zones, moments, st.sampled_from(["robfig", "vixie"]))
def test_ticks_only_grow(spec, zone, moment, dst):
    schedule = parse(spec, timezone=zone, dst=dst)
    found = [moment]
    while len(found) < 6 and (tick := schedule.next(found[-1])) is not None:
        found.append(tick)
    assert all(early < late for early, late in pairwise(found))
    # Starting anywhere between two ticks leads to the later one.
    for early, late in pairwise(found):
        assert schedule.next(early + (late - early) / 2) == late


@settings(deadline=None)
@given(specs, zones, near_changes, st.integers(0, 3 * 86_400))
def test_latest_is_the_last_of_the_ticks(spec, zone, moment, seconds):
    schedule = parse(spec, timezone=zone)
    until = moment + timedelta(seconds=seconds)
    last, tick = None, schedule.next(moment)
    while tick is not None and tick <= until:
        last, tick = tick, schedule.next(tick)
    assert schedule.latest(after=moment, until=until) == last


def test_latest_looks_over_years_of_seconds():
    schedule = parse("* * * * * *")
    until = at("2027-01-01T00:00:00.5Z")
    assert schedule.latest(after=at("2000-01-01T00:00:00Z"), until=until) == at("2027-01-01T00:00:00Z")
    assert schedule.latest(after=until, until=until) is None
