"""The states that a job gives, compared by the server as their column compares them."""

from __future__ import annotations

import asyncio

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.errors import TableError
from iam_watcher.jobs.process_rows import ProcessRowsOperator
from iam_watcher.jobs.rows_in_state_trigger import Poll, Watched
from tests.integration.claims import ALL, BY_STATE, HOLD, create, run

TEXT = "VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL DEFAULT 'pending'"
BINARY = "VARCHAR(20) COLLATE utf8mb4_bin NOT NULL DEFAULT 'pending'"

WRONG = {
    "upper case": (TEXT, {"done": "Pending"}, "claim='pending' and done='Pending' are equal"),
    "space": (TEXT, {"failed": "pending "}, "claim='pending' and failed='pending ' are equal"),
    "accent": (TEXT, {"done": "pénding"}, "claim='pending' and done='pénding' are equal"),
    "claim and working": (TEXT, {"working": "PENDING"}, "claim='pending' and working='PENDING' are equal"),
    "done and failed": (TEXT, {"failed": "Normal"}, "done='normal' and failed='Normal' are equal"),
    "TEXT": (
        "TINYTEXT COLLATE utf8mb4_general_ci NOT NULL",
        {"done": "Pending"},
        "claim='pending' and done='Pending' are equal",
    ),
    "CHAR": (
        "CHAR(20) COLLATE utf8mb4_general_ci NOT NULL",
        {"done": "Pending"},
        "claim='pending' and done='Pending' are equal",
    ),
    "space in a CHAR": (
        "CHAR(20) NOT NULL",
        {"done": "pending "},
        "done='pending ' does not fit the column 'status' of orders, char(20); expected a text of at most",
    ),
    "other characters": (
        "VARCHAR(20) CHARACTER SET latin1 NOT NULL",
        {"done": "完成"},
        "has the character set latin1 and can't hold one of claim='pending', ",
    ),
}
RIGHT = {
    "upper case in _bin": (BINARY, {"done": "Pending", "failed": "PENDING"}),
    "accent in latin1": ("VARCHAR(20) CHARACTER SET latin1 NOT NULL", {"done": "fäll"}),
    "ENUM in _bin": (
        "ENUM('pending', 'Pending', 'work', 'failed') COLLATE utf8mb4_bin NOT NULL",
        {"done": "Pending"},
    ),
    "longest text": ("VARCHAR(7) NOT NULL", {"done": "doneyet", "failed": "failing"}),
    "integer": ("INT NOT NULL", {"pending": 1, "working": 2, "done": -3, "failed": 0}),
    "large integer": (
        "BIGINT UNSIGNED NOT NULL",
        {"pending": 2**64 - 1, "working": 2**64 - 2, "done": 2**53, "failed": 2**53 + 1},
    ),
}


def fill(scratch, definition, pending="pending"):
    create(scratch)
    scratch.run("ALTER TABLE orders DROP INDEX due, MODIFY status VARCHAR(20) NOT NULL DEFAULT 'pending'")
    scratch.run(f"ALTER TABLE orders DROP status, ADD COLUMN status {definition}")
    scratch.run("ALTER TABLE orders ADD INDEX due (status, retry_at)" if "TEXT" not in definition else "DO 1")
    scratch.run("INSERT INTO orders (id, status) VALUES (1, %s), (2, %s), (3, %s)", [pending] * 3)


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("case", "mode"),
    [
        *((case, {}) for case in WRONG),
        *((case, HOLD) for case, (_, given, _) in WRONG.items() if "working" not in given),
    ],
)
def test_states_that_are_equal_for_the_column_are_an_error_before_the_first_claim(
    scratch, mariadb, case, mode
):
    definition, given, message = WRONG[case]
    fill(scratch, definition)
    with pytest.raises(TableError) as refused:
        run(mariadb, lambda row: pytest.fail("claimed"), **{**mode, **given})
    assert message in str(refused.value)
    if "equal" in message:
        assert "for the column 'status' of orders, " in str(refused.value)
        assert "COLLATE utf8mb4_general_ci, so" in str(refused.value)
    assert set(scratch.column("SELECT status FROM orders")) == {"pending"}


@pytest.mark.every_server
@pytest.mark.parametrize("mode", [{}, HOLD], ids=["claim", "hold"])
@pytest.mark.parametrize("case", RIGHT)
def test_states_that_differ_for_the_column_are_taken(scratch, mariadb, case, mode):
    definition, given = RIGHT[case]
    fill(scratch, definition, given.get("pending", "pending"))
    seen = []
    run(mariadb, lambda row: seen.append(row["id"]), **{**given, **mode})
    assert seen == [1, 2, 3]
    assert set(scratch.column("SELECT status FROM orders")) == {given["done"]}


@pytest.mark.every_server
@pytest.mark.parametrize("dry_run", [True, False])
def test_the_task_fails_and_so_does_its_dry_run(scratch, perform, dry_run):
    fill(scratch, TEXT)
    job = ProcessRowsOperator(
        task_id="process",
        mysql_conn_id="scratch",
        table="orders",
        state_column="status",
        claim="pending",
        working="work",
        done="Pending",
        failed="failed",
        python_callable=lambda row: pytest.fail("claimed"),
        dry_run=dry_run,
        **ALL,
    )
    with pytest.raises(AirflowFailException, match="claim='pending' and done='Pending' are equal"):
        perform(job)


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"working": "PENDING"}, "claim='pending' and working='PENDING' are equal"),
        ({"claim": 1}, "claim=1 does not fit the column 'status' of orders"),
    ],
)
def test_the_schedule_names_states_that_it_can_not_find(scratch, caplog, given, message):
    create(scratch, index=BY_STATE)
    scratch.run(f"ALTER TABLE orders MODIFY status {TEXT}")
    one = Watched(
        **{
            "table": "orders",
            "state_column": "status",
            "claim": "pending",
            "working": "work",
            "claimed_at_column": "claimed_at",
            "retry_at_column": None,
            "claim_timeout": 60.0,
            **given,
        }
    )
    poll = Poll("scratch")
    try:
        assert asyncio.run(poll.ask([one])) == {}
    finally:
        poll.close()
    assert message in caplog.text
