"""The schedule that starts a run when rows are due: what the triggerer asks, and when it fires.

All tests share the watched tables, and the poll that asks about them: hence the length.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, AssetOrTimeSchedule

from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs import rows_in_state_trigger as triggers
from iam_watcher.jobs.rows_in_state import rows_in_state
from iam_watcher.jobs.rows_in_state_trigger import Level, Poll, RowsInStateTrigger, Watched
from iam_watcher.walk.claim import find_states
from iam_watcher.walk.claim.due_query import is_due
from tests.integration.claims import BY_STATE, create, names
from tests.integration.conftest import numbers

CLAIM = {"working": "work", "claimed_at_column": "claimed_at"}
ORDERS = {"table": "orders", "state_column": "status", "claim": "pending"}


def watched(**given):
    plain = {"working": None, "claimed_at_column": None, "retry_at_column": None, "claim_timeout": 60.0}
    return Watched(**{**ORDERS, **plain, **given})


@pytest.mark.every_server
def test_a_row_is_due_if_it_is_pending_or_its_claim_expired(scratch):
    create(scratch)
    one = watched(retry_at_column="retry_at", **CLAIM)
    poll = Poll("scratch")

    def due():
        (first,) = asyncio.run(poll.ask([one])).values()
        return first

    try:
        assert due() is None
        scratch.run("INSERT INTO orders (id, retry_at) VALUES (7, NOW(6) + INTERVAL 1 HOUR)")
        assert due() is None
        scratch.run("UPDATE orders SET retry_at = NOW(6) - INTERVAL 1 SECOND")
        assert due() is not None
        scratch.run("UPDATE orders SET retry_at = NULL")
        assert due() == "7"
        scratch.run("UPDATE orders SET status = 'work', claimed_at = NOW(6)")
        assert due() is None
        scratch.run("UPDATE orders SET claimed_at = NOW(6) - INTERVAL 2 MINUTE")
        assert due() is not None
        scratch.run("UPDATE orders SET status = 'normal'")
        assert due() is None
    finally:
        poll.close()


def test_a_run_that_waits_asks_one_statement_that_reads_few_rows(scratch, session):
    create(scratch)
    scratch.run(
        "INSERT INTO orders (id, status, retry_at) SELECT seq, IF(seq % 2, 'normal', 'pending'),"
        f" NOW() + INTERVAL 1 HOUR FROM {numbers(10_000)}"
    )
    db = Transactions(session)
    found = find_states.find(db, names())
    before = counted(db)
    assert not is_due(db, found)
    after = counted(db)
    assert after["Com_select"] - before["Com_select"] == 1
    assert sum(after[name] - before[name] for name in after if name.startswith("Handler_read")) < 10


def counted(db):
    rows = db.read(
        "SHOW SESSION STATUS WHERE Variable_name LIKE 'Handler_read%%' OR Variable_name = 'Com_select'"
    )
    return {name: int(value) for name, value in rows}


def test_one_statement_asks_for_all_watchers_of_a_connection(scratch):
    create(scratch, index=BY_STATE)
    scratch.run("INSERT INTO orders (id) VALUES (7)")
    scratch.run("CREATE TABLE others LIKE orders")
    poll = Poll("scratch")
    all_of_them = [watched(), watched(claim="failed"), watched(table="others")]
    try:
        asyncio.run(poll.ask(all_of_them))
        before = int(poll._db.read("SHOW SESSION STATUS LIKE 'Questions'".replace("'", '"'))[0][1])
        answers = asyncio.run(poll.ask(all_of_them))
        after = int(poll._db.read('SHOW SESSION STATUS LIKE "Questions"')[0][1])
        assert [answers[one] for one in all_of_them] == ["7", None, None]
        assert after - before == 2  # the other is the question itself
    finally:
        poll.close()


def test_a_table_that_is_not_as_it_must_be_does_not_stop_the_others(scratch, caplog):
    create(scratch, index=BY_STATE)
    scratch.run("CREATE TABLE others LIKE orders")
    poll = Poll("scratch")
    both = [watched(), watched(table="others")]
    try:
        assert asyncio.run(poll.ask([*both, watched(table="absent")])) == dict.fromkeys(both)
        assert "there is no table 'absent'" in caplog.text
        scratch.run("DROP TABLE others")
        asyncio.run(poll.ask(both))
        assert asyncio.run(poll.ask(both)) == {both[0]: None}
        for new in ([], [watched(claim="failed")]):  # it is the first to use the lost connection
            scratch.run(f"KILL {poll._db.read('SELECT CONNECTION_ID()')[0][0]}")
            asyncio.run(poll.ask([*both, *new]))
            assert asyncio.run(poll.ask([*both, *new])) == dict.fromkeys([both[0], *new])
    finally:
        poll.close()


@pytest.mark.every_server
@pytest.mark.parametrize(
    "ignored",
    [
        pytest.param("IGNORED", marks=pytest.mark.needs("ignored-index")),
        pytest.param("INVISIBLE", marks=pytest.mark.needs("invisible-index")),
    ],
)
def test_a_table_that_can_not_be_asked_does_not_keep_the_answers_of_others_back(
    scratch, monkeypatch, caplog, ignored
):
    create(scratch, index=BY_STATE)
    scratch.run("INSERT INTO orders (id) VALUES (1)")
    scratch.run("CREATE TABLE others LIKE orders")
    scratch.run(f"ALTER TABLE others ALTER INDEX by_status {ignored}")
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=100.0)
    monkeypatch.setattr(triggers, "time", clock)
    poll = Poll("scratch")
    orders, others = both = [watched(), watched(table="others")]
    try:
        for _ in range(3):
            assert asyncio.run(poll.ask(both)) == {orders: "1"}
        assert caplog.text.count("event=rows_not_asked") == 1
        scratch.run("ALTER TABLE others DROP INDEX by_status, ADD KEY another (status)")
        clock.now += triggers.LEFT_OUT
        assert asyncio.run(poll.ask(both)) == {orders: "1", others: None}
    finally:
        poll.close()


def test_a_locked_table_is_asked_about_once(scratch, mariadb, caplog):
    create(scratch, index=BY_STATE)
    scratch.run("INSERT INTO orders (id) VALUES (1)")
    scratch.run("CREATE TABLE others LIKE orders")
    poll = Poll("scratch")
    both = [watched(), watched(table="others")]
    try:
        with closing(mariadb.connect("scratch")) as other, other.cursor() as cursor:
            cursor.execute("LOCK TABLES others WRITE")
            for _ in range(3):
                assert asyncio.run(poll.ask(both)) == {both[0]: "1"}
        assert caplog.text.count("event=rows_not_asked what=others") == 1
        assert "event=retry" not in caplog.text
    finally:
        poll.close()


def test_triggers_of_a_connection_share_a_poll(scratch, monkeypatch):
    monkeypatch.setattr(triggers, "LOOK_EVERY", 0.01)
    create(scratch, index=BY_STATE)
    scratch.run("CREATE TABLE others LIKE orders")
    for table in ("orders", "others"):
        scratch.run(f"INSERT INTO {table} (id) VALUES (1)")
    first = RowsInStateTrigger(mysql_conn_id="scratch", **vars(watched()))
    second = RowsInStateTrigger(mysql_conn_id="scratch", **vars(watched(table="others")))
    assert first.shared_stream_key() == second.shared_stream_key()
    path, arguments = second.serialize()
    assert path.endswith(".RowsInStateTrigger")
    assert json.loads(json.dumps(arguments))["table"] == "others"

    async def one_event_of_each():
        return await asyncio.gather(anext(first.run()), anext(second.run()))

    events = asyncio.run(one_event_of_each())
    assert [event.payload["table"] for event in events] == ["orders", "others"]
    assert not RowsInStateTrigger._sharing["scratch"]


def test_the_database_is_asked_once_a_second(monkeypatch):
    """An answer that takes longer is followed by the next question."""
    rests = []

    async def sleep(seconds):
        rests.append(seconds)

    async def look():
        answers = RowsInStateTrigger.open_shared_stream({"mysql_conn_id": "scratch"})
        for _ in range(3):
            await anext(answers)
        await answers.aclose()

    clock = iter([0.0, 0.25, 1.0, 3.0, 3.0])
    monkeypatch.setattr(triggers, "time", SimpleNamespace(monotonic=clock.__next__))
    monkeypatch.setattr(triggers, "asyncio", SimpleNamespace(sleep=sleep))
    asyncio.run(look())
    assert rests == [0.75, 0.0]


def test_an_event_comes_at_once_and_then_from_time_to_time():
    level = Level()
    seen = [
        (0, None),
        (1, "1"),
        (2, "1"),
        (3, "2"),
        (4, "2"),
        (5, "2"),
        (33, "2"),
        (34, "2"),
        (35, None),
        (36, "2"),
    ]
    assert [at for at, first in seen if level.fires(first, at)] == [1, 4, 34, 36]


def test_an_answer_is_an_event_if_it_is_of_this_table_and_due():
    trigger = RowsInStateTrigger(mysql_conn_id="scratch", **vars(watched()))
    other = watched(table="others")
    answers = [{other: "1"}, {watched(): None, other: "1"}, {watched(): "1"}, {watched(): "1"}, {}]

    async def stream():
        for answer in answers:
            yield answer

    async def events():
        return [event.payload async for event in trigger.filter_shared_stream(stream())]

    assert asyncio.run(events()) == [{"table": "orders"}]


def test_the_schedule_and_the_job_take_the_same_arguments():
    job = {"attempts_column": "attempts", "batch": 50, "partitions": 2, "pace": "polite", "retries": 3}
    schedule = rows_in_state(**ORDERS, working="work", done="normal", **job)
    assert isinstance(schedule, AssetOrTimeSchedule)
    with DAG("orders", schedule=schedule):
        pass
    (watcher,) = schedule.asset_condition.watchers
    assert watcher.trigger.watched.claimed_at_column == "claimed_at"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"table": ""}, "table is ''"),
        ({"claim_timeout": 5}, "claim_timeout is 5"),
        ({"every": 0}, "every is 0"),
        ({"claim_timeout": timedelta(milliseconds=1)}, "claim_timeout is 0:00:00.001000; expected at least"),
        ({"claim": None}, "claim is None; expected a state, as a text or a number"),
        ({"claim": True}, "claim is True; expected a state"),
        ({"claim": ["pending"]}, r"claim is \['pending'\]; expected a state"),
        ({"claim": "{{ params.claim }}"}, "claim is '{{ params.claim }}'; expected a state"),
        ({"working": []}, r"working is \[\]; expected a state"),
        ({"working": "pending"}, "working is 'pending', and so is claim; expected another state"),
        ({"done": "pending"}, "done is 'pending', and so is claim; expected another state"),
        ({"retry_at_column": "Status"}, "retry_at_column is 'Status', and so is state_column"),
        ({"retry_at_column": "claimed_at", "working": "work"}, "retry_at_column is 'claimed_at', and so is"),
        ({"error_column": "status"}, "error_column is 'status', and so is state_column"),
        ({"claimed_at_column": "at"}, "claimed_at_column is 'at', but there is no `working` state"),
        ({"mysql_con_id": "other"}, "has 'mysql_con_id', which .*; did you mean 'mysql_conn_id'[?] Correct"),
        ({"evry": timedelta(1)}, "has 'evry', which is no argument .*; did you mean 'every'[?]"),
        ({"max_row": 5}, "did you mean 'max_rows'[?]"),
        (
            {"retry_column": "r", "fail": "x"},
            "has 'fail', 'retry_column', .* mean 'failed', 'retry_at_column'",
        ),
        ({"zzz": 1}, r"has 'zzz', which is no argument of rows_in_state or process_rows\. Correct the name"),
    ],
)
def test_a_wrong_argument_of_the_schedule_is_an_error(given, message):
    with pytest.raises(JobArgumentError, match=message):
        rows_in_state(**{**ORDERS, **given})
