"""No argument of a DAG file reaches `acquire` and `release`: tables of all that operators and DAGs take.

The tables name every argument of Airflow: hence the length.
"""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, BaseOperator, BaseSensorOperator, ExceptionRetryPolicy, task
from airflow.serialization.serialized_objects import DagSerialization
from jinja2 import Undefined

from dev.airflow import ROOT
from iam_watcher import Watcher
from tests.dags.runs import BRIEF, states

if TYPE_CHECKING:
    from redis import Redis as Client


def callback(*_: Any) -> None: ...


# Each differs from Airflow's default. The tasks of the body take them.
HOSTILE: dict[str, Any] = {
    "allow_nested_operators": False,
    "depends_on_past": True,
    "doc": "text",
    "doc_json": "{}",
    "doc_md": "text",
    "doc_rst": "text",
    "doc_yaml": "a: 1",
    "do_xcom_push": False,
    "email": "a@example.com",
    "email_on_failure": False,
    "email_on_retry": False,
    "end_date": datetime(2020, 1, 2, tzinfo=UTC),
    "execution_timeout": timedelta(microseconds=1),
    "executor": "NoSuchExecutor",
    "executor_config": {"a": 1},
    "exponential_backoff": True,
    "ignore_first_depends_on_past": True,
    "inlets": [Asset("in")],
    "logger_name": "elsewhere",
    "map_index_template": "{{ nothing }}",
    "max_active_tis_per_dag": 1,
    "max_active_tis_per_dagrun": 1,
    "max_retry_delay": timedelta(days=9),
    "max_wait": timedelta(days=9),
    "mode": "reschedule",
    "multiple_outputs": True,
    "never_fail": False,
    "on_execute_callback": callback,
    "on_failure_callback": callback,
    "on_retry_callback": callback,
    "on_skipped_callback": callback,
    "on_success_callback": callback,
    "outlets": [Asset("out")],
    "owner": "somebody",
    "params": {"mine": 1},
    "poke_interval": 3600,
    "pool": "no_such_pool",
    "pool_slots": 99,
    "post_execute": callback,
    "pre_execute": callback,
    "priority_weight": 99,
    "queue": "no_such_queue",
    "render_template_as_native_obj": True,
    "resources": {"cpus": 1},
    "retries": 0,
    "retry_delay": timedelta(days=9),
    "retry_exponential_backoff": 9.0,
    "retry_policy": ExceptionRetryPolicy(rules=[]),
    "run_as_user": "nobody",
    "silent_fail": True,
    "sla": timedelta(days=9),
    "soft_fail": True,
    "start_date": datetime(2010, 1, 1, tzinfo=UTC),
    "task_display_name": "another",
    "timeout": 1,
    "trigger_rule": "none_failed",
    "wait_for_downstream": True,
    "wait_for_past_depends_before_skipping": True,
    "weight_rule": "upstream",
}
# What an operator is, and what Airflow itself fills in.
IDENTITY = {"self", "kwargs", "task_id", "dag", "default_args", "task_group"}
# Each Watcher has its own; they say nothing of `default_args`.
CHANGING = {"_dag", "_pre_execute_hook", "task_group", "_BaseOperator__init_kwargs"}
# Airflow makes these the DAG's, and so every task's.
OF_THE_DAG = {"params", "start_date"}
# A task with one is refused.
REFUSED = {"end_date"}
# On the body's task: the guard is around the first, the second is set by Airflow nowhere, a first task
# has no use for the third.
UNSEEN = {"pre_execute", "sla", "trigger_rule"}


def built(**arguments: Any) -> tuple[Watcher, BaseOperator]:
    with Watcher("hostile", schedule=None, **arguments) as dag:
        work = EmptyOperator(task_id="work")
    return dag, work


def comparable(task: BaseOperator) -> dict[str, Any]:
    """The attributes of a task; of the Watcher's own callbacks the functions, which all Watchers share."""
    return {
        name: [getattr(one, "__func__", one) for one in value] if name.endswith("_callback") else value
        for name, value in vars(task).items()
    }


def test_the_table_has_every_argument_of_an_operator_and_of_a_sensor() -> None:
    """A new Airflow may bring one that switches the lock off."""
    of_operators = set(inspect.signature(BaseOperator.__init__).parameters)
    of_sensors = set(inspect.signature(BaseSensorOperator.__init__).parameters)
    assert (of_operators | of_sensors) - IDENTITY == set(HOSTILE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The SLA feature:UserWarning")
@pytest.mark.parametrize("name", sorted(set(HOSTILE) - REFUSED))
def test_an_argument_in_default_args_is_not_the_locks(name: str) -> None:
    plain, plain_work = built()
    dag, work = built(default_args={name: HOSTILE[name]})
    for own in ("acquire", "release"):
        mine, same = (comparable(one.task_dict[own]) for one in (dag, plain))
        assert {key for key in mine if key not in CHANGING and mine[key] != same[key]} <= OF_THE_DAG & {name}
    if name in inspect.signature(BaseOperator.__init__).parameters and name not in UNSEEN:
        reached = {key for key, value in vars(work).items() if value != vars(plain_work).get(key)}
        assert reached - CHANGING, "the table's value would change nothing anywhere"


def test_airflows_configuration_does_not_shorten_the_locks_tasks() -> None:
    """In a new process: Airflow reads these options once."""
    program = (
        "from airflow.providers.standard.operators.empty import EmptyOperator; "
        "from iam_watcher import Watcher\n"
        "with Watcher('configured', schedule=None, default_args={'retries': None}) as dag:\n"
        "    EmptyOperator(task_id='work')\n"
        "print({one.task_id: (one.execution_timeout is None, one.retries) for one in dag.tasks})"
    )
    options = {
        "AIRFLOW__CORE__DEFAULT_TASK_EXECUTION_TIMEOUT": "1",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT / "plugins",
        env=os.environ | options,
    )
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == {
        "acquire": (True, 2),
        "work": (False, 0),
        "release": (True, 6),
    }


# Each differs from Airflow's default, and the Watcher has it as a plain DAG would.
OF_A_DAG: dict[str, Any] = {
    "access_control": {"viewer": {"DAGs": {"can_read"}}},
    "allowed_run_types": ["manual"],
    "auto_register": False,
    "dag_display_name": "another",
    "deadline": None,
    "description": "text",
    "disable_bundle_versioning": True,
    "doc_md": "text",
    "is_paused_upon_creation": False,
    "jinja_environment_kwargs": {"keep_trailing_newline": True},
    "max_active_tasks": 1,
    "max_consecutive_failed_dag_runs": 3,
    "on_failure_callback": callback,
    "on_success_callback": callback,
    "owner_links": {"airflow": "https://example.com"},
    "params": {"mine": 1},
    "render_template_as_native_obj": True,
    "rerun_with_latest_version": True,
    "sla_miss_callback": callback,
    "start_date": datetime(2020, 1, 1, tzinfo=UTC),
    "template_searchpath": ("/tmp",),  # noqa: S108  nothing is written there
    "template_undefined": Undefined,
    "user_defined_filters": {"mine": callback},
    "user_defined_macros": {"mine": callback},
}
# A Watcher refuses or checks these itself, see test_watcher.py.
CHECKED = {
    *(
        "catchup",
        "dagrun_timeout",
        "default_args",
        "end_date",
        "fail_fast",
        "max_active_runs",
        "schedule",
        "tags",
    ),
    "task_group",
}


def test_the_table_has_every_argument_of_a_dag() -> None:
    of_dags = set(inspect.signature(DAG.__init__).parameters)
    assert of_dags - {"self", "dag_id"} == set(OF_A_DAG) | CHECKED


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The SLA feature:UserWarning")
@pytest.mark.parametrize("name", OF_A_DAG)
def test_an_argument_of_a_dag_is_honoured_and_leaves_the_lock_alone(name: str) -> None:
    plain, _ = built()
    dag, _ = built(**{name: OF_A_DAG[name]})
    with DAG("hostile", schedule=None, **{name: OF_A_DAG[name]}) as same:
        pass
    dag.validate()
    assert getattr(dag, name) == getattr(same, name)
    for own in ("acquire", "release"):
        mine, theirs = (comparable(one.task_dict[own]) for one in (dag, plain))
        changed = {key for key in mine if key not in CHANGING and mine[key] != theirs[key]}
        assert changed <= OF_THE_DAG & {name}


def test_the_queue_of_the_locks_tasks_can_be_set_after_the_with() -> None:
    dag, _ = built()
    dag.task_dict["acquire"].queue = dag.task_dict["release"].queue = "iam"
    dag.validate()
    again = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert {name: task.queue for name, task in again.task_dict.items()} == {
        "acquire": "iam",
        "work": "default",
        "release": "iam",
    }


def test_a_run_with_all_of_them_works_under_the_lock(run_dag, redis_client: Client) -> None:
    """All that lets the work itself run where this test runs."""
    here = set(HOSTILE) - {
        *("depends_on_past", "wait_for_downstream", "start_date", "end_date", "pool", "pool_slots"),
        *("executor", "execution_timeout", "run_as_user", "map_index_template", "resources", "email", "sla"),
    }
    with Watcher(
        "run_hostile", schedule=None, lock=BRIEF, default_args={name: HOSTILE[name] for name in here}
    ) as dag:

        @task
        def work() -> dict[str, int]:
            return {"held": redis_client.exists("clean")}

        work()
    run = run_dag(dag)
    assert set(states(run).values()) == {"success"}
    assert not redis_client.exists("clean")


@pytest.mark.parametrize("rule", ["all_done", "none_failed", "one_success", "always", "all_failed"])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_first_task_may_have_any_trigger_rule(rule: str, mapped: bool) -> None:
    """It has nothing to wait for: it runs if the lock is ours, and is skipped with `acquire`."""
    with Watcher("rules", schedule=None) as dag:
        if mapped:
            EmptyOperator.partial(task_id="first", trigger_rule=rule).expand(doc=["a"])
        else:
            EmptyOperator(task_id="first", trigger_rule=rule)
        EmptyOperator(task_id="second", trigger_rule=rule).set_upstream(dag.task_dict["first"])
    dag.validate()
    again = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert str(again.task_dict["first"].trigger_rule) == "all_success"
    assert str(again.task_dict["second"].trigger_rule) == rule


def test_a_first_task_that_runs_whatever_comes_before_is_skipped_without_the_lock(
    run_dag, redis_client: Client
) -> None:
    redis_client.set("clean", "x7Qy", px=600_000)
    with Watcher("run_rule", schedule=None, lock=BRIEF) as dag:

        @task(trigger_rule="all_done")
        def work() -> None:
            raise AssertionError

        work()
    assert states(run_dag(dag)) == {
        "acquire": "skipped",
        "work": "skipped",
        "release": "skipped",
        "run": "success",
    }
