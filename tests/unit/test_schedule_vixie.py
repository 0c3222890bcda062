"""`dst="vixie"` against cronsim, which was written to tick as Debian's cron does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from iam_watcher.schedule import describe, parse

CHANGES = ["2027-03-14T07:00Z", "2027-11-07T06:00Z", "2027-03-28T01:00Z", "2027-10-31T01:00Z"]


def cronsims(spec: str, zone: str, after: datetime, count: int) -> list[datetime]:
    found = CronSim(spec, after.astimezone(ZoneInfo(zone)))
    return [next(found).astimezone(UTC) for _ in range(count)]


def ours(spec: str, zone: str, after: datetime, count: int) -> list[datetime]:
    schedule = parse(spec, timezone=zone, dst="vixie")
    ticks = [after]
    while len(ticks) <= count and (tick := schedule.next(ticks[-1])) is not None:
        ticks.append(tick)
    return ticks[1:]


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    # Of two numbers at least: cronsim takes 0-0/2 for 0/2.
    pairs = st.lists(number, min_size=2, max_size=2, unique=True).map(sorted)
    span = pairs.map(lambda pair: f"{pair[0]}-{pair[1]}")
    step = st.integers(2, 9).map(str)
    return st.one_of(
        st.just("*"),
        st.lists(st.one_of(number.map(str), span), min_size=1, max_size=3).map(",".join),
        step.map("*/{}".format),
        st.tuples(span, step).map("/".join),
        st.tuples(step, number).map(lambda pair: f"*/{pair[0]},{pair[1]}"),
    )


# Of the days, those that every month has.
SPECS = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)).map(" ".join)


@settings(deadline=None)
@given(
    SPECS,
    st.sampled_from(["America/New_York", "Europe/Berlin", "UTC"]),
    st.sampled_from(CHANGES),
    st.integers(-200_000, 100_000),
)
def test_the_next_ticks_are_those_of_debians_cron(spec: str, zone: str, change: str, seconds: int) -> None:
    after = datetime.fromisoformat(change) + timedelta(seconds=seconds)
    expected = cronsims(spec, zone, after, 4)
    # cronsim goes by the wall clock alone: begun in the second pass of an hour, it finds the first again.
    if all(tick > after for tick in expected):
        found = ours(spec, zone, after, 4)
        assert found == expected[: len(found)]
        # A schedule looks five years ahead.
        if len(found) < len(expected):
            assert expected[len(found)].year > after.year + 5


@pytest.mark.parametrize(
    "spec",
    [
        "0 0 */2 * 1",  # Mondays that are odd days
        "0 3 */100,1-7 * MON",  # the first Monday of a month
        "0 0 1,15 * */2",
        "*/10 2 * * *",  # a star in the minute: by elapsed time
        "0/10 2 * * *",
        "30 0-23 * * *",  # no star: not by elapsed time
        "0 */2 * * *",
    ],
)
@pytest.mark.parametrize("change", CHANGES[:2])
def test_where_vixie_cron_and_robfig_differ(spec: str, change: str) -> None:
    after = datetime.fromisoformat(change) - timedelta(hours=3)
    zone = "America/New_York"
    assert ours(spec, zone, after, 12) == cronsims(spec, zone, after, 12)


def test_the_words_say_which_days() -> None:
    text = "CRON_TZ=UTC 0 3 */100,1-7 * MON"
    assert describe(parse(text, dst="vixie")).startswith("on days 1-7 of the month and on Monday at 03:00")
    assert describe(parse(text)).startswith("on days 1-7 of the month or on Monday at 03:00")
