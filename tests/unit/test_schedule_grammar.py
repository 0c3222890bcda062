"""The grammar of schedules: which specs are valid, and what the errors of the others say.

The tables have a line for each spec: hence the length.
"""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam_watcher.schedule import Cron, Every, InvalidSpec, parse
from iam_watcher.schedule.fields import KINDS


def field(spec: str, name: str) -> set[int]:
    schedule = parse(spec)
    mask = getattr(schedule.fields, name).mask
    return {number for number in range(64) if mask >> number & 1}


# spec, the field it is about, the numbers it matches
ACCEPTED = [
    ("5 * * * * *", "second", {5}),
    ("5 * * * *", "minute", {5}),
    ("5 * * * *", "second", {0}),
    ("0 5,10,15 * * *", "hour", {5, 10, 15}),
    ("0 9-12 * * *", "hour", {9, 10, 11, 12}),
    ("0 9-9 * * *", "hour", {9}),
    ("0 0 * * MON-fri", "day_of_week", {1, 2, 3, 4, 5}),
    ("0 0 * Jan,JUL,dec *", "month", {1, 7, 12}),
    ("0 0 * jan-3 *", "month", {1, 2, 3}),
    ("*/15 * * * *", "minute", {0, 15, 30, 45}),
    ("?/15 * * * *", "minute", {0, 15, 30, 45}),
    ("7/20 * * * *", "minute", {7, 27, 47}),
    ("7-40/20 * * * *", "minute", {7, 27}),
    ("59/1 * * * *", "minute", {59}),
    ("0 0 */2 * *", "day_of_month", set(range(1, 32, 2))),
    ("0 0 1,10-20/5,31 * *", "day_of_month", {1, 10, 15, 20, 31}),
    ("*/99 * * * *", "minute", {0}),
    # What robfig/cron takes although one may not expect it.
    ("*-5 * * * *", "minute", set(range(60))),
    ("*-5-x/30 * * * *", "minute", {0, 30}),
    ("1,,2, * * * *", "minute", {1, 2}),
    ("+5 * * * *", "minute", {5}),
    ("005 * * * *", "minute", {5}),
    ("0/+5 * * * *", "minute", set(range(0, 60, 5))),
    ("  0\t0  1 * *\n", "day_of_month", {1}),
]


@pytest.mark.parametrize(("spec", "name", "numbers"), ACCEPTED)
def test_field(spec, name, numbers):
    assert field(spec, name) == numbers


# spec, the field that the error names, the part that it quotes, a piece of what was expected
REFUSED = [
    ("", "number of fields", "0", "5 fields"),
    ("* * * *", "number of fields", "4", "6 with seconds first"),
    ("* * * * * * *", "number of fields", "7", "5 fields"),
    ("60 * * * *", "minute", "60", "0-59"),
    ("60 * * * * *", "second", "60", "0-59"),
    ("* 24 * * *", "hour", "24", "0-23"),
    ("* * 0 * *", "day of month", "0", "1-31"),
    ("* * 32 * *", "day of month", "32", "1-31"),
    ("* * * 0 *", "month", "0", "1-12"),
    ("* * * 13 *", "month", "13", "jan-dec"),
    ("* * * * 7", "day of week", "7", "0-6 or sun-sat"),
    ("* * * * sat-sun", "day of week", "sat-sun", "from the lower to the higher"),
    ("-5 * * * *", "minute", "-5", "0-59"),
    ("5- * * * *", "minute", "5-", "0-59"),
    ("5--7 * * * *", "minute", "5--7", "at most one hyphen"),
    ("1-2-3 * * * *", "minute", "1-2-3", "at most one hyphen"),
    ("5-2 * * * *", "minute", "5-2", "from the lower to the higher"),
    ("*/0 * * * *", "minute", "*/0", "a step of 1 or more"),
    ("*/-1 * * * *", "minute", "*/-1", "a step of 1 or more"),
    ("*/ * * * *", "minute", "*/", "a step of 1 or more"),
    ("*/99999999999999999999 * * * *", "minute", "*/99999999999999999999", "a step"),
    ("1/2/3 * * * *", "minute", "1/2/3", "at most one slash"),
    ("*5 * * * *", "minute", "*5", "0-59"),
    ("jan * * * *", "minute", "jan", "0-59"),
    ("* * * january *", "month", "january", "jan-dec"),
    ("* * * fri *", "month", "fri", "jan-dec"),
    ("1.5 * * * *", "minute", "1.5", "0-59"),
    ("٣ * * * *", "minute", "٣", "0-59"),
    ("0 0 L/2 * *", "day of month", "L/2", "1-31, or one of L, L-3, LW, 15W"),
    ("0 0 * * 5#6", "day of week", "5#6", "a number from 1 to 5 after #"),
    # An empty list: robfig/cron takes it and then never finds a time.
    (", * * * *", "minute", ",", "0-59"),
    ("* * ,, * *", "day of month", ",,", "1-31"),
    # Python's split() splits here, Go's doesn't.
    ("0\x1c0 1 * *", "number of fields", "4", "5 fields"),
    ("@Daily", "descriptor", "@Daily", "@daily"),
    ("@daily ", "descriptor", "@daily ", "@daily"),
    ("@reboot", "descriptor", "@reboot", "@hourly"),
    ("@", "descriptor", "@", "@yearly"),
    ("@every", "descriptor", "@every", "@every <duration>"),
    ("@every\t5m", "descriptor", "@every\t5m", "@every <duration>"),
    # robfig/cron panics on a prefix without fields.
    ("TZ=UTC", "time zone", "TZ=UTC", "a spec after it"),
    ("CRON_TZ=", "time zone", "CRON_TZ=", "a spec after it"),
    ("TZ=UTC ", "number of fields", "0", "5 fields"),
    ("TZ=Mars/Olympus * * * * *", "time zone", "Mars/Olympus", "tz database"),
    ("TZ=America * * * * *", "time zone", "America", "tz database"),
    ("TZ=../UTC * * * * *", "time zone", "../UTC", "tz database"),
    ("TZ=/etc/passwd * * * * *", "time zone", "/etc/passwd", "tz database"),
    ("TZ=\0 * * * * *", "time zone", "\0", "tz database"),
    ("TZ=UTC @after 5m", "time zone", "UTC", "no time zone before @after"),
    ("TZ=UTC @at 2027-01-31T08:00:00Z", "time zone", "UTC", "no time zone before @at"),
    ("tz=UTC * * * * *", "second", "tz=UTC", "0-59"),
    (" TZ=UTC * * * * *", "second", "TZ=UTC", "0-59"),
    ("@every -5m", "@every duration", "-5m", "positive"),
    ("@every 0s", "@every duration", "0s", "longer than zero"),
    ("@every 0", "@every duration", "0", "longer than zero"),
    ("@every -0s", "@every duration", "-0s", "longer than zero"),
    ("@every 1.5s", "@every duration", "1.5s", "whole seconds"),
    ("@every 1ns", "@every duration", "1ns", "whole seconds"),
    ("@every 999ms", "@every duration", "999ms", "whole seconds"),
    ("@every 5", "@every duration", "5", "a unit (w, d, h"),
    ("@every 5y", "@every duration", "5y", "a unit (w, d, h"),
    ("@every 5M", "@every duration", "5M", "a unit (w, d, h"),
    ("@every 1h 30m", "@every duration", "1h ", "a unit"),
    ("@every  5m", "@every duration", " 5m", "a number and a unit"),
    ("@every .m", "@every duration", ".m", "a number and a unit"),
    ("@every ", "@every duration", "", "a duration such as"),
    ("@every +", "@every duration", "+", "a duration such as"),
    ("@every 293y", "@every duration", "293y", "a unit"),
    ("@every 106752d", "@every duration", "106752d", "at most 292 years"),
    ("@every " + "9" * 5000 + "h", "@every duration", "9" * 5000 + "h", "at most 292 years"),
    ("@after 0m", "@after duration", "0m", "longer than zero"),
    ("@at tomorrow", "@at time", "tomorrow", "RFC 3339"),
    ("@at 2027-01-31", "@at time", "2027-01-31", "RFC 3339"),
    ("@at 2027-01-31T08:00:00", "@at time", "2027-01-31T08:00:00", "its offset"),
    ("@at 2027-01-31 08:00:00Z", "@at time", "2027-01-31 08:00:00Z", "RFC 3339"),
    ("@at 2027-02-29T08:00:00Z", "@at time", "2027-02-29T08:00:00Z", "day"),
    ("@at 2027-01-31T08:00:60Z", "@at time", "2027-01-31T08:00:60Z", "second"),
]


@pytest.mark.parametrize(("spec", "name", "part", "expected"), REFUSED)
def test_refused(spec, name, part, expected):
    with pytest.raises(InvalidSpec) as caught:
        parse(spec)
    error = caught.value
    assert (error.spec, error.field, error.part) == (spec, name, part)
    assert expected in error.expected
    for fact in (repr(spec), name, repr(part), expected):
        assert fact in str(error)


def test_a_bad_default_zone_and_a_bad_dst_are_refused_too():
    with pytest.raises(InvalidSpec, match="'Nowhere'"):
        parse("* * * * *", timezone="Nowhere")
    with pytest.raises(InvalidSpec, match="robfig or vixie"):
        parse("* * * * *", dst="quartz")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ],
)
def test_descriptor(name, fields):
    assert parse(name) == parse(fields) == parse(f"0 {fields}")


@pytest.mark.parametrize("prefix", ["TZ=Asia/Tokyo ", "CRON_TZ=Asia/Tokyo ", "CRON_TZ=Asia/Tokyo   "])
def test_prefix(prefix):
    assert parse(f"{prefix}@daily") == parse("0 0 0 * * *", timezone="Asia/Tokyo")
    assert parse(f"{prefix}30 3 * * *", timezone="Europe/Berlin").timezone == "Asia/Tokyo"
    # A zone means nothing to a fixed rate, and robfig/cron takes it all the same.
    assert parse(f"{prefix}@every 5m") == parse("@every 5m")


def test_prefix_without_a_name_is_utc_and_local_is_the_default_zone():
    assert parse("TZ= @daily", timezone="Asia/Tokyo").timezone == "UTC"
    assert parse("TZ=Local @daily", timezone="Asia/Tokyo").timezone == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h30m10s", 5410),
        ("1d", 86_400),
        ("1w2d", 777_600),
        ("1.5d", 129_600),
        (".5m", 30),
        ("1.m", 60),
        ("500ms500ms", 1),
        ("1000000us", 1),
        ("1000000µs", 1),
        ("1000000μs", 1),
        ("1000000000ns", 1),
        ("+5m", 300),
        ("5m5m", 600),
        ("30s1h", 3630),
        ("0h1s", 1),
        ("106751d", 9_223_286_400),
    ],
)
def test_duration(text, seconds):
    assert parse(f"@every {text}").interval == timedelta(seconds=seconds)
    assert parse(f"@after {text}").interval == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("spec", "kind", "canonical"),
    [
        ("30 3 * * *", "cron", "0 30 3 * * *"),
        ("@daily", "cron", "0 0 0 * * *"),
        ("*/15 9-17/2 1,15 jan-MAR mon", "cron", "0 */15 9-17/2 1,15 1-3 1"),
        ("5/20 ? ? ? ? ?", "cron", "5/20 * * * * *"),
        ("0-59 * * * *", "cron", "0 0-59 * * * *"),
        ("TZ=Asia/Shanghai 0 10 * * *", "cron", "CRON_TZ=Asia/Shanghai 0 0 10 * * *"),
        ("@every 90m", "every", "@every 1h30m"),
        ("@every 36h", "every", "@every 1d12h"),
        ("@every 8d1ms999ms", "every", "@every 1w1d1s"),
        ("@after 300s", "after", "@after 5m"),
        ("@at 2027-01-31t08:00:00z", "at", "@at 2027-01-31T08:00:00Z"),
        ("@at 2027-01-31T08:00:00.5+01:00", "at", "@at 2027-01-31T08:00:00.500000+01:00"),
    ],
)
def test_canonical(spec, kind, canonical):
    schedule = parse(spec)
    assert schedule.kind == kind
    assert str(schedule) == canonical
    assert parse(canonical) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule  # noqa: S301  our own


def test_schedules_are_values():
    assert len({parse("@daily"), parse("0 0 * * *"), parse("0 0 ? * ?")}) == 1
    assert parse("@daily") != parse("@daily", timezone="Asia/Tokyo")
    assert parse("@daily") != parse("@daily", dst="vixie")
    # The star decides how the two day fields combine, so these are different schedules.
    assert parse("0 0 1-31 * 5") != parse("0 0 * * 5")
    with pytest.raises(AttributeError):
        parse("@daily").timezone = "UTC"


def test_interval():
    assert parse("@every 90m").interval == timedelta(minutes=90)
    assert parse("@after 90m").interval == timedelta(minutes=90)
    assert parse("@daily").interval is None
    assert parse("@at 2027-01-31T08:00:00Z").interval is None


def field_texts(kind):
    number = st.integers(kind.low, kind.high)
    span = st.tuples(number, number).map(sorted).map(lambda pair: f"{pair[0]}-{pair[1]}")
    base = st.one_of(st.sampled_from("*?"), number.map(str), span)
    rules = {
        "day of month": st.sampled_from(["L", "LW", "L-3", "1W", "31W", "L-30W"]),
        "day of week": st.sampled_from(["sun#1", "5#5", "0L", "satL"]),
    }
    plain = st.tuples(base, st.one_of(st.just(""), st.integers(1, 70).map("/{}".format))).map("".join)
    item = st.one_of(plain, rules.get(kind.name, plain))
    return st.lists(item, min_size=1, max_size=4).map(",".join)


SPECS = st.tuples(*(field_texts(kind) for kind in KINDS)).map(" ".join)


@settings(deadline=None)
@given(SPECS, st.sampled_from(["robfig", "vixie"]))
def test_canonical_specs_mean_the_same(spec, dst):
    schedule = parse(spec, dst=dst)
    assert isinstance(schedule, Cron)
    assert parse(str(schedule), dst=dst) == schedule
    assert str(parse(str(schedule), dst=dst)) == str(schedule)


@settings(deadline=None)
@given(st.integers(1, 10**9))
def test_canonical_durations_mean_the_same(seconds):
    schedule = Every(timedelta(seconds=seconds))
    assert parse(str(schedule)) == schedule


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_schedule_or_an_error_that_quotes_it(text):
    for spec in (text, f"@every {text}", f"@at {text}", f"TZ={text}", f"{text} * * * *"):
        try:
            schedule = parse(spec)
        except InvalidSpec as error:
            assert error.spec == spec  # noqa: PT017  either is right
        else:
            assert parse(str(schedule)) == schedule
