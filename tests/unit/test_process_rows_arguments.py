"""What is wrong about row processing is an error when the DAG file is parsed."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from enum import Enum
from functools import partial
from pathlib import Path

import pytest
from airflow.sdk import DAG

from iam_watcher.errors import JobArgumentError, RowNotReady
from iam_watcher.jobs.process_rows import ProcessRowsOperator, process_rows
from iam_watcher.jobs.rows_in_state import rows_in_state

IDLE = {"max_idle_time": timedelta(minutes=1), "retry_at_column": "retry_at"}
STATES = {"state_column": "status", "claim": "pending", "done": "normal", "failed": "failed"}


def of_a_row(row):
    return None


def of_nothing():
    return None


def of_two(row, more):
    return None


def generator(row):
    yield row


def operator(function=of_a_row, **given):
    return ProcessRowsOperator(task_id="process", python_callable=function, table="orders", **STATES | given)


def decorator(function=of_a_row, partitions=1, **given):
    return process_rows("orders", partitions=partitions, **STATES | given)(function)()


class Status(str, Enum):  # noqa: UP042  the driver writes its name, not its value
    DONE = "done"


FORMS = {"operator": operator, "decorator": decorator, "partitions": partial(decorator, partitions=2)}

WRONG = {
    "no function": ({"function": "orders"}, "python_callable is 'orders'; expected a function of one row"),
    "no argument": ({"function": of_nothing}, "'of_nothing' can't be called with one row"),
    "two arguments": ({"function": of_two, "per": "batch"}, "'of_two' can't be called with one list of rows"),
    "generator": ({"function": generator}, "'generator' is a generator"),
    "per": ({"per": "table"}, "per is 'table'; expected 'row' or 'batch'"),
    "state": ({"done": None}, "done is None; expected a state"),
    "template": ({"done": "{{ params.done }}"}, "done is '{{ params.done }}'; expected a state"),
    "Enum": ({"done": Status.DONE}, "done is <Status.DONE: 'done'>; expected the Enum's value 'done'"),
    "same state": ({"done": "pending"}, "done is 'pending', and so is claim"),
    "same column": ({"error_column": "status"}, "error_column is 'status', and so is state_column"),
    "same column in capitals": (
        {"retry_at_column": "Tries", "attempts_column": "tries"},
        "retry_at_column is 'Tries', and so is attempts_column; expected another column",
    ),
    "same column by default": (
        {"retry_at_column": "claimed_at", "working": "work"},
        "retry_at_column is 'claimed_at', and so is claimed_at_column; expected another column",
    ),
    "claim in hold": ({"claimed_by_column": "by"}, "claimed_by_column is 'by', but there is no `working`"),
    "attempts": ({"max_attempts": 3}, "max_attempts is 3, but there is no `attempts_column`"),
    "one attempt": (
        {"max_attempts": 1, "attempts_column": "tries", "working": "work"},
        "max_attempts is 1 and batch is 100: if a worker died",
    ),
    "batch": ({"batch": 5_001}, "batch is 5001; expected at most 5000"),
    "no batch": ({"batch": 0}, "batch is 0; expected a whole number over 0"),
    "claim_timeout": ({"claim_timeout": timedelta(milliseconds=1)}, "expected at least 1 second"),
    "seconds": ({"claim_timeout": 300}, "claim_timeout is 300; expected a timedelta"),
    "backoff": ({"backoff": timedelta(0)}, "backoff is datetime.timedelta(0); expected a timedelta over 0"),
    "stop_after": ({"stop_after": 0}, "stop_after is 0"),
    "negative idle time": (
        {"max_idle_time": timedelta(seconds=-1)},
        "expected a timedelta from 0 to 1 day, 0:00:00, such as timedelta(minutes=1)",
    ),
    "idle time in seconds": ({"max_idle_time": 60}, "max_idle_time is 60; expected a timedelta"),
    "long idle time": ({"max_idle_time": timedelta(days=2)}, "expected a timedelta from 0 to 1 day"),
    "idle time without retry time": (
        {"max_idle_time": timedelta(minutes=1)},
        "max_idle_time is 0:01:00, but there is no `retry_at_column`",
    ),
    "idle time over the time-out": (
        {**IDLE, "execution_timeout": timedelta(minutes=1)},
        "max_idle_time is 0:01:00, but Airflow ends the task after execution_timeout=0:01:00",
    ),
    "age column": ({"age_column": "at`"}, "age_column is 'at`'"),
    "columns": ({"columns": "id"}, "columns is 'id'; expected a list of names"),
    "max_rows": ({"max_rows": 0}, "max_rows is 0"),
    "dry_run": ({"dry_run": "maybe"}, "dry_run is 'maybe'"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_argument_is_an_error_at_once(case, form):
    given, message = WRONG[case]
    with DAG("orders", schedule=None):
        with pytest.raises(JobArgumentError) as caught:
            FORMS[form](**given)
        assert message in str(caught.value)


@pytest.mark.parametrize("partitions", [2, 3])
def test_partitions_are_tasks_of_one_mapped_operator(partitions):
    with DAG("orders", schedule=None) as dag:
        process_rows("orders", partitions=partitions, **STATES)(of_a_row)()
    (task,) = dag.tasks
    assert (task.task_id, task.is_mapped) == ("of_a_row", True)
    assert task.expand_input.value == {"partition": [1, 2, 3][:partitions]}


def test_partitions_are_a_number():
    with pytest.raises(JobArgumentError, match="partitions is '3'"):
        process_rows("orders", partitions="3", **STATES)


@pytest.mark.parametrize(
    "given",
    [
        {"execution_timeout": timedelta(minutes=2)},
        {"execution_timeout": timedelta(seconds=50), "time_budget": timedelta(seconds=40)},
    ],
)
def test_an_idle_time_may_end_before_the_time_out(given):
    assert operator(**IDLE, **given).processing.max_idle_time == timedelta(minutes=1)


def test_attempts_have_a_limit_if_they_are_counted():
    assert operator().processing.attempts is None
    assert operator(attempts_column="tries").processing.attempts == 5


def test_the_defaults_are_those_of_the_page():
    page = (Path(__file__).parents[2] / "docs" / "rows-in-a-state.md").read_text()
    said = dict(re.findall(r"^\| .*?`(\w+)` \(([^)]+)\) \|", page, re.MULTILINE))
    written = {
        timedelta(0): "0", timedelta(seconds=10): "10 s", timedelta(minutes=5): "5 minutes",
        timedelta(minutes=10): "10 minutes", "row": '"row"',
    }  # fmt: skip
    functions = (ProcessRowsOperator.__init__, process_rows, rows_in_state)
    arguments = {name: one for each in functions for name, one in inspect.signature(each).parameters.items()}
    defaults = {name: arguments[name].default for name in said} | {
        "max_attempts": operator(attempts_column="tries").processing.attempts
    }
    assert len(said) == 9
    assert said == {name: written.get(default, str(default)) for name, default in defaults.items()}


@pytest.mark.parametrize("after", [5, timedelta(seconds=-1)])
def test_a_time_to_wait_is_a_timedelta(after):
    with pytest.raises(TypeError, match="expected a timedelta of 0 or more"):
        RowNotReady(after=after)
