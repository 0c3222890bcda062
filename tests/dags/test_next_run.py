"""Which run Airflow has down as the next one: after a parse, and when a run begins and ends."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine

from tests.dags.conftest import at


def test_a_file_that_comes_right_after_a_tick_does_not_run_for_it(deployment):
    deployment.store("@hourly", "09:00:05")
    assert deployment.next == "09:00:00"
    assert deployment.scheduler_comes("09:00:06") == []
    deployment.parsed("09:01:05")
    assert deployment.next == "10:00:00"


def test_once(deployment):
    deployment.store("@at 2027-03-10T09:00:00Z")
    assert deployment.next == "09:00:00"
    deployment.parsed("09:00:01")
    assert deployment.scheduler_comes("09:00:04") == ["09:00:00"]
    assert deployment.next == ""
    deployment.parsed("09:30:00")
    assert deployment.next == ""


def test_a_parse_takes_no_tick_from_a_slow_scheduler(deployment):
    deployment.store("@hourly", missed_grace=timedelta(0))
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:01:00")
    deployment.due("09:00:00")
    deployment.parsed("09:00:02")
    assert deployment.scheduler_comes("09:00:03") == ["09:00:00"]


def test_a_parse_settles_what_a_going_run_has_skipped(deployment):
    deployment.store("@hourly")
    deployment.run("scheduled", "08:00:00", "08:00:02", None)
    deployment.due("09:00:00")
    deployment.parsed("09:10:00")
    assert deployment.next == "10:00:00"


def test_a_parse_does_not_bring_back_a_tick_that_was_dropped(deployment):
    deployment.store("@hourly")
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:01:00")
    deployment.due("09:00:00")
    deployment.up_since("09:40:00")
    assert deployment.scheduler_comes("09:40:01") == []
    deployment.parsed("09:40:30")
    assert deployment.next == "10:00:00"


def test_a_paused_watcher_shows_the_tick_to_come(deployment):
    deployment.store("@hourly")
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:01:00")
    deployment.due("09:00:00")
    deployment.model.is_paused = True
    deployment.parsed("09:10:00")
    assert deployment.next == "09:00:00"  # it would be made up for
    deployment.parsed("09:40:00")
    assert deployment.next == "10:00:00"


@pytest.mark.parametrize("stored", ["09:00:00", None])
def test_a_changed_schedule_counts_from_now_without_a_burst(deployment, stored):
    deployment.store("@every 10m")
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:01:00")
    deployment.due(stored)  # by the schedule of before
    deployment.parsed("08:31:00")
    assert deployment.next == "08:40:00"


@pytest.mark.parametrize("overlap", ["skip", "delay"])
def test_a_parse_while_a_run_is_waiting_keeps_its_tick(deployment, overlap):
    # Due, and not created yet because another run has just ended.
    deployment.store("@hourly", overlap=overlap)
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:59:59")
    deployment.due("09:00:00")
    deployment.parsed("09:00:01")
    assert deployment.scheduler_comes("09:00:02") == ["09:00:00"]


def test_after_starts_at_once_and_then_counts_from_the_end(deployment):
    deployment.store("@after 5m")
    assert deployment.next == "08:00:00"
    assert deployment.scheduler_comes("08:00:01") == ["08:00:00"]
    assert deployment.next == ""


@pytest.mark.parametrize("state", ["success", "failed"])
def test_after_counts_from_any_end(deployment, state):
    deployment.store("@after 5m")
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:20:00", state)
    deployment.parsed("08:20:10")
    assert deployment.next == "08:25:00"
    assert deployment.scheduler_comes("08:25:01") == ["08:25:00"]


def test_after_does_not_count_manual_runs(deployment):
    deployment.store("@after 5m")
    deployment.run("scheduled", "08:00:00", "08:00:02", "08:20:00")
    deployment.run("manual", "08:22:00", "08:22:00", None)
    deployment.parsed("08:23:00")
    assert deployment.next == "08:25:00"


@pytest.mark.parametrize(("spec", "following"), [("@after 5m", "08:25:00"), ("0 */10 * * * *", "08:30:00")])
@pytest.mark.parametrize("state", ["success", "failed"])
def test_the_end_of_a_run_gives_the_next_one_at_once(deployment, spec, following, state):
    deployment.store(spec)
    deployment.run("scheduled", "08:00:00", "08:00:02", None)
    deployment.due("08:10:00")
    run = deployment.only_run()
    run.dag = deployment.serialized
    for task in run.get_task_instances(session=deployment.session):
        task.state = state
    deployment.session.flush()
    with time_machine.travel(at("08:20:00"), tick=False):
        run.update_state(session=deployment.session)
    assert run.state == state
    assert deployment.next == following


def test_the_start_of_a_manual_run_closes_the_door(deployment):
    # Airflow counts it at the next parse only, and the scheduler would come to each tick meanwhile.
    deployment.store("@hourly")
    deployment.run("manual", "08:59:00", "08:59:01", None)
    run = deployment.only_run()
    run.dag = deployment.serialized
    assert not deployment.model.exceeds_max_non_backfill
    run.notify_dagrun_state_changed(msg="started")
    assert deployment.model.exceeds_max_non_backfill


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_person_who_ends_a_run_gives_the_next_one_too(deployment, state):
    from airflow.api_fastapi.core_api.datamodels.dag_run import DagRunMutableStates
    from airflow.api_fastapi.core_api.services.public.dag_run import patch_dag_run_state

    deployment.store("@after 5m")
    deployment.run("scheduled", "08:00:00", "08:00:02", None)
    with time_machine.travel(at("08:20:00"), tick=False):
        patch_dag_run_state(
            dag=deployment.serialized,
            dag_run=deployment.only_run(),
            state=DagRunMutableStates(state),
            session=deployment.session,
        )
    assert deployment.next == "08:25:00"


def test_the_scheduler_reads_what_the_file_says(deployment):
    deployment.store("CRON_TZ=Asia/Shanghai 0 30 3 * * *", overlap="delay", dst="vixie")
    again = deployment.serialized.timetable
    assert str(again.schedule) == "CRON_TZ=Asia/Shanghai 0 30 3 * * *"
    assert (again.overlap, again.schedule.dst) == ("delay", "vixie")
    assert deployment.model.timetable_summary == "CRON_TZ=Asia/Shanghai 0 30 3 * * *"
    assert deployment.model.timetable_description == "every day at 03:30:00 Asia/Shanghai"
