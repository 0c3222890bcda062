"""What a time of day is compared with a TIME column as."""

from __future__ import annotations

from datetime import time, timedelta

import pytest

from iam_watcher.jobs.table_job.where_times import UnfitValueError, time_of_day


@pytest.mark.parametrize(
    ("value", "compared_as"),
    [
        (time(0), "00:00:00.000000"),
        (timedelta(seconds=-1), "-00:00:01.000000"),
        ("838:59:59", "838:59:59.000000"),
        ("-838:59:59", "-838:59:59.000000"),
    ],
)
def test_only_a_time_below_zero_has_a_sign(value, compared_as):
    assert time_of_day(value, None) == compared_as


@pytest.mark.parametrize("value", ["838:59:59.000001", "-839:00"])
def test_a_time_that_no_column_can_hold_is_refused(value):
    with pytest.raises(UnfitValueError, match="from -838:59:59 to 838:59:59"):
        time_of_day(value, None)
