"""Watchers that are made of one function."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Asset, Metadata, TaskGroup, task

from iam_watcher import Watcher, watcher
from iam_watcher.errors import WatcherError
from tests.dags.runs import BRIEF, states, xcom

if TYPE_CHECKING:
    from redis import Redis as Client


def test_the_decorator_makes_a_watcher_of_a_function() -> None:
    @watcher(schedule="@every 5m", lock="mine")
    def reconcile() -> None:
        """Do it."""

    assert isinstance(reconcile, Watcher)
    assert reconcile.dag_id == "reconcile"
    assert set(reconcile.task_dict) == {"acquire", "reconcile", "release"}
    assert reconcile.doc_md == "Do it."
    assert reconcile.fileloc == __file__


def test_the_decorator_with_a_name() -> None:
    @watcher("other_name", schedule=None)
    def work() -> None: ...

    assert work.dag_id == "other_name"
    assert work.doc_md == __doc__


def test_one_decorator_for_two_functions() -> None:
    every_day = watcher(schedule="@every 1d")

    @every_day
    def first() -> None:
        """First."""

    @every_day
    def second() -> None:
        """Second."""

    assert (first.doc_md, second.doc_md) == ("First.", "Second.")


def test_the_decorator_without_a_schedule() -> None:
    with pytest.raises(WatcherError, match=r"write @watcher\(schedule=\.\.\.\)"):

        @watcher
        def work() -> None: ...


@task
def helper() -> None: ...


def test_a_function_that_creates_tasks_is_refused_in_the_file() -> None:
    """The habit of @dag: the function would run as a task, create tasks, and nothing would run those."""
    decorate = watcher("habit", schedule=None)
    operator = EmptyOperator

    def operators() -> None:
        operator(task_id="work")

    def calls() -> None:
        helper()

    def functions() -> None:
        @task
        def inner() -> None: ...

        inner()

    def groups() -> list[object]:
        return [TaskGroup(name) for name in ("a", "b")]

    for function, made in (
        (operators, "operator"),
        (calls, "helper"),
        (functions, "task"),
        (groups, "TaskGroup"),
    ):
        with pytest.raises(WatcherError, match=rf"creates tasks \({made}\).*with Watcher\('habit'"):
            decorate(function)


def test_a_function_with_attributes_and_variables_named_like_tasks() -> None:
    @watcher(schedule=None)
    def work(ti=None) -> None:
        print(ti.task, ti.helper)  # noqa: T201  both names are tasks in this file
        task = ti.task

        def inner() -> object:
            return task

        inner()

    assert set(work.task_dict) == {"acquire", "work", "release"}


def test_calling_what_the_decorator_made() -> None:
    @watcher(schedule=None)
    def work() -> None: ...

    with pytest.raises(WatcherError, match=r"'work' is a DAG already.*remove the call"):
        work()


def test_the_decorator_says_which_arguments_a_watcher_has() -> None:
    own, given = (inspect.signature(what).parameters for what in (Watcher.__init__, watcher))
    assert list(given) == [name for name in own if name != "self"]
    for name in set(given) - {"dag_id", "schedule"}:
        assert given[name] == own[name]
    for wrong in ({"lok": "mine"}, {"schedule": 5}):
        with pytest.raises((TypeError, ValueError, WatcherError)):
            watcher(**{"schedule": None, **wrong})(lambda: None)


def test_a_function_that_is_async_is_awaited(run_dag, redis_client: Client) -> None:
    @watcher("run_async", schedule=None, lock=BRIEF)
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    assert xcom(run_dag(work), "work") == "done"


def test_a_function_that_yields_is_run_to_its_end(run_dag, redis_client: Client) -> None:
    asset = Asset("yielded")

    @watcher("run_yielding", schedule=None, lock=BRIEF)
    def work():
        yield Metadata(asset, {"rows": 3})
        redis_client.set("seen", "to the end")

    work.task_dict["work"].outlets = [asset]
    assert set(states(run_dag(work)).values()) == {"success"}
    assert redis_client.get("seen") == b"to the end"


def test_a_function_that_creates_tasks_unseen_is_no_green_run(
    run_dag, redis_client: Client, caplog, capsys
) -> None:
    @watcher("run_hidden", schedule=None, lock=BRIEF)
    def work() -> None:
        from airflow.providers.standard.operators.empty import EmptyOperator

        EmptyOperator(task_id="hidden")

    run = run_dag(work)
    assert (states(run)["work"], states(run)["run"]) == ("failed", "failed")
    said = "the function under @watcher creates tasks (hidden), which nothing would run"
    assert said in caplog.text + capsys.readouterr().out
