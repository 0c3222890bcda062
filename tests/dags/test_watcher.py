"""How a Watcher is built, and what it refuses.

Each test defines a Watcher, and there is one for each refusal: hence the length.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup, task
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

from iam_watcher import Lock, Watcher, watcher
from iam_watcher.errors import InvalidSpec, WatcherError
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.schedule import describe, parse


def test_the_lock_stands_around_any_shape_of_tasks() -> None:
    with Watcher("shape", schedule=None) as dag:
        first = EmptyOperator(task_id="first")
        with TaskGroup("group"):
            inner = EmptyOperator(task_id="inner")
        EmptyOperator(task_id="alone")

        @task
        def mapped(x: int) -> int:
            return x

        first >> inner
        mapped.expand(x=[1, 2])
    assert dag.task_dict["acquire"].downstream_task_ids == {"first", "alone", "mapped", "release"}
    assert dag.task_dict["release"].upstream_task_ids == {"group.inner", "alone", "mapped", "acquire"}


def test_the_defaults_of_a_watcher() -> None:
    with Watcher("defaults", schedule="@every 1d", tags=["mine"], default_args={"owner": "ops"}) as dag:
        work = EmptyOperator(task_id="work")
    assert dag.tags == {"mine", "iam-watcher"}
    assert dag.doc_md == __doc__
    assert dag.fileloc == __file__
    assert (work.retries, work.retry_delay, work.owner) == (2, timedelta(seconds=10), "ops")
    assert dag.lock == Lock()


def test_an_argument_of_the_task_wins_over_the_defaults() -> None:
    with Watcher("own", schedule=None, default_args={"retries": 1}):
        assert EmptyOperator(task_id="inherits").retries == 1
        assert EmptyOperator(task_id="own", retries=5).retries == 5


def test_without_a_lock_the_tasks_are_those_of_the_body() -> None:
    with Watcher("free", schedule=None, lock=None) as dag:
        EmptyOperator(task_id="work")
    assert set(dag.task_dict) == {"work"}


def test_a_key_is_enough_of_a_lock() -> None:
    with Watcher("keyed", schedule=None, lock="clean") as dag:
        EmptyOperator(task_id="work")
    assert dag.lock == Lock("clean")


def test_a_native_timetable_passes_through() -> None:
    from airflow.timetables.trigger import CronTriggerTimetable

    timetable = CronTriggerTimetable("0 4 * * *", timezone="UTC")
    with Watcher("native", schedule=timetable) as dag:
        EmptyOperator(task_id="work")
    assert dag.timetable is timetable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"dagrun_timeout": timedelta(hours=1)},
            "dagrun_timeout=.* would skip the release.*execution_timeout",
        ),
        ({"dagrun_timeout": timedelta(0)}, "dagrun_timeout=.* would skip the release"),
        ({"catchup": True}, "catchup=True"),
        ({"end_date": datetime(2090, 1, 1, tzinfo=UTC)}, "would make a run green that is triggered after it"),
        ({"fail_fast": True}, "fail_fast=True turns a failed run green"),
        (
            {"task_group": TaskGroup("group", dag=DAG("other", schedule=None))},
            "task_group=.* would give `acquire`",
        ),
        ({"tags": "abc"}, r"tags='abc' is one text; expected a list of texts: tags=\['abc'\]"),
        ({"tags": [1]}, r"tags=\[1\]; expected a list of texts"),
        ({"conf_keys": "ticket"}, r"conf_keys='ticket' is one text.*conf_keys=\['ticket'\]"),
        ({"params": ["dry_run"]}, r"params=\['dry_run'\]; expected a dict"),
        ({"start_date": datetime(2090, 1, 1, tzinfo=UTC)}, "start_date=2090.* is in the future"),
        ({"start_date": datetime(2090, 1, 1)}, "start_date=2090.* is in the future"),  # noqa: DTZ001
        ({"start_date": "2020-01-01"}, "start_date='2020-01-01'; expected a datetime"),
        ({"default_args": {"start_date": "2090-01-01"}}, "start_date=2090.* in the future"),
        (
            {"default_args": {"start_date": datetime(2090, 1, 1, tzinfo=UTC)}},
            "start_date=2090.* in the future",
        ),
        ({"default_args": {"retry_delay": "10s"}}, "retry_delay='10s'; expected a timedelta, or seconds"),
        ({"default_args": [("retries", 3)]}, r"default_args=\[\('retries', 3\)\]; expected a dict"),
        ({"default_args": {"retries": "three"}}, "retries='three'; expected a whole number of 0 or more"),
        ({"default_args": {"retries": True}}, "retries=True; expected a whole number of 0 or more"),
        ({"default_args": {"retries": -1}}, "retries=-1; expected a whole number of 0 or more"),
        ({"max_active_runs": 2}, "max_active_runs=2; expected 1"),
        ({"schedule": None, "overlap": "dealy"}, "overlap='dealy'; expected one of skip, delay, allow"),
        ({"schedule": "@daily", "overlap": "dealy"}, "overlap='dealy'; expected one of skip, delay, allow"),
        ({"schedule": None, "overlap": None}, "overlap=None; expected one of skip, delay, allow"),
        ({"overlap": "allow"}, "overlap='allow' needs max_active_runs of 2 or more, got 1"),
        ({"overlap": "allow", "max_active_runs": "3"}, "needs max_active_runs of 2 or more, got '3'"),
        ({"lock": 60}, "lock=60; expected a Lock, the key of one, or None"),
        ({"on_busy": "fail"}, r"on_busy belongs to the lock: lock=Lock\(on_busy=\.\.\.\)"),
        ({"schedule": None, "overlap": "delay"}, "belong to a schedule given as a text"),
    ],
)
def test_arguments_that_contradict_a_watcher(arguments: dict, message: str) -> None:
    with pytest.raises(WatcherError, match=f"'refused': .*{message}"):
        Watcher("refused", **{"schedule": "@every 1d", **arguments})


@pytest.mark.parametrize("dag_id", [None, 5, ["refused"]])
def test_a_name_that_is_no_text(dag_id: object) -> None:
    with pytest.raises(WatcherError, match=r"dag_id=.*; expected a text"):
        Watcher(dag_id, schedule=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("dry-run", "dry_run"), ("dryrun", "dry_run"), ("is_dry_run", "dry_run"), ("max_row", "max_rows")],
)
@pytest.mark.parametrize("place", ["watcher", "group", "mapped"])
def test_a_misspelt_argument_of_a_job_in_default_args(name: str, meant: str, place: str) -> None:
    """Airflow would ignore it, and the job would delete."""
    given = {name: True}
    options = {"task_id": "purge", "table": "t", "age_column": "a"}

    def build() -> None:
        with Watcher("slip", schedule=None, default_args={} if place == "group" else given):
            if place == "group":
                with TaskGroup("group", default_args=given):
                    PurgeRowsOperator(**options, older_than="90d")
            elif place == "mapped":
                PurgeRowsOperator.partial(**options).expand(older_than=["90d"])
            else:
                PurgeRowsOperator(**options, older_than="90d")

    said = f"default_args has '{name}', which no task of 'slip' takes; did you mean '{meant}'"
    with pytest.raises(WatcherError, match=said):
        build()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("exempt_name", "exempt_names"),
        ("exemptNames", "exempt_names"),
        ("exempt_admin", "exempt_admins"),
        ("min_age_day", "min_age_days"),
        ("warn_day", "warn_days"),
        ("on_disabled", "on_disable"),
        ("throtle", "throttle"),
    ],
)
def test_a_misspelt_argument_that_says_which_users_stay(name: str, meant: str) -> None:
    with (
        pytest.raises(WatcherError, match=f"default_args has '{name}', .*; did you mean '{meant}'"),
        Watcher("slip", schedule=None, default_args={name: 30}),
    ):
        DisableInactiveUsersOperator(task_id="disable", max_inactive_days=180)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("wher", "where"), ("keep_lasts", "keep_last"), ("orphan_of", "orphans_of"), ("redacts", "redact")],
)
def test_a_misspelt_argument_that_says_which_rows_stay(name: str, meant: str) -> None:
    with (
        pytest.raises(WatcherError, match=f"default_args has '{name}', .*; did you mean '{meant}'"),
        Watcher("slip", schedule=None, default_args={name: 5}),
    ):
        PurgeRowsOperator(task_id="purge", table="t", age_column="a", older_than="90d")


@pytest.mark.parametrize("name", ["dry_run", "dry-run", "is_dry_run"])
def test_a_dry_run_in_conf_keys_that_no_job_would_read(name: str) -> None:
    """Without a job, a task may read it itself."""

    def build(*tasks: Any) -> None:
        with Watcher("keys", schedule=None, conf_keys=["ticket", name]):
            EmptyOperator(task_id="look")
            for one in tasks:
                one(task_id="purge", table="t", age_column="a", older_than="90d")

    build()
    said = rf"conf_keys has '{name}'.*because task 'purge' does not read it.*params=.*dry_run"
    with pytest.raises(WatcherError, match=said):
        build(PurgeRowsOperator)


def test_times_of_default_args_that_airflow_takes() -> None:
    given = {"start_date": "2024-01-01", "retry_delay": None}
    with Watcher("dated", schedule=None, default_args=given) as dag:
        EmptyOperator(task_id="work")
    assert dag.start_date == datetime(2024, 1, 1, tzinfo=UTC)


def test_default_args_may_have_arguments_of_other_dags() -> None:
    given = {"dry_run": True, "max_rows": 5, "max_row": 5, "mssql_conn_id": "erp", "tables": ["t"]}
    # Of operators of other systems: S3, files, a database.
    given |= {
        "keys": ["a"],
        "perm": "0644",
        "whereclause": "a",
        "columns": ["a"],
        "keepalive": 5,
        "user": "a",
    }
    with Watcher("shared", schedule=None, default_args=given) as dag:
        purge = PurgeRowsOperator(task_id="purge", table="t", age_column="a", older_than="90d")
    assert (purge.is_dry_run, purge.max_rows, dag.task_ids) == (True, 5, ["purge", "acquire", "release"])


@pytest.mark.parametrize(
    ("arguments", "length"),
    [
        ({}, 200),
        ({"overlap": "allow", "max_active_runs": 2}, 172),
        ({"overlap": "allow", "max_active_runs": 2, "lock": "k" * 160}, 172),
    ],
)
def test_a_key_that_would_be_too_long(arguments: dict, length: int) -> None:
    """Runs beside each other have the tick in their keys, 28 characters."""
    longest = "d" * (length - len("iam-watcher:"))
    Watcher(longest, schedule="@every 1d", **arguments)
    own = {} if "lock" not in arguments else {"lock": "k" * 173}
    with pytest.raises(WatcherError, match="characters; expected 200 at most") as caught:
        Watcher(f"{longest}d", schedule="@every 1d", **{**arguments, **own})
    assert f"'{longest}d'" in str(caught.value)
    assert "Give it a shorter one: lock=" in str(caught.value)


def test_the_originals_own_spec_is_a_schedule_here() -> None:
    """robfig/cron has no day unit: the original's jobs never ran, without an error."""
    with Watcher("daily", schedule="@every 1d") as dag:
        EmptyOperator(task_id="work")
    assert dag.timetable.summary


def test_the_id_of_a_watcher_decides_the_values_of_a_tilde() -> None:
    def stored(dag_id: str, schedule: str) -> Any:
        with Watcher(dag_id, schedule=schedule) as dag:
            EmptyOperator(task_id="work")
        return DagSerialization.deserialize_dag(json.loads(json.dumps(DagSerialization.serialize_dag(dag))))

    ticks = {}
    for dag_id in ("clean_policy_audit", "disable_inactive_users"):
        again = stored(dag_id, "CRON_TZ=Asia/Shanghai @daily~")
        expected = parse("CRON_TZ=Asia/Shanghai @daily~", dag_id=dag_id)
        assert again.timetable.schedule == expected
        assert again.timetable.summary == "CRON_TZ=Asia/Shanghai @daily~"
        assert again.timetable.description == describe(expected)
        first = again.timetable.next_dagrun_info_v2(
            last_dagrun_info=None, restriction=TimeRestriction(earliest=None, latest=None, catchup=False)
        )
        assert first.run_after == expected.next(datetime.now(UTC))
        ticks[dag_id] = first.run_after
    assert len(set(ticks.values())) == 2

    @watcher("clean_policy_audit", schedule="@daily~")
    def work() -> None: ...

    assert str(work.timetable.schedule) == "6 33 17 * * *"


def test_a_tilde_that_is_not_valid() -> None:
    with pytest.raises(InvalidSpec, match=r"'backwards'.*minute: '5~3'; expected a range from the lower"):
        Watcher("backwards", schedule="5~3 * * * *")


def test_a_watcher_in_a_dag() -> None:
    with DAG("outer", schedule=None), pytest.raises(WatcherError, match="'inner' is inside 'outer'"):
        Watcher("inner", schedule=None).__enter__()


@pytest.mark.parametrize("node_id", ["acquire", "release"])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_task_or_a_group_with_a_name_of_the_lock(node_id: str, grouped: bool) -> None:
    said = f"'taken' has a task or task group '{node_id}'"
    with pytest.raises(WatcherError, match=said), Watcher("taken", schedule=None):
        EmptyOperator(task_id="work", task_group=TaskGroup(node_id)) if grouped else EmptyOperator(
            task_id=node_id
        )


def test_a_second_with() -> None:
    with Watcher("again", schedule=None) as dag:
        EmptyOperator(task_id="work")
    with pytest.raises(WatcherError, match="'again' has a second `with`"), dag:
        pass


@pytest.mark.parametrize(("given", "retries"), [(None, 0), ("3", 3), (0, 0)])
def test_retries_as_airflow_takes_them(given: object, retries: int) -> None:
    with Watcher("odd", schedule=None, default_args={"retries": given}) as dag:
        work = BashOperator(task_id="work", bash_command="true")
    serialized = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert {name: task.retries or 0 for name, task in serialized.task_dict.items()} == {
        "acquire": 2,
        work.task_id: retries,
        "release": 6,
    }


def test_an_error_in_the_body_is_the_one_that_is_shown() -> None:
    with pytest.raises(ZeroDivisionError), Watcher("broken", schedule=None):
        1 / 0  # noqa: B018  the error


def test_a_bad_spec_is_refused_before_anything_else() -> None:
    with pytest.raises(InvalidSpec, match="30 2"):
        Watcher("never", schedule="0 0 30 2 *")


def test_the_tasks_own_pre_execute_still_runs() -> None:
    def own(context) -> None: ...

    with Watcher("own_hook", schedule=None):
        work = BashOperator(task_id="work", bash_command="true", pre_execute=own)
    assert work._pre_execute_hook is not own
    assert own in [cell.cell_contents for cell in work._pre_execute_hook.__closure__]


@pytest.mark.parametrize("name", ["dryRun", "Dry_run"])
def test_a_form_may_spell_dry_run_otherwise(name: str) -> None:
    with (
        pytest.raises(
            WatcherError, match=rf"change rows although the param {name} is set; give the task dry_run"
        ),
        Watcher("dry_form", schedule="@daily", params={name: False}),
    ):
        PurgeRowsOperator(task_id="purge", table="t", age_column="a", older_than_days=1)


def test_a_job_that_would_write_although_the_form_says_dry_run() -> None:
    said = r"""'deaf': task 'purge' would change rows.*dry_run="{{ params.dry_run }}\""""
    with pytest.raises(WatcherError, match=said), Watcher("deaf", schedule=None, params={"dry_run": False}):
        PurgeRowsOperator(task_id="purge", table="session", age_column="endedAt", older_than_days=30)


def test_a_mapped_job_that_would_write_although_the_form_says_dry_run() -> None:
    params = {"dry_run": False}
    with pytest.raises(WatcherError, match="'deaf'"), Watcher("deaf", schedule=None, params=params):
        PurgeRowsOperator.partial(task_id="purge", age_column="endedAt", older_than_days=30).expand(
            table=["session"]
        )


def test_a_job_that_is_always_dry_may_stand_beside_the_forms_dry_run() -> None:
    with Watcher("dry", schedule=None, params={"dry_run": False}) as dag:
        PurgeRowsOperator(
            task_id="count", table="session", age_column="endedAt", older_than_days=30, dry_run=True
        )
    assert dag.task_dict["count"].is_dry_run is True


def teardown(**arguments: bool) -> None:
    setup = EmptyOperator(task_id="begin").as_setup()
    work = EmptyOperator(task_id="work")
    end = EmptyOperator(task_id="end").as_teardown(setups=setup, **arguments)
    setup >> work >> end


def test_a_teardown_by_which_alone_a_run_would_be_judged() -> None:
    said = r"'judged': task 'end' has on_failure_fail_dagrun=True.*Remove it"
    with pytest.raises(WatcherError, match=said), Watcher("judged", schedule=None):
        teardown(on_failure_fail_dagrun=True)


@pytest.mark.parametrize(
    ("name", "cure"), [("start_date", "Give it to the Watcher"), ("end_date", "Remove it")]
)
@pytest.mark.parametrize("where", ["task", "mapped", "default_args"])
def test_a_task_that_airflow_would_leave_out_of_a_run(name: str, cure: str, where: str) -> None:
    """The other tasks work, and the run is green."""
    own = {name: datetime(2020 if name == "end_date" else 2021, 1, 1, tzinfo=UTC)}
    given = {"default_args": own, "start_date": datetime(2020, 1, 1, tzinfo=UTC)}

    def build() -> None:
        if where == "mapped":
            BashOperator.partial(task_id="work", **own).expand(bash_command=["true"])
        else:
            EmptyOperator(task_id="work", **own if where == "task" else {})

    dag = Watcher("dated", schedule=None, **given if where == "default_args" else {})
    with pytest.raises(WatcherError, match=f"'dated': task 'work' has the {name} 20.*green. {cure}"), dag:
        build()


def test_the_start_date_of_the_watcher_is_that_of_its_tasks() -> None:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    with Watcher("dated", schedule=None, default_args={"start_date": start}) as dag:
        EmptyOperator(task_id="work")
    assert {task.start_date for task in (dag, *dag.tasks)} == {start}


def test_setups_and_teardowns_of_ones_own_stand_inside_the_lock() -> None:
    with Watcher("own_setup", schedule=None) as dag:
        teardown()
    dag.validate()
    assert dag.task_dict["acquire"].downstream_task_ids == {"begin", "release"}
    assert dag.task_dict["release"].upstream_task_ids == {"end", "acquire"}
