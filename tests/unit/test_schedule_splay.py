"""Splay: `~` in a schedule, whose value the id of the DAG decides."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam_watcher.schedule import Cron, InvalidSpec, describe, parse
from iam_watcher.schedule.fields import KINDS
from iam_watcher.schedule.splay import DESCRIPTORS, resolve

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
IDS = {
    "numbers": [f"watcher_{number}" for number in range(500)],
    "tables": [
        f"purge_{table}_{shard:02}" for table in ("audit", "login", "session") for shard in range(167)
    ][:500],
    "teams": [f"team{number}_nightly" for number in range(500)],
}


def numbers(schedule: Cron, name: str) -> list[int]:
    mask = getattr(schedule.fields, name).mask
    return [number for number in range(64) if mask >> number & 1]


@pytest.mark.parametrize(
    ("spec", "dag_id", "values"),
    [
        # A version that gives other values would move the runs of every watcher with `~`.
        ("@yearly~", "clean_policy_audit", "6 33 17 7 9 *"),
        ("@annually~", "clean_policy_audit", "6 33 17 7 9 *"),
        ("@monthly~", "clean_policy_audit", "6 33 17 7 * *"),
        ("@weekly~", "clean_policy_audit", "6 33 17 * * 6"),
        ("@daily~", "clean_policy_audit", "6 33 17 * * *"),
        ("@hourly~", "clean_policy_audit", "6 33 * * * *"),
        ("@daily~", "disable_inactive_users", "27 4 4 * * *"),
        ("~ 0~5 * * *", "disable_inactive_users", "0 4 1 * * *"),
        ("~/15 * * * *", "disable_inactive_users", "0 1/15 * * * *"),
        ("30~45/5 * * * *", "clean", "0 34-44/5 * * * *"),
        ("0 0 * jul~sep mon~fri", "clean", "0 0 0 * 7 4"),
        ("TZ=Asia/Shanghai @daily~", "clean", "CRON_TZ=Asia/Shanghai 44 54 16 * * *"),
    ],
)
def test_the_values_of_a_dag_id_never_change(spec, dag_id, values):
    assert str(parse(spec, dag_id=dag_id)) == values


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("@yearly~", "~ ~ ~ ~ ~ *"),
        ("@annually~", "~ ~ ~ ~ ~ *"),
        ("@monthly~", "~ ~ ~ ~ * *"),
        ("@weekly~", "~ ~ ~ * * ~"),
        ("@daily~", "~ ~ ~ * * *"),
        ("@hourly~", "~ ~ * * * *"),
    ],
)
def test_a_name_is_short_for_fields(name, fields):
    assert parse(name, dag_id="clean") == parse(fields, dag_id="clean")
    assert set(DESCRIPTORS) == {"@yearly~", "@annually~", "@monthly~", "@weekly~", "@daily~", "@hourly~"}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS.keys())
@pytest.mark.parametrize(
    ("spec", "field", "size"),
    [
        ("@daily~", "hour", 24),
        ("@daily~", "minute", 60),
        ("@daily~", "second", 60),
        ("@weekly~", "day_of_week", 7),
        ("@monthly~", "day_of_month", 28),
        ("@yearly~", "month", 12),
        ("* 2~4 * * *", "hour", 3),
    ],
)
def test_500_watchers_spread_evenly(ids, spec, field, size):
    counts = Counter(numbers(parse(spec, dag_id=dag_id), field)[0] for dag_id in ids)
    mean = len(ids) / size
    assert len(counts) == size
    # Four standard deviations of a fair draw.
    assert max(counts.values()) <= mean + 4 * mean**0.5
    assert min(counts.values()) >= mean - 4 * mean**0.5


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS.keys())
def test_500_daily_watchers_have_500_times(ids):
    ticks = [parse("@daily~", dag_id=dag_id).next(NEW_YEAR) for dag_id in ids]
    assert all(NEW_YEAR < tick <= NEW_YEAR + timedelta(days=1) for tick in ticks)
    # 86,400 seconds for 500: a fair draw gives one or two pairs.
    assert len(set(ticks)) >= 495
    assert max(Counter(tick.replace(second=0) for tick in ticks).values()) <= 5


FIELDS = st.sampled_from(KINDS)
DAG_IDS = st.text(max_size=30)


@st.composite
def ranges(draw):
    kind = draw(FIELDS)
    low, high = sorted(draw(st.tuples(*[st.integers(kind.low, kind.high)] * 2)))
    return kind, low, high


@settings(deadline=None)
@given(ranges(), DAG_IDS)
def test_a_value_is_in_its_range_and_always_the_same(field, dag_id):
    kind, low, high = field
    value = int(resolve(kind, f"{low}~{high}", dag_id))
    assert low <= value <= high
    assert resolve(kind, f"{low}~{high}", dag_id) == str(value)


@settings(deadline=None)
@given(ranges(), st.integers(1, 70), DAG_IDS)
def test_a_step_begins_within_its_first_numbers(field, step, dag_id):
    kind, low, high = field
    found = kind.numbers(kind.parse(resolve(kind, f"{low}~{high}/{step}", dag_id)))
    assert low <= found[0] < low + step
    assert high - step < found[-1] <= high
    assert all(later - earlier == step for earlier, later in itertools.pairwise(found))


@settings(deadline=None)
@given(FIELDS, DAG_IDS)
def test_a_missing_bound_is_that_of_the_field(kind, dag_id):
    last = 28 if kind.name == "day of month" else kind.high
    whole = resolve(kind, f"{kind.low}~{last}", dag_id)
    assert resolve(kind, "~", dag_id) == whole
    assert resolve(kind, f"{kind.low}~", dag_id) == whole
    assert resolve(kind, f"~{last}", dag_id) == whole


def test_each_bound_is_a_value_of_some_dag_id():
    found = {int(resolve(KINDS[1], "7~9", dag_id)) for dag_id in IDS["numbers"][:50]}
    assert found == {7, 8, 9}


@pytest.mark.parametrize("dag_id", IDS["numbers"][:20])
def test_two_ranges_of_a_field_keep_their_distance(dag_id):
    first, second = numbers(parse("0~29,30~59 * * * *", dag_id=dag_id), "minute")
    assert second - first == 30


def test_a_list_may_have_fixed_numbers_too():
    found = numbers(parse("5,10~19,40-42 * * * *", dag_id="clean"), "minute")
    assert found[0] == 5
    assert 10 <= found[1] <= 19
    assert found[2:] == [40, 41, 42]


def test_a_tilde_is_no_star():
    either = parse("0 0 ~ * 1", dag_id="clean").fields
    assert not either.day_of_month.star
    assert not parse("0 0 */2 * ~", dag_id="clean", dst="vixie").fields.day_of_week.star
    assert parse("0 0 */2,~ * ~", dag_id="clean", dst="vixie").fields.day_of_month.star


# spec, the field that the error names, the part that it quotes, a piece of what was expected
REFUSED = [
    ("5~3 * * * *", "minute", "5~3", "from the lower to the higher number"),
    ("0 0 * sep~jul *", "month", "sep~jul", "from the lower to the higher number"),
    ("0 0 29~ * *", "day of month", "29~", "without an upper bound, the range ends at 28"),
    ("0 0 20~32 * *", "day of month", "20~32", "1-31"),
    ("0 0 * * ~7", "day of week", "~7", "0-6 or sun-sat"),
    ("61~ * * * *", "minute", "61~", "0-59"),
    ("*~5 * * * *", "minute", "*~5", "0-59"),
    ("1-2~5 * * * *", "minute", "1-2~5", "0-59"),
    ("1~2~3 * * * *", "minute", "1~2~3", "at most one ~"),
    ("~~ * * * *", "minute", "~~", "at most one ~"),
    ("~/0 * * * *", "minute", "~/0", "a step of 1 or more"),
    ("~/x * * * *", "minute", "~/x", "a step of 1 or more"),
    ("~/2/3 * * * *", "minute", "~/2/3", "at most one slash"),
    ("5/~ * * * *", "minute", "5/~", "a range such as ~ or 0~59 before the slash"),
    ("0 0 L~3 * *", "day of month", "L~3", "1-31"),
    ("0 0 * * fri~#2", "day of week", "fri~#2", "0-6 or sun-sat"),
    ("5,1~2~3 * * * *", "minute", "1~2~3", "at most one ~"),
    ("@midnight~", "descriptor", "@midnight~", "@daily~"),
    ("@every~ 1d", "descriptor", "@every~ 1d", "@daily~"),
]


@pytest.mark.parametrize("dag_id", ["clean", None])
@pytest.mark.parametrize(("spec", "name", "part", "expected"), REFUSED)
def test_refused(spec, name, part, expected, dag_id):
    with pytest.raises(InvalidSpec) as caught:
        parse(spec, dag_id=dag_id)
    error = caught.value
    assert (error.spec, error.field, error.part) == (spec, name, part)
    assert expected in error.expected


@pytest.mark.parametrize("spec", ["~ * * * *", "@daily~", "TZ=UTC 0 0 1~5 * *"])
def test_without_a_dag_id_a_tilde_has_no_value(spec):
    with pytest.raises(InvalidSpec, match="expected the id of the DAG, which decides the values of ~"):
        parse(spec)


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("@daily~", "@daily~"),
        ("~  0~5 * *   *", "0 ~ 0~5 * * *"),
        ("TZ=Asia/Shanghai @daily~", "CRON_TZ=Asia/Shanghai @daily~"),
    ],
)
def test_people_see_the_tilde_and_the_times(spec, shown):
    schedule = parse(spec, dag_id="clean_policy_audit")
    assert schedule.shown == shown
    # The canonical spec has the values, and needs no id.
    assert parse(str(schedule)) == schedule
    assert "~" not in str(schedule) + describe(schedule)
    assert pickle.loads(pickle.dumps(schedule)).shown == shown  # noqa: S301  our own


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("@yearly~", "on day 7 of the month in September at 17:33:06 UTC"),
        ("@weekly~", "on Saturday at 17:33:06 UTC"),
        ("@daily~", "every day at 17:33:06 UTC"),
        ("@hourly~", "at second 6 of minute 33 of every hour"),
        ("~/15 * * * *", "at minutes 8, 23, 38 and 53 of every hour"),
    ],
)
def test_the_words_have_the_times(spec, words):
    assert describe(parse(spec, dag_id="clean_policy_audit")) == words


def test_a_schedule_without_a_tilde_does_not_depend_on_the_dag_id():
    for spec in ("@daily", "30 3 L * 5#2", "@every 1h", "@after 5m", "@at 2027-01-31T08:00:00Z"):
        schedule = parse(spec, dag_id="clean")
        assert schedule == parse(spec)
        assert schedule.shown == str(schedule)
