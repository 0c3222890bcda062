"""Which runs the scheduler creates for ticks that came while it was down or the watcher paused."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta

import pytest
import time_machine

from iam_watcher.errors import TickDropped
from tests.dags.conftest import at


# Ticks every hour, down from 09:00 until a moment.
@pytest.mark.parametrize(
    ("up", "grace", "made_up"),
    [
        ("09:29:00", None, ["09:00:00"]),  # half an hour: half the interval
        ("09:31:00", None, []),
        ("09:55:00", timedelta(hours=1), ["09:00:00"]),
        ("09:00:05", timedelta(0), []),
        ("12:20:00", None, ["12:00:00"]),  # four were missed, the latest is made up for
        ("12:40:00", None, []),
    ],
)
def test_missed_while_down(deployment, up, grace, made_up):
    deployment.store("@hourly", missed_grace=grace)
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:01:00")
    deployment.due("09:00:00")
    deployment.up_since(up)
    assert deployment.scheduler_comes(up) == made_up
    assert deployment.next == f"{int(up[:2]) + 1:02}:00:00"


@pytest.mark.parametrize(("comes", "made_up"), [("09:05:00", ["09:00:00"]), ("09:05:01", [])])
def test_a_scheduler_that_hung_for_over_five_minutes_was_down(deployment, comes, made_up):
    """Its process was there all the time."""
    deployment.store("@hourly", missed_grace=timedelta(0))
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:01:00")
    deployment.due("09:00:00")
    assert deployment.scheduler_comes(comes) == made_up


def test_an_hour_is_the_longest_default_grace(deployment):
    deployment.store("0 9 * * *")
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:01:00")
    deployment.due("09:00:00")
    deployment.up_since("10:00:01")
    assert deployment.scheduler_comes("10:00:02") == []


@pytest.mark.parametrize("event", ["patch_dag", "patch_dags", "cli_dag_unpause"])
@pytest.mark.parametrize(
    ("grace", "made_up"), [(None, ["09:00:00"]), (timedelta(minutes=2), []), (timedelta(0), [])]
)
def test_missed_while_paused(deployment, event, grace, made_up):
    deployment.store("@hourly", missed_grace=grace)
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:01:00")
    deployment.due("09:00:00")
    deployment.unpaused("09:03:00", event)
    assert deployment.scheduler_comes("09:03:01") == made_up


def test_the_first_unpause_is_no_surprise(deployment):
    deployment.store("@hourly", missed_grace=timedelta(hours=9))
    deployment.due("09:00:00")
    deployment.unpaused("09:00:05")
    assert deployment.scheduler_comes("09:00:06") == []
    assert deployment.next == "10:00:00"


def test_a_moment_that_passed_while_paused_is_over(deployment):
    deployment.store("@at 2027-03-10T09:00:00Z")
    deployment.unpaused("09:00:05")
    assert deployment.scheduler_comes("09:00:06") == []
    assert deployment.next == ""


@pytest.mark.parametrize("spec", ["@at 2027-03-10T09:00:00Z", "0 9 10 * *", "@hourly"])
@pytest.mark.parametrize(("up", "comes"), [("09:00:10", "09:00:12"), ("08:00:00", "09:05:02")])
@pytest.mark.parametrize(("grace", "made_up"), [(None, ["09:00:00"]), (timedelta(0), [])])
def test_the_first_time_of_all_is_made_up_for_too(deployment, spec, up, comes, grace, made_up):
    """The DAG was known, and not paused; the scheduler came late."""
    deployment.store(spec, missed_grace=grace)
    deployment.due("09:00:00")
    deployment.up_since(up)
    assert deployment.scheduler_comes(comes) == made_up


@pytest.mark.parametrize("within_savepoint", [False, True])
def test_a_tick_is_dropped_once_also_by_a_scheduler_that_uses_savepoints(deployment, within_savepoint):
    """As Airflow means to: what was written before the exception is rolled back with it."""
    deployment.store("@hourly", missed_grace=timedelta(0))
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:01:00")
    deployment.due("09:00:00")
    deployment.session.commit()
    deployment.up_since("09:05:00")
    session, model = deployment.session, deployment.model
    with time_machine.travel(at("09:05:01"), tick=False):
        with (
            pytest.raises(TickDropped, match="the next is at 2027-03-10T10:00:00"),
            session.begin_nested() if within_savepoint else nullcontext(),
        ):
            deployment.serialized.timetable.next_run_info_from_dag_model(dag_model=model)
        assert deployment.next == "09:00:00"
        with session.begin_nested():  # The next DAG's; its release is no commit.
            model.description = "touched"
        assert deployment.next == "09:00:00"
        session.commit()
    session.expire_all()
    assert deployment.next == "10:00:00"


def test_a_dropped_tick_does_not_undo_what_another_did_meanwhile(deployment):
    """The dag-processor stored a later tick before our transaction could commit."""
    deployment.store("@hourly", missed_grace=timedelta(0))
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:01:00")
    deployment.due("09:00:00")
    deployment.up_since("09:05:00")
    with time_machine.travel(at("09:05:01"), tick=False):
        with pytest.raises(TickDropped):
            deployment.serialized.timetable.next_run_info_from_dag_model(dag_model=deployment.model)
        deployment.session.rollback()
        deployment.due("11:00:00")
        deployment.session.commit()
    deployment.session.expire_all()
    assert deployment.next == "11:00:00"
