"""Which runs the scheduler creates: its own code, on Airflow's own (SQLite) database, at chosen times."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from iam_watcher.timetables import history, timetable

NUMBERS = itertools.count()
DAY = "2027-03-10 "


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"{DAY}{clock}").replace(tzinfo=UTC)


class Deployment:
    """One DAG in the database, and the scheduler's step that creates its runs."""

    def __init__(self, session, monkeypatch):
        self.session = session
        self.patch = monkeypatch
        self.up_since("00:00:00")

    def up_since(self, clock: str) -> None:
        self.patch.setattr(history, "_process_start", lambda: at(clock))

    def store(self, spec: str, clock: str = "08:00:00", **arguments: object) -> None:
        """Parse a file with this schedule at that time."""
        from airflow.models.dag import DagModel
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.serialization.definitions.dag import SerializedDAG
        from airflow.serialization.serialized_objects import LazyDeserializedDAG

        dag_id = f"timetable_{next(NUMBERS)}"
        runs = 3 if arguments.get("overlap") == "allow" else 1
        with DAG(dag_id, schedule=timetable(spec, **arguments), catchup=False, max_active_runs=runs) as dag:
            EmptyOperator(task_id="work")
        stored = LazyDeserializedDAG.from_dag(dag)
        with time_machine.travel(at(clock), tick=False):
            SerializedDAG.bulk_write_to_db("dags-folder", None, [stored], session=self.session)
            self.session.commit()
            assert SerializedDagModel.write_dag(stored, bundle_name="dags-folder", session=self.session)
            self.session.commit()
        self.model = self.session.get(DagModel, dag_id)
        self.model.is_paused = False
        self.serialized = SerializedDagModel.get_dag(dag_id, session=self.session)

    def run(self, kind: str, run_after: str, start: str | None, end: str | None, state: str = "") -> None:
        """Put a run into the past."""
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        tick = at(run_after)
        run = self.serialized.create_dagrun(
            run_id=f"{kind}__{run_after}",
            logical_date=tick,
            data_interval=(tick, tick),
            run_after=tick,
            run_type=DagRunType(kind),
            triggered_by=DagRunTriggeredByType.TEST,
            state=state or ("success" if end else "running"),
            session=self.session,
        )
        run.queued_at = tick
        run.start_date = start and at(start)
        run.end_date = end and at(end)
        self.session.flush()

    def unpaused(self, clock: str, event: str = "patch_dag") -> None:
        from airflow.models.log import Log

        with time_machine.travel(at(clock), tick=False):
            log = Log(event=event)
        log.dag_id = None if event == "patch_dags" else self.model.dag_id
        log.dttm = at(clock)
        self.session.add(log)
        self.session.flush()

    def due(self, clock: str | None) -> None:
        """Make that the tick that the database has, as the creation of the last run left it."""
        tick = clock and at(clock)
        self.model.next_dagrun = self.model.next_dagrun_create_after = tick
        self.model.next_dagrun_data_interval = (tick, tick) if tick else None
        self.session.flush()

    def scheduler_comes(self, clock: str) -> list[str]:
        """Let the scheduler create what is due; return the clock of the runs' ticks."""
        from airflow.executors.local_executor import LocalExecutor
        from airflow.jobs.job import Job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        ours = DagRun.dag_id == self.model.dag_id
        known = set(self.session.scalars(select(DagRun.id).where(ours)))
        with time_machine.travel(at(clock), tick=False):
            assert self.model.next_dagrun_create_after <= at(clock)
            runner = SchedulerJobRunner(job=Job(), executors=[LocalExecutor()])
            runner._create_dag_runs([self.model], self.session)
        self.session.flush()
        created = self.session.scalars(select(DagRun).where(ours, DagRun.id.not_in(known))).all()
        return [f"{run.run_after:%H:%M:%S}" for run in created]

    def parsed(self, clock: str) -> None:
        """Let the dag-processor compute the next tick."""
        from airflow.dag_processing.collection import _get_latest_runs_stmt

        last = self.session.scalar(_get_latest_runs_stmt(self.model.dag_id))
        with time_machine.travel(at(clock), tick=False):
            self.model.calculate_dagrun_date_fields(self.serialized, reference_run=last)
        self.session.flush()

    @property
    def next(self) -> str:
        following = self.model.next_dagrun_create_after
        assert (following is None) == (self.model.next_dagrun is None)
        return f"{following:%H:%M:%S}" if following else ""


@pytest.fixture
def deployment(airflow_db, monkeypatch):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.session import create_session

    with create_session() as session:
        DagBundlesManager().sync_bundles_to_db(session=session)
    with create_session() as session:
        yield Deployment(session, monkeypatch)
        session.rollback()


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


@pytest.mark.parametrize("kind", ["scheduled", "manual"])
def test_skip(deployment, kind):
    deployment.store("@hourly")
    deployment.run(kind, "08:00:00", "08:00:02", "09:00:20")
    deployment.due("09:00:00")
    assert deployment.scheduler_comes("09:00:21") == []
    assert deployment.next == "10:00:00"


def test_skip_drops_all_ticks_of_a_long_run_but_not_the_one_after_it(deployment):
    deployment.store("@hourly")
    deployment.run("scheduled", "08:00:00", "08:00:02", "11:59:59")
    deployment.due("09:00:00")
    assert deployment.scheduler_comes("12:00:01") == ["12:00:00"]


def test_skip_looks_at_what_was_going_when_the_tick_came(deployment):
    # A person started this one while the scheduler was on its way to the tick.
    deployment.store("@hourly")
    deployment.run("manual", "09:00:01", "09:00:02", "09:00:05")
    deployment.due("09:00:00")
    assert deployment.scheduler_comes("09:00:06") == ["09:00:00"]


def test_delay(deployment):
    deployment.store("@hourly", overlap="delay")
    deployment.run("scheduled", "08:00:00", "08:00:02", "09:20:00")
    deployment.due("09:00:00")
    assert deployment.scheduler_comes("09:20:01") == ["09:00:00"]
    assert deployment.next == "10:00:00"


def test_delay_makes_one_run_of_many_ticks(deployment):
    deployment.store("@hourly", overlap="delay")
    deployment.run("scheduled", "08:00:00", "08:00:02", "11:20:00")
    deployment.due("09:00:00")
    assert deployment.scheduler_comes("11:20:01") == ["11:00:00"]
    assert deployment.next == "12:00:00"


def test_delay_does_not_outlive_a_long_outage(deployment):
    deployment.store("0 9 * * *", overlap="delay")
    deployment.run("scheduled", "08:00:00", "08:00:02", "09:20:00")
    deployment.due("09:00:00")
    deployment.up_since("15:00:00")
    assert deployment.scheduler_comes("15:00:10") == []


def test_allow(deployment):
    deployment.store("@hourly", overlap="allow")
    deployment.run("scheduled", "08:00:00", "08:00:02", None)
    deployment.due("09:00:00")
    assert deployment.scheduler_comes("09:00:01") == ["09:00:00"]


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


def test_a_moment_that_passed_while_paused_is_over(deployment):
    deployment.store("@at 2027-03-10T09:00:00Z")
    deployment.unpaused("09:00:05")
    assert deployment.scheduler_comes("09:00:06") == []
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
    run = _only_run(deployment)
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
    run = _only_run(deployment)
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
            dag_run=_only_run(deployment),
            state=DagRunMutableStates(state),
            session=deployment.session,
        )
    assert deployment.next == "08:25:00"


def _only_run(deployment):
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    return deployment.session.scalars(select(DagRun).where(DagRun.dag_id == deployment.model.dag_id)).one()


def test_the_scheduler_reads_what_the_file_says(deployment):
    deployment.store("CRON_TZ=Asia/Shanghai 0 30 3 * * *", overlap="delay", dst="vixie")
    again = deployment.serialized.timetable
    assert str(again.schedule) == "CRON_TZ=Asia/Shanghai 0 30 3 * * *"
    assert (again.overlap, again.schedule.dst) == ("delay", "vixie")
    assert deployment.model.timetable_summary == "CRON_TZ=Asia/Shanghai 0 30 3 * * *"
    assert deployment.model.timetable_description == "every day at 03:30:00 Asia/Shanghai"
