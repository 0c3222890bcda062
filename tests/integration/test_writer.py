"""Which rows a transaction of a walk writes, and which it leaves to the next one."""

from __future__ import annotations

import math
from itertools import chain, combinations

import pytest

from iam_watcher.database.transactions import Transactions
from iam_watcher.walk.child_rows import condition
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.writer import Writer, halved, in_parts, split
from tests.integration.conftest import ID

KEYS = [-2, -1, 0, 1, 2, 3]
SOME = list(chain.from_iterable(combinations(KEYS, number) for number in range(len(KEYS) + 1)))


class Recorder:
    """Locks some rows only: the others can't be recorded."""

    def __init__(self, locked):
        self.refused = {}
        self.recorded = []
        self._locked = locked

    def lock(self, keys):
        return [key for key in keys if key in self._locked]

    def record(self, keys):
        self.recorded += keys


@pytest.fixture
def db(scratch, session):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY)")
    scratch.run_many("INSERT INTO t VALUES (%s)", [[key] for key in KEYS])
    return Transactions(session)


def left(db):
    return [key for (key,) in db.read("SELECT id FROM t ORDER BY id")]


ALL = RowChange("`t`", ID, "TRUE")


@pytest.mark.every_server
def test_a_row_that_is_not_recorded_stays_wherever_it_is(db, session):
    for some in SOME:
        recorder = Recorder(some)
        written = Writer(db, ALL, recorder).write_keys([KEYS], until=math.inf, exact=True)
        assert left(db) == [key for key in KEYS if key not in some]
        assert (written.changed, recorder.recorded) == (len(some), list(some))
        session.rollback()


def test_a_row_that_was_not_found_stays_if_the_walk_is_exact(db, session):
    for some in filter(None, SOME):
        Writer(db, ALL, None).write_keys([list(some)], until=math.inf, exact=True)
        assert left(db) == [key for key in KEYS if key not in some]
        session.rollback()


@pytest.mark.parametrize("order", [1, -1], ids=["ascending", "descending"])
def test_a_condition_for_keys_is_for_no_other_key(db, order):
    for some in filter(None, SOME):
        found = db.read(f"SELECT id FROM t WHERE {condition(ID, some[::order])} ORDER BY id")
        assert [key for (key,) in found] == list(some)


def test_the_first_statement_begins_also_when_the_time_is_over(db):
    written = Writer(db, ALL, None).write_keys([[-2, -1], [0, 1], [2, 3]], until=-math.inf, exact=True)
    assert (written.changed, written.rest, written.left) == (2, [[-2, -1], [0, 1]], 4)
    assert left(db) == [-2, -1, 0, 1]


@pytest.mark.parametrize(
    ("keys", "first", "last"),
    [
        (0, [[1, 2], [3, 4, 5]], []),
        (1, [[1, 2], [3, 4]], [[5]]),
        (3, [[1, 2]], [[3, 4, 5]]),
        (4, [[1]], [[2], [3, 4, 5]]),
        (5, [], [[1, 2], [3, 4, 5]]),
        (6, [], [[1, 2], [3, 4, 5]]),
    ],
)
def test_the_last_keys_are_split_off(keys, first, last):
    assert split([[1, 2], [3, 4, 5]], keys) == (first, last)


def test_keys_in_parts():
    assert in_parts([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
    assert [halved([*range(number)]) for number in range(4)] == [[], [[0]], [[0], [1]], [[0], [1, 2]]]
