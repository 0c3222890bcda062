"""How much of the way is done, as a walk says it: also where keys have gaps."""

from __future__ import annotations

import pytest

from iam_watcher.database.transactions import Transactions
from iam_watcher.walk import pace
from iam_watcher.walk.key_order import KeyOrder
from iam_watcher.walk.pace import ChunkSize
from iam_watcher.walk.row_change import RowChange
from tests.integration.conftest import ID

ALL = RowChange("`t`", ID, "TRUE", "DELETE FROM `t`")
ROWS = 1000
KEYS = {
    "dense": range(1, ROWS + 1),
    "a gap at the end": [*range(1, ROWS), 10_000_000],
    "a gap at the beginning": [1, *range(10_000_000, 10_000_000 + ROWS - 1)],
    "negative keys": range(-ROWS // 2, ROWS // 2),
}


@pytest.fixture(params=KEYS)
def keys(request, scratch):
    scratch.run("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    scratch.run_many("INSERT INTO t VALUES (%s)", [(key,) for key in KEYS[request.param]])
    return KEYS[request.param]


def shares(session, monkeypatch, *, expected, after=None):
    """Return the rows that were looked at and the share, after each chunk."""
    monkeypatch.setattr(pace, "LEAST_ROWS", 100)
    size = ChunkSize(1e9, rows=100, span=100_000_000)
    order = KeyOrder(Transactions(session), ALL, size, after=after, expected=expected)
    order.begin()
    reported, examined = [(0, order.share)], 0
    while not order.finished:
        found = order.next_chunk(100, exact=True)
        order.advance(found)
        examined += found.examined
        reported.append((examined, order.share))
    return reported


@pytest.mark.parametrize("expected", [ROWS, 1.3 * ROWS])
def test_it_is_the_share_of_the_rows(keys, session, monkeypatch, expected):
    for examined, share in shares(session, monkeypatch, expected=expected)[:-1]:
        assert share == pytest.approx(examined / expected, abs=0.3 * examined / ROWS + 0.01)


@pytest.mark.parametrize("expected", [ROWS, 1.3 * ROWS, 0.5 * ROWS, 1, None])
def test_it_grows_to_one_and_says_one_at_the_end_only(keys, session, monkeypatch, expected):
    reported = [share for _, share in shares(session, monkeypatch, expected=expected)]
    assert reported[0] == 0.0
    assert reported[-1] == 1.0
    assert all(0 <= share < 1 for share in reported[:-1])


@pytest.mark.parametrize("step", [1, 10])
def test_a_walk_that_goes_on_has_the_way_up_to_there_done(scratch, session, monkeypatch, step):
    scratch.run("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    scratch.run_many("INSERT INTO t VALUES (%s)", [(step * key,) for key in KEYS["dense"]])
    reported = shares(session, monkeypatch, expected=ROWS, after=400 * step)
    assert [share for _, share in reported] == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], abs=0.01)
