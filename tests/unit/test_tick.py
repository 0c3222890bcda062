from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk import Param

from iam_watcher import Lock, Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.release import _all_went_well
from iam_watcher.lock.tick import Tick, tick_of
from iam_watcher.timetables import timetable

DAY = 86_400.0
AFTER = datetime(2027, 3, 10, 3, 30, tzinfo=UTC)


def tick(spec: str, run_type: str = "scheduled", run_after: datetime = AFTER) -> Tick | None:
    run = SimpleNamespace(dag_id="clean", run_type=run_type, run_after=run_after)
    dag = SimpleNamespace(timetable=timetable(spec), tasks=[])
    return tick_of({"dag_run": run, "dag": dag, "params": {}})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("spec", "kept"),
    [("@every 10m", DAY), ("0 30 3 * * *", 2 * DAY), ("30 3 * * 3", 14 * DAY)],
)
def test_a_tick_is_remembered_for_two_intervals_or_a_day(spec: str, kept: float) -> None:
    assert tick(spec) == Tick("clean:2027-03-10T03:30:00.000000Z", kept)


def test_a_tick_has_one_name_in_all_time_zones() -> None:
    here = AFTER.astimezone(timezone(timedelta(hours=8)))
    assert tick("@daily", run_after=here) == tick("@daily")


def test_two_ticks_have_two_names() -> None:
    assert tick("@daily").name != tick("@daily", run_after=AFTER + timedelta(microseconds=1)).name


@pytest.mark.parametrize("run_type", ["manual", "asset_triggered", "operator_triggered"])
def test_other_runs_are_for_no_tick(run_type: str) -> None:
    assert tick("@daily", run_type) is None


@pytest.mark.parametrize(
    ("lock", "name", "kept"),
    [
        (Lock(), "clean:2027-03-10T03:30:00.000000Z", DAY),
        (Lock(once_per_tick=False, max_hold=timedelta(hours=1), database_lock=False), "", 0.0),
    ],
)
def test_a_run_asks_for_its_tick_unless_each_deployment_does_it(lock: Lock, name: str, kept: float) -> None:
    run = SimpleNamespace(dag_id="clean", run_id="r", run_type="scheduled", run_after=AFTER)
    dag = SimpleNamespace(timetable=timetable("@every 10m"), tasks=[])
    grant = Grant.of(lock, {"dag_run": run, "dag": dag, "params": {}})  # type: ignore[typeddict-item]
    assert (grant.tick, grant.tick_kept) == (name, kept)
    assert (grant.on_busy, grant.database_lock) == (lock.on_busy, lock.database_lock)
    assert grant.max_hold == (lock.max_hold and lock.max_hold.total_seconds())
    assert grant.key == "iam-watcher:clean", "without `per_tick`, all runs have one key"


def test_a_tick_that_has_no_next_one_is_remembered_for_a_day() -> None:
    assert tick(f"@at {AFTER:%Y-%m-%dT%H:%M:%SZ}").kept == DAY
    run = SimpleNamespace(dag_id="clean", run_type="scheduled", run_after=AFTER)
    dag = SimpleNamespace(timetable=SimpleNamespace(), tasks=[])  # a timetable of Airflow
    assert tick_of({"dag_run": run, "dag": dag, "params": {}}).kept == DAY  # type: ignore[typeddict-item]


PURGE = {"task_id": "purge", "table": "t", "age_column": "a", "older_than_days": 1}


@pytest.mark.parametrize(
    ("param", "given", "mapped", "dry"),
    [
        (None, False, False, False),
        (None, True, False, True),
        (None, True, True, True),
        (None, False, True, False),
        (False, "{{ params.dry_run }}", False, False),
        (True, "{{ params.dry_run }}", False, True),
        (True, "{{ params.dry_run }}", True, True),
    ],
)
def test_a_dry_run_is_for_no_tick(param: bool | None, given: object, mapped: bool, dry: bool) -> None:
    """It did not do the work, so another deployment must still do it."""
    params = {} if param is None else {"dry_run": Param(param, type="boolean")}
    with Watcher("dry_tick", schedule="@daily", params=params) as dag:
        if mapped:
            PurgeRowsOperator.partial(**PURGE, dry_run=given).expand(where=[[("b", "=", 1)]])
        else:
            PurgeRowsOperator(**PURGE, dry_run=given)
    run = SimpleNamespace(dag_id="dry_tick", run_type="scheduled", run_after=AFTER)
    context = {"dag_run": run, "dag": dag, "params": dag.params.dump()}
    assert (tick_of(context) is None) == dry  # type: ignore[arg-type]


def test_after_a_run_its_whole_interval_is_one_tick() -> None:
    """But the next run of the same deployment, which begins when it is over, must not meet the mark."""
    first = tick("@after 10m")
    assert first == tick("@after 10m", run_after=AFTER + timedelta(minutes=5))
    assert 590 <= first.kept < 600


def test_the_runs_after_a_run_have_one_key_in_all_deployments() -> None:
    """`overlap` has no effect on them, and each deployment has other times."""
    with Watcher("often", schedule="@after 5m", overlap="allow", max_active_runs=2) as dag:
        PurgeRowsOperator(**PURGE)
    keys = set()
    for seconds in (0, 7):
        after = AFTER + timedelta(seconds=seconds)
        run = SimpleNamespace(dag_id="often", run_id="r", run_type="scheduled", run_after=after)
        context = {"dag_run": run, "dag": dag, "params": {}}
        keys.add(Grant.of(Lock(), context, per_tick=dag.task_dict["acquire"].per_tick).key)  # type: ignore[arg-type, attr-defined]
    assert keys == {"iam-watcher:often"}


def states_are(**states: str) -> bool:
    ti = SimpleNamespace(dag_id="clean", run_id="r", get_task_states=lambda **_: {"r": states})
    return _all_went_well({"ti": ti})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("work", "done"),
    [
        ({"a": "success"}, True),
        ({"a": "success", "b": "skipped", "c": "removed"}, True),
        ({"a": "success", "b": "failed"}, False),
        ({"a": "success", "b": "upstream_failed"}, False),
        ({"a": "success", "b": "up_for_retry"}, False),
        ({"a": "skipped"}, False),
    ],
)
def test_a_tick_is_done_when_all_its_work_ended_well(work: dict[str, str], done: bool) -> None:
    assert states_are(acquire="success", release="running", **work) == done
