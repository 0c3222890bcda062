"""Schedules under a real scheduler: which runs exist, for which tick, from when to when.

The short part watches a few Watchers for about two minutes; the long one also stops the scheduler, pauses
and triggers.

All tests look at the runs of one scheduler, which takes minutes: hence the length.
"""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import pytest

from dev.airflow import Airflow
from dev.migrated import copy_migrated
from dev.sessions import wait_until

pytestmark = pytest.mark.e2e

HEAD = '''"""An Airflow DAG file for the tests of schedules: Watchers without locks."""
from datetime import timedelta
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from iam_watcher import Watcher


def watch(dag_id, schedule, command="", **arguments):
    with Watcher(dag_id, schedule=schedule, lock=None, default_args={"retries": 0}, **arguments):
        if command:
            BashOperator(task_id="work", bash_command=command)
        else:
            EmptyOperator(task_id="work")


'''
# Longer than the 20 seconds between its ticks.
LONG = "sleep 24"
SHORT_PART = f"""
watch("cron", "*/10 * * * * *")
watch("skip", "@every 20s", "{LONG}")
watch("delay", "@every 20s", "{LONG}", overlap="delay")
watch("after", "@after 10s")
watch("fails", "@every 20s", "exit 1")
"""
LONG_PART = f"""
watch("cron", "*/10 * * * * *")
watch("allow", "@every 20s", "{LONG}", overlap="allow", max_active_runs=3)
watch("after_long", "@after 10s", "{LONG}")
watch("manual", "@every 20s", "sleep {{{{ 30 if dag_run.run_type == 'manual' else 0 }}}}")
watch("missed", "@every 1m", missed_grace=timedelta(minutes=10))
watch("never_made_up", "@every 20s", missed_grace=timedelta(0))
watch("new_cron", "@every 20s", missed_grace=timedelta(hours=1), is_paused_upon_creation=True)
watch("new_after", "@after 1h", is_paused_upon_creation=True)
watch("once", "@at 2020-01-01T00:00:00Z")
"""
# From a tick to the start of its run, on a machine with a lot to do: the scheduler's loop and the tests.
PROMPT = timedelta(seconds=9)
OUTAGE = 75


class Run(NamedTuple):
    tick: datetime
    start: datetime | None
    end: datetime | None
    state: str
    type: str


class Deployment(Airflow):
    """An Airflow whose DAG runs are easy to look at."""

    def runs(self, dag_id: str, kind: str = "scheduled") -> list[Run]:
        answer = self.api(f"/dags/{dag_id}/dagRuns?order_by=run_after&limit=100&run_type={kind}")
        return [
            Run(
                datetime.fromisoformat(run["run_after"]),
                run["start_date"] and datetime.fromisoformat(run["start_date"]),
                run["end_date"] and datetime.fromisoformat(run["end_date"]),
                run["state"],
                run["run_type"],
            )
            for run in answer["dag_runs"]
        ]

    def ended(self, dag_id: str, count: int, seconds: float, kind: str = "scheduled") -> list[Run]:
        """Wait until so many runs have ended and return them."""
        found: list[Run] = []

        def enough() -> bool:
            found[:] = [run for run in self.runs(dag_id, kind) if run.end]
            return len(found) >= count

        assert wait_until(enough, seconds, pause=0.5), found
        return found

    def pause(self, dag_id: str, paused: bool) -> datetime:
        self.api(f"/dags/{dag_id}", {"is_paused": paused}, method="PATCH")
        return datetime.now(UTC)

    def stored(self) -> set[str]:
        return {dag["dag_id"] for dag in self.api("/dags?limit=100")["dags"]}


def start(folder, watchers):
    (folder / "dags").mkdir()
    (folder / "dags" / "watchers.py").write_text(HEAD + watchers)
    airflow = Deployment(
        folder / "home",
        deployment_id="schedules",
        dags_folders=(folder / "dags",),
        options={
            "AIRFLOW__CORE__PARALLELISM": "8",
            # A restart right after a crash must not wait for the crashed one's heartbeat to grow old.
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
        },
    )
    copy_migrated(airflow.home)
    airflow.start(["api-server", "scheduler", "dag-processor"])
    airflow.wait_healthy()
    wanted = watchers.count("watch(")
    assert wait_until(lambda: len(airflow.stored()) == wanted, 60, pause=0.5), airflow.stored()
    return airflow


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    with start(tmp_path_factory.mktemp("short"), SHORT_PART) as airflow:
        yield airflow


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    with start(tmp_path_factory.mktemp("long"), LONG_PART) as airflow:
        yield airflow


def distances(runs: list[Run]) -> set[float]:
    return {(late.tick - early.tick).total_seconds() for early, late in pairwise(runs)}


def assert_prompt(runs: list[Run]) -> None:
    assert [run for run in runs if run.start - run.tick > PROMPT] == []


def test_cron_by_the_second(short):
    runs = short.ended("cron", 8, 120)
    assert all(run.tick.second % 10 == 0 and run.tick.microsecond == 0 for run in runs)
    assert distances(runs) == {10}
    assert_prompt(runs)


def test_skip(short):
    runs = short.ended("skip", 3, 240)
    for early, late in pairwise(runs):
        # The first tick after the end, and no other; started for that tick, not for an older one.
        assert late.tick > early.end > late.tick - timedelta(seconds=20)
    assert_prompt(runs)


def test_delay(short):
    runs = short.ended("delay", 4, 300)
    for early, late in pairwise(runs):
        # The latest tick when the run before ended; or the first after that, if none had come.
        assert late.tick - early.end < timedelta(seconds=20)
        assert late.start - max(early.end, late.tick) < PROMPT
    assert any(late.tick < early.end for early, late in pairwise(runs))


def test_after(short):
    runs = short.ended("after", 4, 120)
    for early, late in pairwise(runs):
        assert late.tick - early.end == timedelta(seconds=10)
    assert_prompt(runs)


def test_a_failure_does_not_stop_the_schedule(short):
    runs = short.ended("fails", 3, 120)
    assert {run.state for run in runs} == {"failed"}
    # On a slow machine the failure itself takes longer than the interval, and a tick is skipped.
    assert distances(runs) <= {20, 40}


def test_allow(long):
    runs = long.ended("allow", 4, 300)
    assert distances(runs) == {20}
    assert any(late.start < early.end for early, late in pairwise(runs))


def test_after_a_long_run(long):
    runs = long.ended("after_long", 3, 300)
    for early, late in pairwise(runs):
        assert late.tick - early.end == timedelta(seconds=10)


def test_an_old_moment_does_not_come_again(long):
    assert long.runs("once") == []


def test_a_manual_run_beside(long):
    long.ended("manual", 1, 120)
    asked = datetime.now(UTC)
    long.api("/dags/manual/dagRuns", {"logical_date": None})
    [manual] = long.ended("manual", 1, 180, "manual")
    assert manual.start - asked < PROMPT
    behind = len([run for run in long.runs("manual") if run.end])
    runs = long.ended("manual", behind + 1, 120)
    # No tick of its time ran, then or later; the next one did.
    assert [run for run in runs if manual.start < run.tick < manual.end] == []
    following = next(run for run in runs if run.tick > manual.end)
    assert following.tick - manual.end < timedelta(seconds=20)

    long.ended("after_long", 1, 180)
    before = long.runs("after_long")
    long.api("/dags/after_long/dagRuns", {"logical_date": None})
    long.ended("after_long", 1, 240, "manual")
    runs = long.ended("after_long", len(before) + 1, 240)
    for early, late in pairwise(runs):
        assert late.tick - early.end == timedelta(seconds=10)


def test_the_first_unpause_is_no_surprise(long):
    assert long.runs("new_cron") == []
    # In the middle between two ticks.
    assert wait_until(lambda: 8 <= time.time() % 20 <= 12, 20)
    unpaused = long.pause("new_cron", False)
    first = long.ended("new_cron", 1, 60)[0]
    assert unpaused < first.tick <= unpaused + timedelta(seconds=20)

    unpaused = long.pause("new_after", False)
    first = long.ended("new_after", 1, 60)[0]
    assert first.start - unpaused < PROMPT
    assert len(long.runs("new_after")) == 1


def test_missed_while_paused(long):
    for dag_id in ("missed", "never_made_up"):
        long.ended(dag_id, 1, 120)
    paused = max(long.pause("missed", True), long.pause("never_made_up", True))
    # Until at least one tick of each has passed, and some way into the next.
    assert wait_until(lambda: time.time() > paused.timestamp() + 65 and 20 <= time.time() % 60 <= 30, 150)
    before = len(long.runs("missed"))
    unpaused = min(long.pause("missed", False), long.pause("never_made_up", False))

    [made_up] = long.ended("missed", before + 1, 60)[before:]
    assert unpaused - timedelta(minutes=1) < made_up.tick < unpaused
    assert made_up.start > unpaused - timedelta(seconds=1)
    count = len(long.runs("never_made_up"))
    runs = long.ended("never_made_up", count + 1, 60)
    assert [run for run in runs if paused < run.tick < unpaused] == []


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_missed_while_the_scheduler_was_down(long, ending):
    scheduler = long.processes.pop("scheduler")
    scheduler.signal(ending)
    scheduler.stop()
    down = datetime.now(UTC)
    assert wait_until(lambda: time.time() > down.timestamp() + OUTAGE and 10 <= time.time() % 60 <= 30, 150)
    before = {dag_id: len(long.runs(dag_id)) for dag_id in ("missed", "never_made_up", "cron")}
    up = datetime.now(UTC)
    long.start(["scheduler"])

    runs = long.ended("missed", before["missed"] + 1, 120)
    [made_up] = [run for run in runs if down < run.tick < up]
    assert made_up.tick > up - timedelta(minutes=1)
    for dag_id in ("never_made_up", "cron"):
        runs = long.ended(dag_id, before[dag_id] + 2, 120)
        assert [run for run in runs if down < run.tick < up - timedelta(seconds=5)] == []
        # No burst: the runs since are those of the ticks since, each once.
        since = [run for run in runs if run.tick > up]
        assert distances(since) <= {10.0, 20.0}


def test_ten_seconds_for_five_minutes_without_a_miss(long):
    known = len(long.runs("cron"))
    runs = long.ended("cron", known + 30, 420)[known:]
    assert distances(runs) == {10}
    assert_prompt(runs)
