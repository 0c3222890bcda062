"""What the health address keeps of its last look, and for how long a request waits; no server is asked."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from airflow.sdk import Asset
from airflow.serialization.serialized_objects import DagSerialization

from iam_watcher import Watcher, jobs
from iam_watcher.health.check import Health
from iam_watcher.health.latest import Latest
from iam_watcher.job_tasks import DRY_RUN_FIELD
from iam_watcher.jobs.command import CommandOperator
from iam_watcher.jobs.database_operator import DatabaseOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.rows_in_state import rows_in_state
from iam_watcher.jobs.rows_in_state_trigger import RowsInStateTrigger
from iam_watcher.ui.facts import ROWS_IN_STATE, SETTINGS, read_facts

GOOD = Health({"redis": "", "database": None})
BAD = Health({"redis": "a.b:6379 did not answer", "database": None})
PURGE = {"age_column": "deletedAt", "older_than_days": 1}


def test_the_answer_has_a_word_for_each_part():
    assert (GOOD.as_dict(), GOOD.is_good) == ({"redis": "healthy", "database": None}, True)
    assert (BAD.as_dict(), BAD.is_good) == ({"redis": "unhealthy", "database": None}, False)


def test_many_requests_share_one_look_and_its_answer_is_kept():
    looks, go_on = [], threading.Event()

    def look():
        looks.append(1)
        go_on.wait(10)
        return GOOD

    latest = Latest(look, kept=3600)

    async def ask():
        many = [asyncio.create_task(latest.get()) for _ in range(200)]
        await asyncio.sleep(0)
        # The event loop is free while the look waits for a server.
        assert not any(task.done() for task in many)
        go_on.set()
        return await asyncio.gather(*many)

    assert asyncio.run(ask()) == [GOOD] * 200
    assert asyncio.run(latest.get()) is GOOD
    assert looks == [1]


def test_an_old_answer_is_looked_at_again():
    answers = iter([BAD, GOOD])
    latest = Latest(lambda: next(answers), kept=-1.0)
    assert [asyncio.run(latest.get()) for _ in range(2)] == [BAD, GOOD]


def test_requests_of_several_event_loops_share_a_look():
    both, looks = threading.Barrier(2, timeout=10), []

    def look():
        looks.append(1)
        both.wait()
        return GOOD

    latest = Latest(look, kept=3600)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(asyncio.run, latest.get()) for _ in range(2)]
        both.wait()
        assert [one.result() for one in asked] == [GOOD] * 2
    assert looks == [1]


def test_a_look_without_an_end_makes_the_answer_bad_and_is_not_begun_again():
    looks, go_on = [], threading.Event()

    def look():
        looks.append(1)
        go_on.wait(10)
        return GOOD

    latest = Latest(look, kept=3600, longest=0.01)

    async def ask():
        found = [await latest.get() for _ in range(3)]
        go_on.set()
        latest._current.result()
        return [*found, await latest.get()]

    found = asyncio.run(ask())
    assert [one.is_good for one in found] == [False, False, False, True]
    assert set(found[0].as_dict().values()) == {"unhealthy"}
    assert looks == [1]


def test_a_request_that_is_given_up_does_not_end_the_look_of_the_others():
    go_on = threading.Event()

    def look():
        go_on.wait(10)
        return GOOD

    latest = Latest(look)

    async def ask():
        first, second = (asyncio.create_task(latest.get()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        go_on.set()
        return await second

    assert asyncio.run(ask()) is GOOD


def test_the_reason_is_logged_once_for_each_change(caplog):
    worse = Health({"redis": "a.b:6379 refused", "database": None})
    answers = iter([GOOD, BAD, BAD, worse, GOOD, GOOD])
    latest = Latest(lambda: next(answers), kept=-1.0)
    for _ in range(6):
        asyncio.run(latest.get())
    assert [
        record.getMessage() for record in caplog.records if record.name == "iam_watcher.health.latest"
    ] == [
        "The health address answers that redis is unhealthy: a.b:6379 did not answer",
        "The health address answers that redis is unhealthy: a.b:6379 refused",
        "The health address answers that redis is healthy again",
    ]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: PurgeRowsOperator(task_id="t", table="a", **PURGE), ("iam_mysql",)),
        (lambda: PurgeRowsOperator(task_id="t", table="a", mysql_conn_id="b", **PURGE), ("b",)),
        (lambda: CommandOperator(task_id="t", command="true"), ()),
        (lambda: PurgeRowsOperator.partial(task_id="t", **PURGE).expand(table=["a", "b"]), ("iam_mysql",)),
        (
            lambda: PurgeRowsOperator.partial(task_id="t", mysql_conn_id="b", **PURGE).expand(table=["a"]),
            ("b",),
        ),
        (
            lambda: PurgeRowsOperator.partial(task_id="t", table="a", **PURGE).expand(
                mysql_conn_id=["b", "c"]
            ),
            ("b", "c"),
        ),
        (
            lambda: PurgeRowsOperator.partial(task_id="t", **PURGE).expand_kwargs(
                [{"table": "a"}, {"table": "b", "mysql_conn_id": "c"}]
            ),
            ("iam_mysql", "c"),
        ),
        (
            lambda: PurgeRowsOperator.partial(task_id="t", **PURGE).expand_kwargs(
                CommandOperator(task_id="c", command="true").output
            ),
            (),
        ),
    ],
)
def test_the_stored_dag_tells_the_connections_of_each_task(make, expected):
    with Watcher("tells", schedule=None) as dag:
        make()
    stored = DagSerialization.to_dict(dag)
    jobs = {job.task_id: job.mysql_conn_ids for job in read_facts(stored).jobs}
    assert jobs["t"] == expected


def test_what_the_page_knows_of_each_database_operator():
    for module in pkgutil.iter_modules(jobs.__path__, f"{jobs.__name__}."):
        importlib.import_module(module.name)
    fields = {
        name
        for one in (DatabaseOperator, *_below(DatabaseOperator))
        if one.__module__.startswith("iam_watcher.")
        for name in one.template_fields
    }
    # A new field is a setting that the page shows, or stands here because it may have a secret or a name.
    assert fields == SETTINGS | {DRY_RUN_FIELD, "names"}


def _below(operator):
    for one in operator.__subclasses__():
        yield one
        yield from _below(one)


def _orders(conn_id):
    return rows_in_state("orders", state_column="state", claim="new", mysql_conn_id=conn_id)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (_orders("a"), ("a",)),
        (_orders("a").asset_condition, ("a",)),
        ([_orders(name).asset_condition for name in ("a", "b")], ("a", "b")),
        (_orders("a").asset_condition | (_orders("b").asset_condition & Asset("other")), ("a", "b")),
        (Asset("other"), ()),
        ("@every 1d", ()),
        (None, ()),
    ],
    ids=["rows", "asset", "list", "condition", "other asset", "time", "none"],
)
def test_the_stored_dag_tells_the_connections_of_its_schedule(schedule, expected):
    with Watcher("tells", schedule=schedule) as dag:
        CommandOperator(task_id="t", command="true")
    facts = read_facts(DagSerialization.to_dict(dag))
    assert facts.schedule_mysql_conn_ids == expected
    assert facts.jobs[0].mysql_conn_ids == ()


def test_what_the_page_knows_of_the_trigger_of_rows_in_state():
    path, arguments = _orders("a").asset_condition.watchers[0].trigger.serialize()
    assert path == ROWS_IN_STATE == f"{RowsInStateTrigger.__module__}.{RowsInStateTrigger.__qualname__}"
    assert arguments["mysql_conn_id"] == "a"
