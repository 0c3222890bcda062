from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam_watcher.walk.pace import (
    FIRST_ROWS,
    FIRST_SPAN,
    LEAST_ROWS,
    LEAST_SPAN,
    MOST_BYTES,
    MOST_ROWS,
    PACES,
    ChunkSize,
    Limit,
    Limits,
    Pace,
)


@pytest.mark.parametrize(("target", "duty"), [(0, 1), (-0.1, 1), (0.1, 0), (0.1, 1.1)])
def test_a_pace_that_cannot_be_is_refused(target, duty):
    with pytest.raises(ValueError, match="expected a target over 0 s and a duty"):
        Pace(target, duty)


def test_polite_rests_as_long_as_it_works_and_fast_not_at_all():
    assert PACES["polite"].rest(0.3) == pytest.approx(0.3)
    assert PACES["fast"].rest(0.3) == 0
    assert {name: pace.target for name, pace in PACES.items()} == {"fast": 0.1, "polite": 0.025}


def test_chunks_follow_the_target_on_a_steady_server():
    size = ChunkSize(target=0.1)
    for _ in range(12):
        size.wrote(size.rows, size.rows / 50_000)
    assert size.rows == pytest.approx(5_000, rel=0.01)


def test_after_a_stutter_chunks_grow_back_slowly():
    size = ChunkSize(target=0.1, rows=5_000)
    size.wrote(5_000, 0.2)
    assert size.rows == 2_500
    size.wrote(2_500, 0.06)
    assert size.rows == 2_750


@given(st.lists(st.tuples(st.floats(1e-6, 100), st.floats(0, 1))))
def test_chunks_stay_in_bounds_and_change_by_two_at_most(measurements):
    size = ChunkSize(target=0.1)
    for seconds, fullness in measurements:
        before = size.rows
        size.wrote(max(1, int(size.rows * fullness)), seconds)
        assert LEAST_ROWS <= size.rows <= MOST_ROWS
        assert before // 2 <= size.rows <= before * 2


@pytest.mark.parametrize(
    ("before", "rows", "seconds", "after"),
    [
        (1_000, 3, 0.001, 1_000),  # a quick small chunk says nothing about a full one
        (1_000, 499, 0.001, 1_000),
        (1_000, 500, 0.001, 2_000),  # half of a chunk does, and is more than twice as quick as it has to be
        (1_000, 1_000, 0.04, 2_000),
        (1_000, 1_000, 0.05, 1_100),
        (1_000, 3, 0.1, 500),  # so does a slow small one
        (1_001, 3, 0.5, 500),
    ],
)
def test_the_next_chunk_is_as_large_as_the_time_of_the_last_one_says(before, rows, seconds, after):
    size = ChunkSize(target=0.1, rows=before)
    size.wrote(rows, seconds)
    assert (size.rows, type(size.rows)) == (after, int)


@pytest.mark.parametrize(
    ("seconds", "after"), [(0.04, 60_002), (0.05, 30_001), (0.1, 30_001), (0.11, 15_000)]
)
def test_the_span_follows_the_time_of_a_read(seconds, after):
    size = ChunkSize(target=0.1, span=30_001)
    size.read(seconds, whole_span=True)
    assert (size.span, type(size.span)) == (after, int)


def test_the_span_grows_while_reads_are_quick_and_find_little():
    size = ChunkSize(target=0.1)
    size.read(0.001, whole_span=True)
    assert size.span == 2 * FIRST_SPAN
    size.read(0.001, whole_span=False)
    assert size.span == 2 * FIRST_SPAN
    size.read(0.07, whole_span=True)
    assert size.span == 2 * FIRST_SPAN
    size.read(0.2, whole_span=True)
    assert size.span == FIRST_SPAN


def test_a_chunk_ends_before_it_has_too_many_bytes_but_has_a_row():
    size = ChunkSize(target=0.1)
    assert size.limit(5_000) == 5_000
    assert size.within_bytes([]) == 1
    assert size.within_bytes([MOST_BYTES // 4] * 10) == 4
    assert size.limit(5_000) == 8
    assert size.within_bytes([3 * MOST_BYTES, 1]) == 1
    assert size.within_bytes([3 * MOST_BYTES]) == 1
    assert size.limit(5_000) == 1
    assert size.within_bytes([0] * 10) == 10
    assert size.limit(5_000) == 5_000


def test_a_failure_halves_both_down_to_a_limit():
    size = ChunkSize(target=0.1, rows=FIRST_ROWS + 1, span=FIRST_SPAN + 1)
    size.halve()
    assert (size.rows, size.span) == (FIRST_ROWS // 2, FIRST_SPAN // 2)
    for _ in range(20):
        size.halve()
    assert (size.rows, size.span) == (LEAST_ROWS, LEAST_SPAN)


def test_a_span_that_grew_in_a_gap_is_short_again_after_a_failure():
    size = ChunkSize(target=0.1)
    for _ in range(30):
        size.read(0.001, whole_span=True)
    assert size.span > 2**40
    size.halve()
    assert size.span == FIRST_SPAN


@pytest.mark.parametrize(
    ("rows", "seconds", "reached"),
    [(9, 9.5, None), (10, 0.0, Limit.ROWS), (0, 10.0, Limit.TIME), (10, 10.0, Limit.ROWS)],
)
def test_a_limit_is_reached_when_nothing_is_left_of_it(rows, seconds, reached):
    limits = Limits(max_rows=10, seconds=10.0)
    assert limits.reached(rows, seconds) is reached
    assert Limits().reached(rows, seconds) is None


def test_what_is_left_of_a_limit_is_never_less_than_nothing():
    limits = Limits(max_rows=10, seconds=10.0)
    assert [limits.seconds_left(seconds) for seconds in (0, 9, 10, 11)] == [10, 1, 0, 0]
    assert [limits.left(wanted, 6) for wanted in (3, 4, 5)] == [3, 4, 4]
    assert (Limits().seconds_left(11), Limits().left(3, 10)) == (None, 3)
