"""Rows with a value over max_allowed_packet: the function gets the value as it is, or is not called."""

from __future__ import annotations

import logging

import pytest

from iam_watcher.errors import RowFailed
from tests.integration.claims import create
from tests.integration.test_archive import small_packets
from tests.integration.test_process_rows_operator import CLAIM, HOLD, operator

__all__ = ["small_packets"]

pytestmark = pytest.mark.every_server

LARGE = "JSON_ARRAY(REPEAT('x', 1200), REPEAT('x', 1200))"


@pytest.fixture(params=["claim", "hold"])
def mode(request):
    return CLAIM if request.param == "claim" else HOLD


def outcomes(scratch):
    return dict(scratch.rows("SELECT id, status FROM orders"))


def test_a_text_that_is_too_large_to_be_accepted_is_read(scratch, perform, small_packets, mode):
    create(scratch)
    scratch.run(
        "ALTER TABLE orders ADD v varchar(3000) CHARACTER SET latin1, ADD b longblob,"
        " ADD t longtext CHARACTER SET utf8mb4"
    )
    scratch.run("INSERT INTO orders (v) VALUES (REPEAT('ü', 2500))")
    scratch.run("INSERT INTO orders (b) VALUES (REPEAT('x', 2500))")
    scratch.run("INSERT INTO orders (t) VALUES (REPEAT('三', 2040))")
    seen = []
    perform(operator(lambda row: seen.append((row["v"], row["b"], row["t"])), **mode))
    assert seen == [("ü" * 2500, None, None), (None, b"x" * 2500, None), (None, None, "三" * 2040)]
    assert set(outcomes(scratch).values()) == {"normal"}


@pytest.mark.needs("typed-json")
@pytest.mark.parametrize("per", ["row", "batch"])
def test_a_row_whose_json_is_too_large_to_be_sent_fails_without_a_call(
    scratch, perform, small_packets, mode, per, caplog
):
    create(scratch)
    scratch.run("ALTER TABLE orders ADD doc json NULL")
    scratch.run(f"INSERT INTO orders (doc) VALUES ('[1]'), ({LARGE}), (NULL), ('\"\"'), ({LARGE})")
    seen = []

    def work(rows):
        seen.extend((row["id"], row["doc"]) for row in ([rows] if per == "row" else rows))

    with caplog.at_level(logging.INFO):
        report = perform(operator(work, per=per, stop_after=1, **mode))
    assert seen == [(1, "[1]"), (3, None), (4, '""')]
    assert outcomes(scratch) == {1: "normal", 2: "failed", 3: "normal", 4: "normal", 5: "failed"}
    assert (report["done"], report["failed"], report["retried"], report["given_back"]) == (3, 2, 0, 0)
    (found,) = report["exceptions"]
    assert (found["exception"], found["rows"], found["key"]) == ("ValueTooLarge", 2, "2")
    reason = scratch.value("SELECT error FROM orders WHERE id = 5")
    assert reason.startswith("the JSON in column 'doc' is larger than max_allowed_packet. Increase")
    assert "2 rows ended with ValueTooLarge, first the one with the key 2" in caplog.text
    assert found["message"].endswith(reason)


@pytest.mark.needs("typed-json")
def test_rows_are_processed_if_every_row_of_a_batch_is_too_large(scratch, perform, small_packets, mode):
    create(scratch)
    scratch.run("ALTER TABLE orders ADD doc json NULL")
    scratch.run(f"INSERT INTO orders (doc) VALUES ({LARGE}), ({LARGE}), ('[1]')")

    async def work(row):
        raise RowFailed("called")

    perform(operator(work, batch=2, **mode))
    assert scratch.column("SELECT error LIKE 'the JSON%%' FROM orders ORDER BY id", ()) == [1, 1, 0]


@pytest.mark.needs("typed-json")
def test_a_json_that_the_function_does_not_get_may_be_large(scratch, perform, small_packets, mode):
    create(scratch)
    scratch.run("ALTER TABLE orders ADD doc json NULL")
    scratch.run(f"INSERT INTO orders (doc) VALUES ({LARGE})")
    perform(operator(lambda row: {"note": "called"}, columns=["note"], **mode))
    assert scratch.rows("SELECT status, note FROM orders") == [("normal", "called")]
