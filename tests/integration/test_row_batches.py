"""Row processing from batch to batch: what it looks for and writes between them, and what ends it."""

from __future__ import annotations

import time

import pytest

from iam_watcher.errors import RowsFailing
from iam_watcher.walk.claim.claims import Claims
from iam_watcher.walk.claim.finish import Finish
from iam_watcher.walk.claim.outcome import Kind
from iam_watcher.walk.claim.processing import Processing
from tests.integration.claims import BY_RETRY, BY_STATE, CLAIM_ONLY, Engine, create, run
from tests.integration.test_process_rows import MODES, fill, states

WHOLE = {"batch": 5, "whole_batches": True}


class Clock:
    """The clock of a run: only the function moves it on."""

    def __init__(self):
        # Whole seconds: sums of them are exact.
        self.began = self.now = float(int(time.monotonic()))

    def monotonic(self):
        return self.now

    @property
    def seconds(self):
        return self.now - self.began


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("iam_watcher.walk.claim.processing.time", clock)
    return clock


@pytest.fixture(params=MODES.values(), ids=MODES)
def mode(request):
    return request.param


def expire(scratch, rows):
    """Let the first rows be claimed by a run that is dead."""
    scratch.run(
        "UPDATE orders SET status = 'work', claimed_by = 'dead', attempts = 1,"
        " claimed_at = NOW(6) - INTERVAL 1 HOUR WHERE id <= %s",
        [rows],
    )


@pytest.mark.parametrize(("claim_timeout", "expected"), [(300.0, [0, 12, 24]), (15.0, [0, 8, 16, 24])])
def test_expired_claims_are_looked_for_from_time_to_time(
    scratch, mariadb, clock, monkeypatch, claim_timeout, expected
):
    """Every 10 s, or in each third of the claim time-out, if that is less."""
    create(scratch)
    fill(scratch, 30)
    look, looks = Claims.expired, []
    monkeypatch.setattr(Claims, "expired", lambda claims: looks.append(clock.seconds) or look(claims))

    def work(rows):
        clock.now += 4

    run(mariadb, work, per="batch", options=WHOLE, claim_timeout=claim_timeout)
    assert looks == expected


def test_expired_claims_are_taken_over_for_two_seconds_before_each_batch(scratch, mariadb, clock):
    create(scratch)
    fill(scratch, 17)
    expire(scratch, 5)
    sizes = []

    def work(rows):
        sizes.append(len(rows))
        clock.now += 1

    done = run(mariadb, work, per="batch", options=WHOLE)
    assert sizes == [1, 1, 5, 1, 1, 5, 1, 2]
    assert (done.taken_over, states(scratch)) == (5, {"normal": 17})


def test_expired_claims_are_taken_over_in_any_order(scratch, mariadb):
    """Other runs have the same list: they would compete for each row."""
    create(scratch)
    fill(scratch, 15)
    expire(scratch, 15)
    seen = []
    run(mariadb, lambda row: seen.append(row["id"]))
    assert sorted(seen) == [*range(1, 16)]
    assert seen not in ([*range(1, 16)], [*range(15, 0, -1)])


def test_a_row_that_takes_as_long_as_a_batch_makes_the_next_batch_small(scratch, mariadb, clock):
    create(scratch)
    fill(scratch, 5)
    expire(scratch, 1)
    sizes = []

    def work(rows):
        sizes.append(len(rows))
        clock.now += 2

    run(mariadb, work, per="batch")
    assert sizes == [1] * 5


def test_outcomes_of_a_batch_are_written_every_second(scratch, mariadb, clock):
    create(scratch)
    fill(scratch, 6)
    written = []

    def work(row):
        written.append(states(scratch).get("normal", 0))
        clock.now += 0.75

    done = run(mariadb, work, options={"batch": 6, "whole_batches": True})
    assert written == [0, 0, 2, 2, 4, 4]
    assert (done.outcomes, done.lost) == ({Kind.DONE: 6}, 0)


def test_claims_of_finished_and_of_lost_rows_are_not_renewed(scratch, mariadb, monkeypatch):
    create(scratch)
    fill(scratch, 4)
    # No renewal but those of the run itself, and each claim is overdue at once.
    monkeypatch.setattr("iam_watcher.walk.claim.renewal.renew", lambda *_: (_ for _ in ()).throw(OSError))
    monkeypatch.setattr("iam_watcher.walk.claim.renewal.Renewal._late_after", 0.0)
    confirmed, renewed = [], []
    renew = Claims.renew

    def renew_and_note(claims, keys):
        renewed.append([key for (key,) in keys])
        return renew(claims, keys)

    monkeypatch.setattr(Claims, "renew", renew_and_note)
    engine = Engine(mariadb, None, options={"whole_batches": True})

    def work(row):
        confirmed.append(engine.renewal._valid_since)
        if row["id"] == 1:
            scratch.run("UPDATE orders SET claimed_by = 'another' WHERE id = 3")

    engine._function = work
    done = engine.run()
    assert renewed == [[1, 2, 3, 4], [2, 3, 4], [4], [4]]  # before each row: those that are not begun
    assert len(confirmed) == 3
    assert confirmed == sorted(set(confirmed))
    assert (done.outcomes, done.lost) == ({Kind.DONE: 3}, 1)
    assert engine.renewal._keys == set()


def test_the_time_of_the_database_is_that_of_claims_and_outcomes(scratch, mariadb, clock, monkeypatch):
    create(scratch)
    fill(scratch, 2)
    measured = []

    def slow(owner, name, seconds):
        method = getattr(owner, name)

        def slowly(*arguments):
            clock.now += seconds
            return method(*arguments)

        monkeypatch.setattr(owner, name, slowly)

    def measure(processing, rows, seconds):
        measured.append((rows, processing.database_seconds, seconds))

    slow(Claims, "claim", 2)
    slow(Finish, "write", 3)
    monkeypatch.setattr(Processing, "_resize", measure)
    run(mariadb, lambda rows: setattr(clock, "now", clock.now + 10), per="batch")
    assert measured == [(2, 5, 15)]


@pytest.mark.parametrize(
    ("index", "given", "expected"),
    [(BY_RETRY, {}, [5, 6, 7, 1]), (BY_STATE, {"columns": CLAIM_ONLY}, [5, 6, 7])],
    ids=["retry_at", "no retry_at"],
)
def test_a_row_that_comes_before_the_others_is_processed_if_a_column_has_its_time(
    scratch, mariadb, index, given, expected
):
    """Without a column of the time, a row that fails would be tried again at once."""
    create(scratch, index=index)
    scratch.run("INSERT INTO orders (id) VALUES (5), (6), (7)")
    seen = []

    def work(row):
        seen.append(row["id"])
        if row["id"] == 7:
            scratch.run("INSERT INTO orders (id) VALUES (1)")

    run(mariadb, work, **given)
    assert seen == expected


def test_one_exception_ends_the_run_if_it_is_to_stop_after_one(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 5)
    begun = []

    def work(row):
        begun.append(row["id"])
        if row["id"] == 3:
            raise ValueError("the third")

    with pytest.raises(RowsFailing, match="1 rows of orders in a row ended with ValueError: the third"):
        run(mariadb, work, options={"stop_after": 1}, **mode)
    assert begun == [1, 2, 3]
    assert states(scratch) == {"normal": 2, "pending": 3}


def test_values_that_the_server_refuses_one_after_the_other_end_the_run(scratch, mariadb, mode):
    create(scratch)
    fill(scratch, 15)
    begun = []

    def work(row):
        begun.append(row["id"])
        return {"note": "x" * 21}  # longer than the column

    with pytest.raises(RowsFailing, match=r"5 rows of orders in a row ended with .*note"):
        run(mariadb, work, options={**WHOLE, "stop_after": 5}, **mode)
    assert begun == [1, 2, 3, 4, 5]
    assert states(scratch) == {"pending": 15}
    assert scratch.value("SELECT SUM(attempts) FROM orders") == 5
