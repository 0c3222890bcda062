"""`L`, `L-3`, `15W`, `LW`, `5#2` and `5L`: by their definition over decades, and against other libraries."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from iam_watcher.schedule import InvalidSpec, describe, parse
from iam_watcher.schedule.__main__ import main

SATURDAY = 5  # as `date.weekday` has it


def days_of(year: int, month: int) -> list[date]:
    return [date(year, month, day) for day in range(1, calendar.monthrange(year, month)[1] + 1)]


def of_month(item: str, year: int, month: int) -> list[date]:
    """Return the days that an item of the field day of month means, by looking at all days of the month."""
    days = days_of(year, month)
    item, near = item.removesuffix("W"), item.endswith("W")
    if item.startswith("L"):
        place = -1 - int(item[2:] or 0)
        found = days[place:][:1] if -place <= len(days) else []
    else:
        found = [day for day in days if day.day == int(item)]
    if near and found:
        working = [day for day in days if day.weekday() < SATURDAY]
        return [min(working, key=lambda day: abs(day - found[0]))]
    return found


def of_week(item: str, year: int, month: int) -> list[date]:
    """Return the days that an item of the field day of week means; Sunday is 0."""
    same = [day for day in days_of(year, month) if day.isoweekday() % 7 == int(item[0])]
    if item.endswith("L"):
        return same[-1:]
    if "#" in item:
        return same[int(item[2:]) - 1 : int(item[2:])]
    return same


def days(in_month: str, in_week: str, year: int, month: int) -> set[date]:
    """Return the days that both fields mean: each of them if one is a star, else either of them."""
    everything = set(days_of(year, month))
    first, second = (
        everything if field == "*" else {day for item in field.split(",") for day in find(item, year, month)}
        for field, find in ((in_month, of_month), (in_week, of_week))
    )
    return first & second if "*" in {in_month, in_week} else first | second


MONTH_ITEMS = ["L", "LW", *(f"L-{n}" for n in range(1, 31)), *(f"{n}W" for n in range(1, 32))]
MONTH_ITEMS += [f"L-{n}W" for n in (1, 2, 27, 28, 30)]
WEEK_ITEMS = [f"{day}{rule}" for day in range(7) for rule in ("L", "#1", "#2", "#3", "#4", "#5")]


@pytest.mark.parametrize(
    ("in_month", "in_week"),
    [*((item, "*") for item in MONTH_ITEMS), *(("*", item) for item in WEEK_ITEMS)],
    ids=lambda item: item.replace("*", "any"),
)
def test_every_rule_means_its_days_in_months_of_every_shape(in_month, in_week):
    """Each length of a month, begun on each day of the week: 28 shapes, in the years 2001 to 2028."""
    schedule = parse(f"0 0 {in_month} * {in_week}")
    shapes = {calendar.monthrange(y, m): (y, m) for y, m in product(range(2001, 2029), range(1, 13))}
    assert len(shapes) == 28
    for year, month in shapes.values():
        found = set()
        tick = schedule.next(datetime(year, month, 1, tzinfo=UTC) - timedelta(seconds=1))
        while tick is not None and (tick.year, tick.month) == (year, month):
            found.add(tick.date())
            tick = schedule.next(tick)
        assert found == days(in_month, in_week, year, month), (year, month)


FIELD = {
    "month": st.one_of(st.sampled_from(MONTH_ITEMS), st.integers(1, 31).map(str)),
    "week": st.one_of(st.sampled_from(WEEK_ITEMS), st.integers(0, 6).map(str)),
}


def listed(name: str) -> st.SearchStrategy[str]:
    return st.one_of(st.just("*"), st.lists(FIELD[name], min_size=1, max_size=3).map(",".join))


@settings(deadline=None, max_examples=60)
@given(listed("month"), listed("week"), st.dates(date(1975, 1, 1), date(2090, 1, 1)))
def test_lists_and_both_fields_over_years(in_month, in_week, start):
    schedule = parse(f"30 6 {in_month} * {in_week}")
    months = [(start.year + (start.month - 1 + n) // 12, (start.month - 1 + n) % 12 + 1) for n in range(30)]
    expected = sorted({day for year, month in months for day in days(in_month, in_week, year, month)})
    found, tick = [], datetime(start.year, start.month, 1, tzinfo=UTC)
    while len(found) < len(expected):
        tick = schedule.next(tick)
        found.append(tick)
    assert found == [datetime(day.year, day.month, day.day, 6, 30, tzinfo=UTC) for day in expected]


@pytest.mark.parametrize("item", ["L", "15W", "1W", "28W", "LW"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Europe/Berlin"])
def test_the_days_of_the_month_are_those_of_other_libraries(item, zone):
    """croniter has `L` and `15W`, cronsim has `L` and `LW`."""
    spec = f"30 5 {item} * *"
    start = datetime(1999, 12, 31, 23, 59, tzinfo=ZoneInfo(zone))
    schedule = parse(spec, timezone=zone)
    others = [] if item == "LW" else [iter(croniter(spec, start, ret_type=datetime))]
    others += [] if item.endswith("W") and item != "LW" else [CronSim(spec, start)]
    ticks = [schedule.next(start.astimezone(UTC))]
    while len(ticks) < 12 * 30:
        ticks.append(schedule.next(ticks[-1]))
    assert others
    for other in others:
        assert [next(other).astimezone(UTC) for _ in ticks] == ticks


@pytest.mark.parametrize("item", WEEK_ITEMS)
def test_the_days_of_the_week_are_those_of_other_libraries(item):
    start = datetime(2000, 1, 1, tzinfo=UTC)
    schedule = parse(f"0 0 * * {item}")
    # croniter writes L5 for 5L.
    others = [
        croniter(f"0 0 * * {f'L{item[0]}' if item.endswith('L') else item}", start, ret_type=datetime),
        CronSim(f"0 0 * * {item}", start),
    ]
    ticks = [schedule.next(start)]
    while len(ticks) < 12 * 10:
        ticks.append(schedule.next(ticks[-1]))
    for other in others:
        assert [next(other) for _ in ticks] == ticks


@pytest.mark.parametrize("dst", ["robfig", "vixie"])
@pytest.mark.parametrize(
    ("spec", "canonical", "words"),
    [
        ("0 9 l * ?", "0 0 9 L * *", "on the last day of the month"),
        ("0 9 L-1 * *", "0 0 9 L-1 * *", "on the day 1 day before the last day of the month"),
        ("0 9 l-03 * *", "0 0 9 L-3 * *", "on the day 3 days before the last day of the month"),
        ("0 9 lw * *", "0 0 9 LW * *", "on the last weekday (Monday to Friday) of the month"),
        (
            "0 9 15w * *",
            "0 0 9 15W * *",
            "on the weekday (Monday to Friday) nearest to day 15 of the month",
        ),
        (
            "0 9 L-2W * *",
            "0 0 9 L-2W * *",
            "on the weekday (Monday to Friday) nearest to the day 2 days before the last day of the month",
        ),
        ("0 9 L,1,15,L * *", "0 0 9 1,15,L * *", "on days 1 and 15 and the last day of the month"),
        ("0 9 * * FRI#2", "0 0 9 * * 5#2", "on the second Friday of the month"),
        ("0 9 * * Sunl", "0 0 9 * * 0L", "on the last Sunday of the month"),
        ("0 9 * 2 5#5", "0 0 9 * 2 5#5", "on the fifth Friday of the month in February"),
        (
            "0 9 * * 1,5#1,5#3",
            "0 0 9 * * 1,5#1,5#3",
            "on Monday, the first Friday and the third Friday of the month",
        ),
        ("0 9 L * 1", "0 0 9 L * 1", "on the last day of the month or on Monday"),
        # A field that names every day needs no rule.
        ("0 9 L,* * *", "0 0 9 * * *", "every day"),
    ],
)
def test_canonical_specs_and_words(spec, canonical, words, dst):
    schedule = parse(spec, dst=dst)
    assert str(schedule) == canonical
    assert parse(canonical, dst=dst) == schedule
    assert describe(schedule) == f"{words} at 09:00:00 UTC"


@pytest.mark.parametrize(
    ("spec", "part", "expected"),
    [
        ("0 0 L-0 * *", "L-0", "L, or L-1 to L-30"),
        ("0 0 L-31 * *", "L-31", "L, or L-1 to L-30"),
        ("0 0 1,32W * *", "32W", "1-31, or one of L, L-3, LW, 15W"),
        ("0 0 0W * *", "0W", "1-31"),
        ("0 0 1-5W * *", "1-5W", "1-31"),
        ("0 0 W * *", "W", "1-31"),
        ("0 0 L/2 * *", "L/2", "1-31"),
        ("0 0 L+3 * *", "L+3", "1-31"),
        ("0 0 L- * *", "L-", "1-31"),
        ("0 0 5#2 * *", "5#2", "1-31"),
        # In Quartz this is Saturday, which no one would guess.
        ("0 0 * * L", "L", "0-6 or sun-sat, or one of 5#2, fri#2, 5L, friL"),
        ("0 0 * * 5#0", "5#0", "a number from 1 to 5 after #"),
        ("0 0 * * 5#6", "5#6", "a number from 1 to 5 after #"),
        ("0 0 * * 7#1", "7#1", "0-6"),
        ("0 0 * * 7L", "7L", "0-6"),
        ("0 0 * * #2", "#2", "0-6"),
        ("0 0 * * 5#", "5#", "0-6"),
        ("0 0 * * 1-5#2", "1-5#2", "0-6"),
        ("0 0 * * 5#2/2", "5#2/2", "0-6"),
        ("0 0 * * L-3", "L-3", "0-6"),
        ("0 0 * * 15W", "15W", "0-6"),
        ("0 0 * L *", "L", "1-12"),
        ("0 L * * *", "L", "0-23"),
    ],
)
def test_what_is_no_rule_is_an_error(spec, part, expected):
    with pytest.raises(InvalidSpec) as refused:
        parse(spec)
    assert refused.value.part == part
    assert expected in str(refused.value)


def test_a_day_that_comes_each_28_years_is_found():
    schedule = parse("0 0 * 2 fri#5")
    first = schedule.next(datetime(2026, 1, 1, tzinfo=UTC))
    assert first == datetime(2036, 2, 29, tzinfo=UTC)
    # 2100 is no leap year.
    assert schedule.next(datetime(2092, 3, 1, tzinfo=UTC)) == datetime(2104, 2, 29, tzinfo=UTC)
    assert parse("0 0 31W 4 *").next(datetime(2026, 1, 1, tzinfo=UTC)) is None


def test_the_preview_prints_the_days(capsys):
    main(["0 30 3 LW * *", "--timezone", "Asia/Shanghai", "--count", "3", "--after", "2027-01-01"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("on the last weekday (Monday to Friday) of the month at 03:30:00 Asia/Shanghai")
    days_shown = [line[:14] for line in lines[1:]]
    assert days_shown == ["Fri 2027-01-29", "Fri 2027-02-26", "Wed 2027-03-31"]
