"""Which runs the scheduler creates for ticks that come while a run is going, or while it is slow itself."""

from __future__ import annotations

from datetime import timedelta

import pytest


def test_a_tick_gets_its_run_and_the_next_one_follows(deployment):
    deployment.store("@hourly", "08:30:00")
    assert deployment.next == "09:00:00"
    assert deployment.scheduler_comes("09:00:01") == ["09:00:00"]
    assert deployment.next == "10:00:00"


@pytest.mark.parametrize("grace", [None, timedelta(0)])
def test_a_slow_scheduler_loses_no_tick(deployment, grace):
    deployment.store("*/10 * * * * *", missed_grace=grace)
    deployment.run("scheduled", "08:59:50", "08:59:51", "08:59:52")
    deployment.due("09:00:00")
    assert deployment.scheduler_comes("09:00:09") == ["09:00:00"]
    assert deployment.next == "09:00:10"


def test_a_slow_scheduler_runs_the_latest_of_several_ticks(deployment):
    deployment.store("*/10 * * * * *")
    deployment.due("09:00:00")
    assert deployment.scheduler_comes("09:00:34") == ["09:00:30"]
    assert deployment.next == "09:00:40"


# A run of 08:00 that is going at 09:00.
@pytest.mark.parametrize(
    ("overlap", "kind", "ended", "comes", "ticks", "following"),
    [
        ("skip", "scheduled", "09:00:20", "09:00:21", [], "10:00:00"),
        ("skip", "manual", "09:00:20", "09:00:21", [], "10:00:00"),
        ("skip", "scheduled", "11:59:59", "12:00:01", ["12:00:00"], "13:00:00"),  # three were skipped
        ("delay", "scheduled", "09:20:00", "09:20:01", ["09:00:00"], "10:00:00"),
        ("delay", "scheduled", "11:20:00", "11:20:01", ["11:00:00"], "12:00:00"),  # one run of three ticks
        ("allow", "scheduled", None, "09:00:01", ["09:00:00"], "10:00:00"),
    ],
)
def test_a_tick_while_a_run_is_going(deployment, overlap, kind, ended, comes, ticks, following):
    deployment.store("@hourly", overlap=overlap)
    deployment.run(kind, "08:00:00", "08:00:02", ended)
    deployment.due("09:00:00")
    assert deployment.scheduler_comes(comes) == ticks
    assert deployment.next == following


def test_skip_looks_at_what_was_going_when_the_tick_came(deployment):
    # A person started this one while the scheduler was on its way to the tick.
    deployment.store("@hourly")
    deployment.run("manual", "09:00:01", "09:00:02", "09:00:05")
    deployment.due("09:00:00")
    assert deployment.scheduler_comes("09:00:06") == ["09:00:00"]


def test_delay_does_not_outlive_a_long_outage(deployment):
    deployment.store("0 9 * * *", overlap="delay")
    deployment.run("scheduled", "08:00:00", "08:00:02", "09:20:00")
    deployment.due("09:00:00")
    deployment.up_since("15:00:00")
    assert deployment.scheduler_comes("15:00:10") == []


def test_allow_waits_for_room_without_losing_the_tick(deployment):
    deployment.store("@hourly", overlap="allow")
    deployment.run("scheduled", "07:00:00", "07:00:02", "09:40:00")
    deployment.run("scheduled", "08:00:00", "08:00:02", None)
    deployment.due("09:00:00")
    assert deployment.scheduler_comes("09:40:01") == ["09:00:00"]


def test_a_run_that_is_still_going_does_not_make_a_missed_tick_a_late_one(deployment):
    deployment.store("@hourly", overlap="allow")
    deployment.run("scheduled", "08:00:00", "08:00:02", None)
    deployment.due("09:00:00")
    deployment.up_since("09:40:00")
    assert deployment.scheduler_comes("09:40:01") == []
