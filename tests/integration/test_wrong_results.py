"""Results of a function that can't be written to the row: each counts as an exception."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.errors import WrongResult
from iam_watcher.walk.claim.outcome import Kind
from tests.integration.claims import create
from tests.integration.conftest import TaskInstance
from tests.integration.test_process_rows_operator import CLAIM, HOLD, fill, operator, states


@pytest.fixture(params=["claim", "hold"])
def mode(request):
    return CLAIM if request.param == "claim" else HOLD


WRONG_RESULTS = {
    "unknown column": ({"nte": "x"}, "it has a value for 'nte'; expected columns of orders"),
    "state": ({"status": "pending"}, "it has a value for 'status'; expected columns of orders"),
    "key": ({"id": 7}, "it has a value for 'id'; expected columns of orders"),
    "claim": ({"attempts": 0}, "it has a value for 'attempts'; expected columns of orders"),
    "computed": ({"twice": 0}, "it has a value for 'twice'; expected columns of orders"),
    "AUTO_INCREMENT": ({"number": 9}, "it has a value for 'number'; expected columns of orders"),
    "text": ("normal", "it is str; expected None, or a mapping"),
    "empty text": ("", "it is str; expected None, or a mapping"),
    "flag": (False, "it is bool; expected None, or a mapping"),
    "list": ([{"note": "x"}], "it is list; expected None, or a mapping"),
    "Enum": ({"note": Kind.DONE}, "it has Kind for 'note'; expected the Enum's value 'done'"),
    "time with a zone": ({"note": time(12, tzinfo=UTC)}, "expected a time without a zone"),
    "no date": (
        {"since": "2026-02-31"},
        "it has '2026-02-31' for 'since'; expected a date that is in the cal",
    ),
    "no date in digits": ({"since": "20260231120000"}, "expected a date that is in the calendar"),
    "no month": ({"since": "2026-0-1 12:00"}, "expected a date that is in the calendar"),
    "no value": ({"note": ["x"]}, "it has list for 'note'; expected a value of SQL"),
}


@pytest.mark.every_server
@pytest.mark.parametrize("case", WRONG_RESULTS)
def test_a_wrong_result_is_an_exception_in_the_report_and_in_the_log(scratch, perform, mode, case, caplog):
    result, message = WRONG_RESULTS[case]
    key = "id BIGINT UNSIGNED NOT NULL PRIMARY KEY, number INT NOT NULL AUTO_INCREMENT, KEY (number)"
    create(scratch, key=f"{key}, twice INT AS (id * 2) STORED, since DATETIME NULL")
    scratch.run("INSERT INTO orders (id) VALUES (1), (2), (3)")
    without = {name: column for name, column in mode.items() if name != "error_column"}
    with caplog.at_level(logging.INFO):
        report = perform(operator(lambda row: result, **without))
    assert (report["done"], report["retried"]) == (0, 3)
    (found,) = report["exceptions"]
    assert (found["exception"], found["rows"], found["key"]) == ("WrongResult", 3, "1")
    assert message in found["message"]
    assert "3 rows ended with WrongResult, first the one with the key 1: The function returned" in caplog.text
    assert message in caplog.text
    assert scratch.rows("SELECT id, number, status FROM orders") == [
        (1, 1, "pending"),
        (2, 2, "pending"),
        (3, 3, "pending"),
    ]


@pytest.mark.every_server
@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 1, 31, 4, 0, 0, 5),  # noqa: DTZ001  without a zone it is UTC
        datetime(2026, 1, 31, 4, 0, 0, 5, tzinfo=UTC),
        datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=ZoneInfo("Asia/Shanghai")),
        pendulum.datetime(2026, 1, 31, 5, 0, 0, 5, tz="Europe/Berlin"),
    ],
)
def test_a_time_with_a_zone_is_written_in_utc(scratch, perform, mode, at):
    create(scratch, key="id INT PRIMARY KEY, at DATETIME(6)")
    scratch.run("INSERT INTO orders (id) VALUES (1)")
    assert perform(operator(lambda row: {"at": at}, **mode))["done"] == 1
    assert scratch.value("SELECT at FROM orders") == datetime(2026, 1, 31, 4, 0, 0, 5)  # noqa: DTZ001  in UTC


@pytest.mark.every_server
@pytest.mark.parametrize("is_async", [False, True])
def test_wrong_results_one_after_the_other_end_the_run(scratch, perform, mode, is_async):
    fill(scratch, 40)

    def work(row):
        return "normal"

    async def work_soon(row):
        return "normal"

    given = {**mode, "error_column": None, "stop_after": 3}
    ti = TaskInstance("run")
    with pytest.raises(AirflowFailException, match=r"a row ended with WrongResult: .*it is"):
        perform(operator(work_soon if is_async else work, **given), ti)
    (found,) = ti.xcom["return_value"]["exceptions"]
    assert (found["exception"], found["rows"]) == ("WrongResult", 10 if is_async else 3)
    assert states(scratch) == {"pending": 40}


@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize("result", ["normal", [], [None] * 4])
def test_a_wrong_result_of_a_batch_counts_as_one_call(scratch, perform, mode, result, raised):
    """As the exception of a call does."""
    fill(scratch, 9)
    calls = []

    def work(rows):
        calls.append(len(rows))
        if raised:
            raise WrongResult("as if")
        return result

    ti = TaskInstance("run")
    job = operator(work, per="batch", batch=3, stop_after=2, **mode)
    with pytest.raises(AirflowFailException, match="2 rows of orders in a row ended with WrongResult"):
        perform(job, ti)
    assert calls == [3, 3]
    (found,) = ti.xcom["return_value"]["exceptions"]
    assert (found["exception"], found["rows"]) == ("WrongResult", 6)


@pytest.mark.parametrize(
    "text", ["2024-02-29", "2026/2/1 12:00", "20260228", "20260228235959", "261231235959", "0000-00-00"]
)
def test_a_text_that_is_a_date_is_written(scratch, perform, text):
    create(scratch, key="id INT NOT NULL PRIMARY KEY, since DATETIME NULL")
    scratch.run("INSERT INTO orders (id) VALUES (1)")
    assert perform(operator(lambda row: {"since": text}, **CLAIM))["done"] == 1
