"""Claims of rows against other sessions: who gets a row, who keeps it, and what locks it costs.

All tests share the table and the workers that compete for it: hence the length.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager

import pytest

from iam_watcher.database.session import set_up
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import TableError, WalkError
from iam_watcher.walk.claim import find_states, first_look
from iam_watcher.walk.claim.claims import Claims, renew
from iam_watcher.walk.claim.due_query import is_due
from iam_watcher.walk.claim.finish import Finish
from iam_watcher.walk.claim.outcome import Kind, Outcome, Processed
from tests.integration.claims import BY_ID, BY_RETRY, BY_STATE, CLAIM_ONLY, HOLD, Engine, create, names, run
from tests.integration.conftest import numbers


class Worker:
    """The claims of one run, step by step."""

    def __init__(self, server, claimant, **given):
        self.connection = server.connect("scratch")
        set_up(self.connection)
        self.db = Transactions(self.connection)
        self.states = find_states.find(self.db, names(claimant=claimant, **given))
        self.done = Processed()
        self.claims = Claims(self.db, self.states, self.done)

    def finish(self, keys, outcome):
        Finish(self.db, self.states, self.done, lambda *_: pytest.fail("refused")).write(
            dict.fromkeys(keys, outcome)
        )


@pytest.fixture
def worker(scratch, mariadb):
    workers = []

    def make(claimant="first", **given):
        workers.append(Worker(mariadb, claimant, **given))
        return workers[-1]

    yield make
    for one in workers:
        one.db.close()


def fill(scratch, rows):
    scratch.run(f"INSERT INTO orders (id) SELECT seq FROM {numbers(rows)}")


@contextmanager
def locked(mariadb, key):
    """Another session has locked a row."""
    with closing(mariadb.connect("scratch")) as connection, connection.cursor() as cursor:
        connection.autocommit(False)
        cursor.execute("SELECT id FROM orders WHERE id = %s FOR UPDATE", [key])
        yield


def keys(rows):
    return [row.key[0] for row in rows]


@pytest.mark.every_server
@pytest.mark.parametrize("given", [{}, HOLD], ids=["claim", "hold"])
def test_two_workers_share_the_rows_without_waiting(scratch, worker, given):
    create(scratch)
    fill(scratch, 20)
    first, second = worker("first", **given), worker("second", **given)
    assert keys(first.claims.claim(5)) == [1, 2, 3, 4, 5]
    assert keys(second.claims.claim(5)) == [6, 7, 8, 9, 10]
    assert keys(first.claims.claim(5)) == [11, 12, 13, 14, 15]
    assert keys(second.claims.claim(5)) == [16, 17, 18, 19, 20]
    # Row locks don't keep their own session from claiming its rows again.
    assert given or second.claims.claim(5) == []


@pytest.mark.parametrize("given", [{}, HOLD], ids=["claim", "hold"])
def test_a_row_that_changed_after_the_probe_is_not_claimed(scratch, worker, monkeypatch, given):
    create(scratch)
    fill(scratch, 3)
    first = worker(**given)
    probe = first.claims._probe

    def and_then(limit):
        found = probe(limit)
        scratch.run("UPDATE orders SET status = 'normal' WHERE id = 2")
        return found

    monkeypatch.setattr(first.claims, "_probe", and_then)
    assert keys(first.claims.claim(5)) == [1, 3]
    assert scratch.column("SELECT status FROM orders WHERE id = 2") == ["normal"]


def test_a_row_that_is_locked_is_left(scratch, mariadb, worker):
    create(scratch)
    fill(scratch, 3)
    with locked(mariadb, 2):
        assert keys(worker().claims.claim(5)) == [1, 3]


def test_the_attempt_is_committed_with_the_claim(scratch, worker):
    create(scratch)
    fill(scratch, 2)
    first = worker()
    rows = first.claims.claim(5)
    first.connection.rollback()
    assert [row.attempt for row in rows] == [1, 1]
    assert scratch.rows("SELECT status, attempts, claimed_by FROM orders") == [("work", 1, "first")] * 2


def test_a_claim_whose_answer_was_lost_is_ours_and_counts_once(scratch, worker, monkeypatch):
    create(scratch)
    fill(scratch, 3)
    first = worker()
    commit, failed = first.db.commit, []

    def commit_without_answer():
        commit()
        if scratch.value("SELECT COUNT(*) FROM orders WHERE status = 'work'") and not failed:
            failed.append(True)
            raise first.connection.OperationalError(1213, "as if")

    monkeypatch.setattr(first.db, "commit", commit_without_answer)
    rows = first.claims.claim(5)
    assert failed
    assert [(row.key[0], row.attempt) for row in rows] == [(1, 1), (2, 1), (3, 1)]
    assert set(scratch.column("SELECT attempts FROM orders")) == {1}


@pytest.mark.every_server
def test_outcomes_of_rows_that_were_taken_over_are_not_written(scratch, worker):
    create(scratch)
    fill(scratch, 3)
    first, second = worker("first"), worker("second")
    first.claims.claim(5)
    scratch.run("UPDATE orders SET claimed_at = NOW(6) - INTERVAL 1 HOUR WHERE id = 2")
    assert second.claims.expired() == [(2,)]
    (row,) = second.claims.take_over((2,))
    assert (row.key, row.attempt) == ((2,), 2)
    first.finish([(1,), (2,), (3,)], Outcome(Kind.DONE))
    assert (first.done.outcomes[Kind.DONE], first.done.lost) == (2, 1)
    assert scratch.rows("SELECT status, claimed_by FROM orders WHERE id = 2") == [("work", "second")]
    second.finish([(2,)], Outcome(Kind.FAILED, reason="for good"))
    assert scratch.rows("SELECT status, error FROM orders WHERE id = 2") == [("failed", "for good")]


def test_a_renewed_claim_is_not_taken_over(scratch, worker):
    create(scratch)
    fill(scratch, 1)
    first, second = worker("first"), worker("second")
    first.claims.claim(5)
    scratch.run("UPDATE orders SET claimed_at = NOW(6) - INTERVAL 1 HOUR")
    (key,) = second.claims.expired()
    assert first.claims.renew([key]) == {key}
    assert second.claims.take_over(key) == []


def test_two_renewals_within_a_second_both_count(scratch, worker):
    create(scratch)
    fill(scratch, 2)
    first = worker()
    first.claims.claim(5)
    assert [first.claims.renew([(1,), (2,)]) for _ in range(3)] == [{(1,), (2,)}] * 3


def test_a_locked_row_does_not_keep_others_from_their_renewal(scratch, mariadb, worker):
    create(scratch)
    fill(scratch, 3)
    first = worker()
    first.claims.claim(5)
    scratch.run("UPDATE orders SET claimed_at = NOW(6) - INTERVAL 1 HOUR")
    with locked(mariadb, 2):
        assert renew(first.db, first.states, [(1,), (2,), (3,)]) == {(1,), (3,)}
        first.db.commit()
    assert scratch.column("SELECT id FROM orders WHERE claimed_at > NOW(6) - INTERVAL 1 MINUTE") == [1, 3]


@pytest.mark.parametrize("given", [{}, HOLD], ids=["claim", "hold"])
def test_a_finish_whose_answer_was_lost_counts_its_rows_once(scratch, worker, mariadb, monkeypatch, given):
    create(scratch)
    fill(scratch, 3)
    first = worker(**given)
    first.db._reconnect = lambda: mariadb.connect("scratch")
    first.claims.claim(5)
    commit, failed = first.db.commit, []

    def commit_without_answer():
        commit()
        if not failed:
            failed.append(True)
            raise first.connection.OperationalError(2013, "as if")

    monkeypatch.setattr(first.db, "commit", commit_without_answer)
    first.finish([(1,), (2,), (3,)], Outcome(Kind.DONE))
    assert (first.done.outcomes[Kind.DONE], first.done.lost) == (3, 0)


def killed(scratch):
    """End the session of the only open transaction."""
    (mine,) = scratch.transactions()
    scratch.run(f"KILL {mine}")
    while scratch.rows("SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = %s", [mine]):
        pass


@pytest.mark.every_server
def test_in_mode_hold_a_row_that_another_worker_finished_is_lost(scratch, mariadb):
    create(scratch)
    fill(scratch, 2)

    def work(row):
        if row["id"] == 2:
            killed(scratch)
            run(mariadb, lambda _: {"note": "second"}, **HOLD)
        return {"note": "first"}

    done = run(mariadb, work, options={"whole_batches": True}, **HOLD)
    assert (done.lost, done.outcomes.total()) == (2, 0)
    assert scratch.rows("SELECT status, note FROM orders") == [("normal", "second")] * 2


@pytest.mark.every_server
def test_a_conflict_in_mode_hold_does_not_end_the_row_locks(scratch, mariadb, worker):
    """Another worker must not call the function again while the first one waits for a lock."""
    scratch.run("CREATE TABLE kinds (id INT PRIMARY KEY) ENGINE = InnoDB")
    scratch.run("INSERT INTO kinds VALUES (1)")
    create(scratch, index=f"{BY_RETRY}, kind INT NULL, FOREIGN KEY (kind) REFERENCES kinds (id)")
    fill(scratch, 3)
    first, second = worker("first", **HOLD), worker("second", **HOLD)
    first.claims.claim(5)
    outcome = Outcome(Kind.DONE, values={"kind": 1})
    finished = threading.Thread(target=first.finish, args=([(1,), (2,), (3,)], outcome), daemon=True)
    with closing(mariadb.connect("scratch")) as other, other.cursor() as cursor:
        other.autocommit(False)
        cursor.execute("SELECT id FROM kinds FOR UPDATE")
        finished.start()
        while first.db.retries < 2:
            assert finished.is_alive()
            second.claims.start_over()
            assert second.claims.claim(5) == []
    finished.join()
    assert (first.done.lost, first.done.outcomes) == (0, {Kind.DONE: 3})
    assert set(scratch.rows("SELECT status, attempts FROM orders")) == {("normal", 1)}


def test_a_conflict_in_mode_hold_that_stays_keeps_only_its_own_row_back(
    scratch, mariadb, worker, monkeypatch
):
    monkeypatch.setattr("iam_watcher.walk.claim.finish.KEEP_LOCKS", 1)
    scratch.run("CREATE TABLE kinds (id INT PRIMARY KEY) ENGINE = InnoDB")
    scratch.run("INSERT INTO kinds VALUES (1), (2)")
    create(scratch, index=f"{BY_RETRY}, kind INT NULL, FOREIGN KEY (kind) REFERENCES kinds (id)")
    fill(scratch, 4)
    first = worker("first", **HOLD)
    first.claims.claim(5)
    outcomes = {(key,): Outcome(Kind.DONE, values={"kind": 1 + (key == 4)}) for key in range(1, 5)}
    finish = Finish(first.db, first.states, first.done, lambda *_: pytest.fail("refused"))
    finished = threading.Thread(target=finish.write, args=(outcomes,), daemon=True)
    with closing(mariadb.connect("scratch")) as other, other.cursor() as cursor:
        other.autocommit(False)
        cursor.execute("SELECT id FROM kinds WHERE id = 2 FOR UPDATE")
        finished.start()
        while scratch.value("SELECT COUNT(*) FROM orders WHERE status = 'normal'") < 3:
            assert finished.is_alive()
    finished.join()
    assert (first.done.lost, first.done.outcomes) == (0, {Kind.DONE: 4})


def test_a_locked_row_does_not_keep_other_outcomes_back(scratch, mariadb, worker):
    create(scratch)
    fill(scratch, 4)
    first = worker()
    first.claims.claim(5)
    finished = threading.Thread(
        target=first.finish, args=([(1,), (2,), (3,), (4,)], Outcome(Kind.DONE)), daemon=True
    )
    with locked(mariadb, 4):
        finished.start()
        while scratch.value("SELECT COUNT(*) FROM orders WHERE status = 'normal'") < 3:
            assert finished.is_alive()
    finished.join()
    assert first.done.outcomes[Kind.DONE] == 4


def test_rows_that_are_tried_again_count_in_the_batch(scratch, worker):
    create(scratch)
    fill(scratch, 10)
    scratch.run("UPDATE orders SET retry_at = NOW(6) - INTERVAL 1 HOUR WHERE id IN (8, 9)")
    assert keys(worker().claims.claim(5)) == [1, 2, 3, 8, 9]


@pytest.mark.parametrize("given", [{}, HOLD], ids=["claim", "hold"])
def test_a_locked_row_that_is_due_again_is_passed_once(scratch, mariadb, worker, given):
    create(scratch)
    fill(scratch, 4)
    scratch.run("UPDATE orders SET retry_at = NOW(6) - INTERVAL 1 HOUR")  # the same time for all
    first = worker(**given)
    look, looks = first.claims._probe, []

    def count(limit):
        looks.append(limit)
        assert len(looks) < 20
        return look(limit)

    first.claims._probe = count
    with locked(mariadb, 2):
        assert [keys(first.claims.claim(1)) for _ in range(3)] == [[1], [3], [4]]
        first.finish([(1,), (3,), (4,)], Outcome(Kind.DONE))
        assert first.claims.claim(1) == []


@pytest.mark.every_server
def test_rows_are_due_and_claims_expire_to_the_microsecond(scratch, worker):
    create(scratch)
    fill(scratch, 4)
    scratch.run("UPDATE orders SET retry_at = '2027-01-01 00:00:00.000001' WHERE id = 1")
    scratch.run("UPDATE orders SET retry_at = '2027-01-01 00:00:00' WHERE id = 2")
    scratch.run("UPDATE orders SET status = 'work', claimed_at = '2026-12-31 23:59:00' WHERE id = 3")
    scratch.run("UPDATE orders SET status = 'work', claimed_at = '2026-12-31 23:58:59.999999' WHERE id = 4")
    first = worker()
    first.connection.query("SET timestamp = 1798761600")  # 2027-01-01
    assert first.claims.expired() == [(4,)]
    assert first.claims.take_over((3,)) == []
    assert is_due(first.db, first.states)
    assert keys(first.claims.take_over((4,))) == [4]
    assert is_due(first.db, first.states)
    assert keys(first.claims.claim(5)) == [2]
    assert not is_due(first.db, first.states)


def find_nothing(one):
    with pytest.raises(TableError, match="no column 'x'"):
        find_states.find(one.db, names(state_column="x"))


QUESTIONS = {
    "find": lambda one: find_states.find(one.db, names()),
    "no such column": find_nothing,
    "first look": lambda one: first_look.check(one.db, one.states),
    "is due": lambda one: is_due(one.db, one.states),
    "expired": lambda one: one.claims.expired(),
    "count": lambda one: one.claims.count("pending", 5),
    "due": lambda one: one.claims.due(5),
    "oldest": lambda one: one.claims.oldest(),
    "renew": lambda one: one.states.holds or one.claims.renew([(1,)]),
    "claim": lambda one: one.claims.claim(5),
}


@pytest.mark.every_server
@pytest.mark.parametrize("given", [{}, HOLD], ids=["claim", "hold"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_leaves_no_transaction_open(scratch, mariadb, worker, question, given):
    create(scratch, index=f"{BY_RETRY}, created DATETIME DEFAULT NOW()")
    fill(scratch, 1)
    one = worker(**given, age_column="created")
    with locked(mariadb, 1):
        QUESTIONS[question](one)
        one.db.read("SET TRANSACTION READ WRITE")  # an error within a transaction


def test_a_row_that_another_run_has_finished_is_lost(scratch, worker):
    create(scratch)
    fill(scratch, 2)
    first, second = worker("first"), worker("second")
    first.claims.claim(5)
    scratch.run("UPDATE orders SET claimed_at = NOW(6) - INTERVAL 1 HOUR WHERE id = 2")
    second.claims.take_over((2,))
    second.finish([(2,)], Outcome(Kind.DONE))
    first.finish([(1,), (2,)], Outcome(Kind.DONE))
    assert (first.done.outcomes[Kind.DONE], first.done.lost) == (1, 1)


def test_the_oldest_row_has_an_age_if_there_is_one_and_its_time_is_known(scratch, worker):
    create(scratch, index=f"{BY_RETRY}, created DATETIME NULL")
    claims = worker(age_column="created").claims
    assert claims.oldest() is None
    fill(scratch, 1)
    assert claims.oldest() is None
    scratch.run("UPDATE orders SET created = NOW() - INTERVAL 1 HOUR")
    assert 3600 <= claims.oldest() < 4000


def test_an_error_says_what_the_run_was_doing(scratch, worker):
    create(scratch)
    first = worker()
    scratch.run("DROP TABLE orders")
    with pytest.raises(WalkError, match=r"look in orders, try 1 of 15: .*orders"):
        first.claims.claim(5)


@pytest.mark.parametrize("index", ["KEY by_status (status)", "KEY due (status, retry_at)"])
def test_a_claim_locks_its_batch_and_sorts_nothing(scratch, worker, index):
    create(scratch, index=index)
    fill(scratch, 20_000)
    scratch.run("ANALYZE TABLE orders")
    first = worker(**({"working": None, "columns": {}} if index == BY_STATE else HOLD))
    first_look.check(first.db, first.states)
    assert len(first.claims.claim(50)) == 50
    me = first.db.read("SELECT CONNECTION_ID()")[0][0]
    assert scratch.transactions()[me] <= 51


def test_a_claim_is_renewed_while_its_row_is_processed(scratch, mariadb):
    create(scratch)
    fill(scratch, 1)
    seen = []

    def work(row):
        claimed = scratch.value("SELECT claimed_at FROM orders")
        deadline = time.monotonic() + 20
        while scratch.value("SELECT claimed_at FROM orders") == claimed:
            assert time.monotonic() < deadline
        seen.append(row["id"])

    done = run(mariadb, work, claim_timeout=1.0)
    assert seen == [1]
    assert (done.outcomes[Kind.DONE], done.lost) == (1, 0)


@pytest.fixture
def no_renewal(monkeypatch):
    """Each renewal fails, with the error "no answer"."""

    def renew(*_):
        raise OSError("no answer")

    monkeypatch.setattr("iam_watcher.walk.claim.renewal.renew", renew)


@pytest.mark.parametrize("rows", [1, 2])
def test_why_claims_were_not_renewed_is_logged_once(scratch, mariadb, no_renewal, caplog, rows):
    """With a second row, the run notices it before that row, and not again at its end."""
    create(scratch)
    fill(scratch, rows)
    slow = threading.Event()
    run(mariadb, lambda row: slow.wait(0.75 * (row["id"] == 1)) or None, claim_timeout=1.0)
    assert caplog.text.count("could not be renewed") == caplog.text.count(": OSError: no answer") == 1


def test_rows_that_were_lost_while_the_process_stood_still_are_not_begun(scratch, mariadb, no_renewal):
    create(scratch)
    fill(scratch, 3)
    seen = []

    def work(row):
        seen.append(row["id"])
        if len(seen) == 1:
            scratch.run("UPDATE orders SET claimed_by = 'another' WHERE id = 2")
            overdue = threading.Event()
            overdue.wait(0.75)  # of a time-out of 1 s: two thirds are over

    done = run(mariadb, work, claim_timeout=1.0, options={"whole_batches": True})
    assert seen == [1, 3]
    assert (done.lost, done.outcomes[Kind.DONE]) == (1, 2)


def test_a_claim_that_another_session_has_locked_is_not_lost(scratch, mariadb, monkeypatch):
    create(scratch)
    fill(scratch, 4)
    monkeypatch.setattr("iam_watcher.walk.claim.renewal.Renewal.overdue", True)
    seen = []
    with closing(mariadb.connect("scratch")) as other, other.cursor() as cursor:
        other.autocommit(False)

        def work(row):
            seen.append(row["id"])
            if row["id"] == 1:
                cursor.execute("UPDATE orders SET claimed_at = NOW(6) - INTERVAL 1 HOUR WHERE id = 3")
                other.commit()
                cursor.execute("SELECT id FROM orders WHERE id IN (2, 3) FOR UPDATE")
            if row["id"] == 4:
                other.rollback()

        done = run(mariadb, work, options={"whole_batches": True})
    assert seen[:3] == [1, 2, 4]  # The claim of 3 has expired: another worker may have locked it.
    assert seen[3:] == [3]
    assert (done.lost, done.outcomes[Kind.GIVEN_BACK], done.outcomes[Kind.DONE]) == (0, 1, 4)


def test_row_locks_that_ended_with_their_session_are_taken_again(scratch, mariadb, monkeypatch):
    create(scratch)
    fill(scratch, 3)
    monkeypatch.setattr("iam_watcher.walk.claim.processing.FINISH_EVERY", -1)
    engine = Engine(mariadb, None, options={"whole_batches": True}, **HOLD)
    seen = []

    def work(row):
        seen.append(row["id"])
        free = "SELECT id FROM orders WHERE id = %s FOR UPDATE SKIP LOCKED"
        assert scratch.rows(free, [row["id"]]) == []
        if row["id"] == 1:
            killed(scratch)

    engine._function = work
    done = engine.run()
    assert seen == [1, 2, 3]
    assert (done.lost, done.outcomes) == (2, {Kind.DONE: 3})


WRONG = {
    "index": ({"index": "KEY other (note)"}, {}, r"CREATE INDEX `status_retry_at` ON `orders`"),
    "index_without_retry_at": ({"index": BY_STATE}, {}, r"no index on \(status, retry_at\)"),
    "index_in_another_order": ({"index": "KEY a (status, note)"}, {"columns": CLAIM_ONLY}, "no index on"),
    "descending_index": ({"index": "KEY a (status, retry_at DESC)"}, {}, r"index on \(status, retry_at\)"),
    "state": ({}, {"done": "paid"}, "done='paid' does not fit .* expected one of 'pending', 'work'"),
    "column": ({}, {"state_column": "state"}, "no column 'state'"),
    "missing": (
        {},
        {"columns": {**CLAIM_ONLY, "attempts_column": "tries"}},
        r"ALTER TABLE `orders` ADD COLUMN `tries` INT UNSIGNED NOT NULL DEFAULT 0",
    ),
    "type": ({}, {"columns": {**CLAIM_ONLY, "retry_at_column": "note"}}, r"MODIFY `note` DATETIME\(6\) NULL"),
    "short": ({}, {"columns": {**CLAIM_ONLY, "claimed_by_column": "note"}}, r"MODIFY `note` VARCHAR\(255\)"),
    "key": (
        {},
        {"columns": {**CLAIM_ONLY, "attempts_column": "id"}},
        "attempts_column is 'id', but this column of orders is in the key PRIMARY.* ADD COLUMN attempts INT",
    ),
    "unique_key": (
        {"key": "id INT NOT NULL, tries INT NOT NULL DEFAULT 1, UNIQUE by_tries (tries, id)"},
        {"columns": {**CLAIM_ONLY, "attempts_column": "tries"}},
        "attempts_column is 'tries', but this column of orders is in the key `by_tries`",
    ),
    "state_in_the_key": (
        {"key": "id INT NOT NULL, kind INT NOT NULL DEFAULT 1, PRIMARY KEY (kind, id)"},
        {"state_column": "kind", "pending": 1, "working": 2, "done": 3, "failed": 4},
        "state_column is 'kind', but this column of orders is in the key PRIMARY",
    ),
    "generated_state": (
        {"key": f"{BY_ID}, kind INT AS (attempts + 1) STORED"},
        {"state_column": "kind", "pending": 1, "working": 2, "done": 3, "failed": 4},
        "state_column is 'kind', but this column of orders is computed from other columns",
    ),
    "generated_error": (
        {"key": f"{BY_ID}, reason VARCHAR(255) AS (CONCAT('no ', note)) VIRTUAL"},
        {"columns": {**CLAIM_ONLY, "error_column": "reason"}},
        "error_column is 'reason', but this column of orders is computed from other columns",
    ),
    "auto_increment": (
        {"key": "id INT NOT NULL PRIMARY KEY, number INT NOT NULL AUTO_INCREMENT, KEY (number)"},
        {"columns": {**CLAIM_ONLY, "attempts_column": "number"}},
        "attempts_column is 'number', but this column of orders is AUTO_INCREMENT",
    ),
    "on_update": (
        {
            "key": f"{BY_ID}, since TIMESTAMP(6) NULL DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP(6)",
            "index": BY_STATE,
        },
        {"columns": {**CLAIM_ONLY, "claimed_at_column": "since"}},
        "claimed_at_column is 'since', but this column of orders has ON UPDATE.* ADD COLUMN claimed_at DATET",
    ),
    "attempts": (
        {"key": f"{BY_ID}, tries TINYINT NOT NULL DEFAULT 0"},
        {"columns": {**CLAIM_ONLY, "attempts_column": "tries"}, "max_attempts": 200},
        r"'tries' of orders \(attempts_column\) is tinyint.* max_attempts is 200; expected at most 127",
    ),
    "read": ({}, {"read": ["amount"]}, "no column 'amount'"),
    "index_of_another_key": (  # the rows of a state are in the order of n
        {
            "key": "id INT NOT NULL, n INT NOT NULL AUTO_INCREMENT, UNIQUE z (n), UNIQUE a (id)",
            "index": BY_STATE,
        },
        {"columns": CLAIM_ONLY},
        "not read pending rows in the order of the index `by_status` .*filesort.* ANALYZE TABLE `orders`",
    ),
    "table": ({}, {"table": "order"}, "no table 'order'"),
    "set_key": ({"key": "id SET('3', '2', '1') NOT NULL PRIMARY KEY"}, {}, "finds no range of id"),
    "no_key": ({"key": "id INT NOT NULL, KEY (id)"}, {}, "needs a primary key"),
}


@pytest.mark.every_server
@pytest.mark.parametrize("case", WRONG)
def test_what_can_not_work_is_said_before_the_first_claim(scratch, mariadb, case):
    table, given, message = WRONG[case]
    create(scratch, **{"key": BY_ID, **table})
    fill(scratch, 3)
    with pytest.raises(TableError, match=message):
        run(mariadb, lambda row: pytest.fail("claimed"), **given)
    assert set(scratch.column("SELECT status FROM orders")) == {"pending"}


@pytest.mark.parametrize(
    ("column", "length"),
    [("VARCHAR(32)", 32), ("VARCHAR(255)", 255), ("VARCHAR(300)", 255), ("TEXT", 63)],
)
def test_the_claimant_is_as_long_as_its_column_can_hold(scratch, worker, column, length):
    create(scratch)
    scratch.run(f"ALTER TABLE orders MODIFY claimed_by {column} NULL")
    assert worker("0123456789" * 40).states.claimant == ("0123456789" * 40)[:length]


def test_as_many_attempts_as_the_column_can_hold_are_allowed(scratch, worker):
    create(scratch)
    scratch.run("ALTER TABLE orders MODIFY attempts TINYINT NOT NULL DEFAULT 0")
    assert worker(max_attempts=127).states.max_attempts == 127
