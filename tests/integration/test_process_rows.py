"""Rows in a state: what becomes of them, in both modes, for any primary key.

Each test runs in both modes, on the same table: hence the length.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from iam_watcher.errors import RowFailed, RowNotReady, RowsFailing, WalkError
from iam_watcher.walk.claim.outcome import Kind
from iam_watcher.walk.claim.processing import Processing
from iam_watcher.walk.pace import Limits
from tests.integration.claims import ALL, BY_STATE, CLAIM_ONLY, HOLD, Engine, create, run
from tests.integration.conftest import numbers

KEYS = {
    "integer": ("id BIGINT UNSIGNED NOT NULL PRIMARY KEY", "id", "seq"),
    "text": ("id CHAR(36) NOT NULL PRIMARY KEY", "id", "LEFT(SHA2(seq, 256), 36)"),
    "binary": ("id BINARY(16) NOT NULL PRIMARY KEY", "id", "UNHEX(LEFT(SHA2(seq, 256), 32))"),
    "day_and_number": (
        "day DATE NOT NULL, id INT NOT NULL, PRIMARY KEY (day, id)",
        "day, id",
        "DATE('2026-01-01') + INTERVAL seq % 7 DAY, seq",
    ),
    "zero_day": (
        "day DATE NOT NULL, id INT NOT NULL, PRIMARY KEY (day, id)",
        "day, id",
        "IF(seq % 3, '0000-00-00', '2026-01-01'), seq",
    ),
    "enum": (
        "kind ENUM('z', 'm', 'a') NOT NULL, id INT NOT NULL, PRIMARY KEY (kind, id)",
        "kind, id",
        "1 + seq % 3, seq",
    ),
    "unique": ("id VARCHAR(40) COLLATE utf8mb4_bin NOT NULL UNIQUE", "id", "CONCAT('key ', seq)"),
    "three": (
        "a DECIMAL(9,2) NOT NULL, b VARCHAR(9) NOT NULL, c DATETIME(6) NOT NULL, PRIMARY KEY (a, b, c)",
        "a, b, c",
        "seq % 5 / 4, CHAR(97 + seq % 3), '2026-01-01' + INTERVAL seq SECOND",
    ),
}
MODES = {"claim": {}, "hold": HOLD}


@pytest.fixture(params=MODES.values(), ids=MODES)
def mode(request):
    return request.param


def fill(scratch, rows, columns="id", values="seq"):
    scratch.run(f"INSERT INTO orders ({columns}) SELECT {values} FROM {numbers(rows)}")


def states(scratch):
    return dict(scratch.rows("SELECT status, COUNT(*) FROM orders GROUP BY status"))


@pytest.mark.every_server
@pytest.mark.parametrize("key", KEYS)
def test_every_row_is_processed_once(scratch, mariadb, mode, key):
    definition, columns, values = KEYS[key]
    create(scratch, definition)
    fill(scratch, 250, columns, values)
    seen = Counter()
    done = run(mariadb, lambda row: seen.update([tuple(row[c] for c in columns.split(", "))]), **mode)
    assert set(seen) == set(scratch.rows(f"SELECT {columns} FROM orders"))
    assert set(seen.values()) == {1}
    assert states(scratch) == {"normal": 250}
    assert (done.claimed, done.outcomes[Kind.DONE], done.lost, done.late_renewals) == (250, 250, 0, 0)
    assert scratch.rows("SELECT DISTINCT attempts FROM orders") == [(1,)]
    assert 0 < done.longest_claim < 600
    assert 0 < done.longest_finish < 600


@pytest.mark.every_server
def test_each_outcome_is_written(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 8)
    scratch.run("UPDATE orders SET error = 'of an earlier attempt' WHERE id = 6")

    def work(row):
        if row["id"] == 1:
            raise RowFailed("no such customer")
        if row["id"] in (2, 8):
            raise RowNotReady(after=timedelta(hours=row["id"]))
        if row["id"] in (3, 7):
            raise ValueError(f"it is {row['id']}")
        if row["id"] == 4:
            return {"note": "sent"}
        if row["id"] == 5:
            return {"note": "x" * 21}  # longer than the column
        return None

    done = run(mariadb, work, **mode)
    rows = scratch.rows(
        "SELECT id, status, attempts, error, note, TIMESTAMPDIFF(SECOND, NOW(6), retry_at) FROM orders"
    )
    texts = {row[0]: row[1:4] for row in rows}
    assert texts[1] == ("failed", 1, "no such customer")
    assert texts[2] == ("pending", 0, None)
    assert texts[3] == ("pending", 1, "ValueError: it is 3")
    assert texts[4] == ("normal", 1, None)
    assert texts[5][:2] == ("pending", 1)
    assert "note" in texts[5][2]
    assert texts[6] == ("normal", 1, None)
    assert texts[7] == ("pending", 1, "ValueError: it is 7")
    delays = {row[0]: row[5] for row in rows}
    assert 7190 < delays[2] <= 7200
    assert 28790 < delays[8] <= 28800
    assert 0 <= delays[3] <= 10
    assert rows[3][4] == "sent"
    assert done.outcomes == {Kind.DONE: 2, Kind.FAILED: 1, Kind.NOT_READY: 2, Kind.RETRY: 3}
    assert (done.exceptions["ValueError"], done.lost) == (2, 0)


ERRORS = {
    "utf8mb4": "TEXT CHARACTER SET utf8mb4",
    "latin1": "VARCHAR(60) CHARACTER SET latin1",
    "short": "TINYTEXT CHARACTER SET utf8mb4",
    "none": None,
}
REASONS = {
    "exception": (ValueError("no 客"), "no 客"),
    "number": (0, "0"),
    "dict": ({"code": 7}, "{'code': 7}"),
    "half a character": ("\ud83d x", "\\ud83d x"),
    "exception of half a character": (ValueError("\ud83d"), "\\ud83d"),
    "nothing": ("", "RowFailed"),
}


def with_errors(scratch, mode, column):
    """Create the table with such an error column, or none; return the arguments that name the columns."""
    create(scratch)
    fill(scratch, 3)
    columns = mode.get("columns", ALL)
    if column is None:
        scratch.run("ALTER TABLE orders DROP error")
        return {**mode, "columns": {one: name for one, name in columns.items() if name != "error"}}
    scratch.run(f"ALTER TABLE orders MODIFY error {column} NULL")
    return {**mode, "columns": columns}


@pytest.mark.every_server
@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("column", ERRORS)
def test_a_row_fails_at_once_whatever_its_reason_is(scratch, mariadb, mode, column, reason):
    arguments = with_errors(scratch, mode, ERRORS[column])
    given, expected = REASONS[reason]

    def work(row):
        if row["id"] == 2:
            raise RowFailed(given)

    done = run(mariadb, work, **arguments)
    assert done.outcomes == {Kind.DONE: 2, Kind.FAILED: 1}
    assert scratch.column("SELECT status FROM orders ORDER BY id") == ["normal", "failed", "normal"]
    if column != "none":
        texts = [None, expected.replace("客", "\\u5ba2") if column == "latin1" else expected, None]
        assert scratch.column("SELECT error FROM orders ORDER BY id") == texts


@pytest.mark.parametrize(("column", "longest"), [("utf8mb4", 1000), ("latin1", 60), ("short", 63)])
def test_a_reason_is_cut_to_what_its_column_can_hold(scratch, mariadb, mode, column, longest):
    arguments = with_errors(scratch, mode, ERRORS[column])
    reason = "😀" * 2000

    def work(row):
        raise RowFailed(reason)

    assert run(mariadb, work, **arguments).outcomes == {Kind.FAILED: 3}
    written = reason if column != "latin1" else reason.encode("ascii", "backslashreplace").decode()
    assert set(scratch.column("SELECT error FROM orders")) == {written[:longest]}


@pytest.mark.every_server
@pytest.mark.parametrize("column", ERRORS)
def test_half_a_character_in_a_message_keeps_no_outcome_and_no_report_back(scratch, mariadb, mode, column):
    arguments = with_errors(scratch, mode, ERRORS[column])

    def work(row):
        if row["id"] == 1:
            raise ValueError("an answer ends with \ud83d")
        return {"note": "\ud83d"} if row["id"] == 2 else None

    done = run(mariadb, work, **arguments)
    assert done.outcomes == {Kind.DONE: 1, Kind.RETRY: 2}
    assert scratch.column("SELECT status FROM orders ORDER BY id") == ["pending", "pending", "normal"]
    if column != "none":
        texts = scratch.column("SELECT error FROM orders ORDER BY id")
        assert texts[0] == "ValueError: an answer ends with \\ud83d"
        assert texts[1].startswith("UnicodeEncodeError: ")
    assert done.examples["ValueError"] == ("1", "an answer ends with \\ud83d")
    assert msgspec.json.encode(done.examples)


@pytest.mark.every_server
def test_a_row_with_very_many_attempts_is_tried_again_within_an_hour(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 2)
    scratch.run("UPDATE orders SET attempts = 2000")

    def work(row):
        if row["id"] == 1:
            raise ValueError

    done = run(mariadb, work, max_attempts=None, **mode)
    assert done.outcomes == {Kind.DONE: 1, Kind.RETRY: 1}
    (tried_again, processed) = scratch.rows(
        "SELECT status, attempts, TIMESTAMPDIFF(SECOND, NOW(6), retry_at) FROM orders ORDER BY id"
    )
    assert tried_again[:2] == ("pending", 2001)
    assert 1790 <= tried_again[2] <= 3600
    assert processed == ("normal", 2001, None)


@pytest.mark.every_server
@pytest.mark.parametrize(("definition", "most"), [("TINYINT", 127), ("TINYINT UNSIGNED", 255)])
def test_the_number_of_attempts_stays_at_the_most_that_its_column_can_hold(
    scratch, mariadb, mode, definition, most
):
    create(scratch)
    fill(scratch, 2)
    scratch.run(f"ALTER TABLE orders MODIFY attempts {definition} NOT NULL DEFAULT 0")
    scratch.run(f"UPDATE orders SET attempts = {most}")

    def work(row):
        if row["id"] == 1:
            raise ValueError

    assert run(mariadb, work, max_attempts=None, **mode).outcomes == {Kind.DONE: 1, Kind.RETRY: 1}
    rows = scratch.rows("SELECT id, status, attempts FROM orders ORDER BY id")
    assert rows == [(1, "pending", most), (2, "normal", most)]


def test_a_row_fails_after_its_last_attempt(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 1)

    def work(row):
        raise OSError(f"attempt {row['attempts']}")

    for attempt in (1, 2, 3):
        scratch.run("UPDATE orders SET retry_at = NULL")
        run(mariadb, work, **mode)
        assert scratch.value("SELECT attempts FROM orders") == attempt
    assert scratch.rows("SELECT status FROM orders") == [("failed",)]


def test_without_a_column_for_it_a_row_waits_for_the_next_run(scratch, mariadb):
    create(scratch, index=BY_STATE)
    fill(scratch, 40)
    calls = Counter()

    def work(row):
        calls[row["id"]] += 1
        if row["id"] == 1:
            raise ValueError

    done = run(mariadb, work, columns=CLAIM_ONLY)
    assert set(calls.values()) == {1}
    assert done.outcomes == {Kind.DONE: 39, Kind.RETRY: 1}
    assert states(scratch) == {"normal": 39, "pending": 1}


def test_async_functions_run_at_once(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 10)
    running, most = 0, 0

    async def work(row):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        if row["id"] == 3:
            raise RowFailed("bad")

    done = run(mariadb, work, **mode)
    assert most == 10
    assert done.outcomes == {Kind.DONE: 9, Kind.FAILED: 1}


@pytest.mark.parametrize("is_async", [False, True])
def test_a_batch_is_one_call(scratch, mariadb, mode, is_async):
    create(scratch)
    fill(scratch, 25)
    sizes = []

    def work(rows):
        sizes.append(len(rows))
        return [RowFailed("bad") if row["id"] == 7 else None for row in rows]

    async def work_later(rows):
        await asyncio.sleep(0)
        return work(rows)

    done = run(
        mariadb,
        work_later if is_async else work,
        per="batch",
        options={"batch": 20, "whole_batches": True},
        **mode,
    )
    assert sizes == [20, 5]
    assert done.outcomes == {Kind.DONE: 24, Kind.FAILED: 1}


def test_a_bad_row_of_a_batch_costs_the_others_one_attempt(scratch, mariadb):
    create(scratch)
    fill(scratch, 20)

    def work(rows):
        if any(row["id"] == 7 for row in rows):
            raise ValueError("one of them")

    for _ in range(3):
        scratch.run("UPDATE orders SET retry_at = NOW(6) WHERE status = 'pending'")
        run(mariadb, work, per="batch", options={"whole_batches": True, "stop_after": 2})
    assert states(scratch) == {"normal": 19, "failed": 1}


def test_rows_that_fail_one_after_the_other_end_the_run(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 100)
    begun = []

    def work(row):
        begun.append(row["id"])
        raise ConnectionError("the mail server is away")

    with pytest.raises(RowsFailing, match="10 rows of orders in a row ended with ConnectionError"):
        run(mariadb, work, options={"batch": 50, "whole_batches": True}, **mode)
    assert len(begun) == 10
    assert states(scratch) == {"pending": 100}
    assert scratch.value("SELECT SUM(attempts) FROM orders") == 10


def test_the_row_limit_counts_claimed_rows(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 100)
    done = run(mariadb, lambda row: None, options={"limits": Limits(max_rows=33)}, **mode)
    assert (done.claimed, done.stopped) == (33, "max_rows")
    assert states(scratch) == {"normal": 33, "pending": 67}


def test_the_time_limit_gives_back_what_was_not_begun(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 20)
    begun = []

    def work(row):
        begun.append(row["id"])
        threading.Event().wait(0.2)

    limits = Limits(seconds=0.1)
    done = run(mariadb, work, options={"limits": limits, "whole_batches": True}, **mode)
    assert begun == [1]
    assert done.stopped == "time_budget"
    assert states(scratch) == {"normal": 1, "pending": 19}
    assert scratch.value("SELECT SUM(attempts) FROM orders") == 1


@pytest.mark.parametrize(
    ("seconds", "sizes"),
    [(0.1, [10, 20, 40]), (1.0, [10, 20, 40]), (2.0, [10, 10, 10]), (4.0, [10, 5, 2]), (90.0, [10, 1, 1])],
)
def test_a_batch_becomes_as_large_as_two_seconds_allow(scratch, mariadb, monkeypatch, seconds, sizes):
    create(scratch)
    fill(scratch, 70)
    resize, seen = Processing._resize, []
    monkeypatch.setattr(Processing, "_resize", lambda processing, rows, _: resize(processing, rows, seconds))
    run(mariadb, lambda rows: seen.append(len(rows)), per="batch", options={"limits": Limits(max_rows=70)})
    assert seen[:3] == sizes


def test_an_async_function_begins_no_row_after_the_time_limit(scratch, mariadb, mode, monkeypatch):
    create(scratch)
    fill(scratch, 20)
    claim = Processing._next

    def claim_slowly(processing, limit):
        rows = claim(processing, limit)
        threading.Event().wait(0.2)
        return rows

    monkeypatch.setattr(Processing, "_next", claim_slowly)

    async def work(row):
        raise AssertionError(row)

    done = run(mariadb, work, options={"limits": Limits(seconds=0.1)}, **mode)
    assert (done.outcomes[Kind.DONE], done.stopped) == (0, "time_budget")
    assert states(scratch) == {"pending": 20}


class Stop(BaseException):
    pass


def test_what_was_not_begun_is_given_back_when_the_run_stops(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 20)
    calls = []

    def safe_point():
        if len(calls) == 3:
            raise Stop

    options = {"safe_point": safe_point, "batch": 20, "whole_batches": True}
    with pytest.raises(Stop):
        run(mariadb, calls.append, options=options, **mode)
    assert states(scratch) == {"normal": 3, "pending": 17}
    assert scratch.value("SELECT SUM(attempts) FROM orders") == 3


def test_a_row_that_is_interrupted_is_pending_again_with_its_attempt_used(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 5)

    def work(row):
        if row["id"] == 2:
            raise Stop("execution_timeout")

    with pytest.raises(Stop):
        run(mariadb, work, **mode)
    assert states(scratch) == {"normal": 1, "pending": 4}
    assert scratch.rows("SELECT id, attempts FROM orders WHERE attempts") == [(1, 1), (2, 1)]


def test_an_expired_claim_is_taken_over(scratch, mariadb):
    create(scratch)
    fill(scratch, 4)
    scratch.run(
        "UPDATE orders SET status = 'work', claimed_by = 'dead', attempts = id,"
        " claimed_at = NOW(6) - INTERVAL 61 SECOND WHERE id < 4"
    )
    scratch.run("UPDATE orders SET status = 'work', claimed_by = 'alive', claimed_at = NOW(6) WHERE id = 4")
    seen = []
    done = run(mariadb, lambda row: seen.append((row["id"], row["attempts"])))
    assert sorted(seen) == [(1, 2), (2, 3)]
    assert (done.taken_over, done.worker_died) == (2, 1)
    assert scratch.rows("SELECT id, status, claimed_by = 'alive', error FROM orders WHERE id > 2") == [
        (3, "failed", 0, "its worker died in attempt 3 of 3"),
        (4, "work", 1, None),
    ]


def test_expired_claims_don_t_wait_for_the_pending_rows(scratch, mariadb):
    create(scratch)
    fill(scratch, 500)
    scratch.run(
        "UPDATE orders SET status = 'work', claimed_by = 'dead', attempts = 1,"
        " claimed_at = NOW(6) - INTERVAL 1 HOUR WHERE id % 20 = 0"
    )
    options = {"batch": 20, "whole_batches": True, "limits": Limits(max_rows=60)}
    done = run(mariadb, lambda row: None, options=options)
    assert (done.claimed, done.taken_over) == (60, 25)


def test_a_row_whose_outcome_is_refused_does_not_keep_others_back(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 6)
    scratch.run(
        "CREATE TRIGGER no_failures BEFORE UPDATE ON orders FOR EACH ROW BEGIN"
        " IF NEW.status = 'failed' AND NEW.id = 2 THEN"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'it must not fail'; END IF; END"
    )

    def work(row):
        if row["id"] in (2, 3):
            raise RowFailed("bad")

    engine = Engine(mariadb, work, **mode)
    with pytest.raises(WalkError, match=r"the outcomes of 1 rows .* key 2: .*it must not fail"):
        engine.run()
    assert (engine.done.outcomes, engine.done.lost) == ({Kind.DONE: 4, Kind.FAILED: 1}, 0)
    scratch.run("DROP TRIGGER no_failures")
    expected = {1: "normal", 3: "failed", 4: "normal", 5: "normal", 6: "normal"}
    assert dict(scratch.rows("SELECT id, status FROM orders WHERE id <> 2")) == expected


def test_an_attempt_that_was_reset_meanwhile_can_be_given_back(scratch, mariadb):
    create(scratch)
    fill(scratch, 1)

    def work(row):
        scratch.run("UPDATE orders SET attempts = 0")
        raise RowNotReady

    done = run(mariadb, work)
    assert done.outcomes == {Kind.NOT_READY: 1}
    assert scratch.rows("SELECT status, attempts FROM orders") == [("pending", 0)]


def test_a_row_that_is_not_ready_is_not_due_again_at_once(scratch, mariadb):
    """Else a run would do nothing but ask for this row."""
    create(scratch)
    fill(scratch, 1)

    def work(row):
        raise RowNotReady(after=timedelta(0))

    run(mariadb, work, options={"limits": Limits(1, None)})
    assert scratch.value("SELECT retry_at >= claimed_at + INTERVAL 1 SECOND FROM orders") == 1
