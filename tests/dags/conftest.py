"""The scheduler's own code on Airflow's own (SQLite) database, at times that a test chooses."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import time_machine
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from iam_watcher.timetables import history, timetable

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

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
            self.session.commit()
        created = self.session.scalars(select(DagRun).where(ours, DagRun.id.not_in(known))).all()
        return [f"{run.run_after:%H:%M:%S}" for run in created]

    def parsed(self, clock: str) -> None:
        """Let the dag-processor compute the next tick."""
        from airflow.dag_processing.collection import _get_latest_runs_stmt

        last = self.session.scalar(_get_latest_runs_stmt(self.model.dag_id))
        with time_machine.travel(at(clock), tick=False):
            self.model.calculate_dagrun_date_fields(self.serialized, reference_run=last)
        self.session.flush()

    def only_run(self) -> DagRun:
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        return self.session.scalars(select(DagRun).where(DagRun.dag_id == self.model.dag_id)).one()

    @property
    def next(self) -> str:
        following = self.model.next_dagrun_create_after
        assert (following is None) == (self.model.next_dagrun is None)
        return f"{following:%H:%M:%S}" if following else ""


@pytest.fixture
def deployment(airflow_db, monkeypatch):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        DagBundlesManager().sync_bundles_to_db(session=session)
    with create_session() as session:
        yield Deployment(session, monkeypatch)
        session.rollback()
        session.execute(delete(Log))  # An unpause of "all" DAGs would be one of the next test's.
