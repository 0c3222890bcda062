"""Which share of the rows a walk says is done, by the keys and the numbers that the server gives."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from iam_watcher.database.column import Column
from iam_watcher.database.key import Key
from iam_watcher.database.key_column import KeyColumn
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.windows import windows_of

INTEGERS = RowChange("`t`", Key((KeyColumn(Column("id", "bigint", False)),)), "TRUE")
TEXTS = RowChange(
    "`t`", Key((KeyColumn(Column("id", "char", False, charset="ascii", collation="ascii_bin")),)), "TRUE"
)


@pytest.mark.parametrize(
    ("after", "position", "examined", "expected", "share"),
    [
        (None, 350, 7, None, 0.25),  # without an estimate: the share of the keys
        (None, 350, 100, 400, 0.25),
        (None, 350, 100, 10_000, 100 / 850),  # there are not more rows than keys
        (None, 350, 100, 101, 100 / 101),
        (None, 350, 100, 100, 0.25),  # more rows than expected: as many for each key as so far
        (None, 101, 1, 0, 1 / 1000),
        (None, 100, 0, 0, 0.0),
        (350, 600, 100, 400, 0.5),  # a walk that resumes
        (350, 600, 300, 400, 0.5),
        (350, 350, 0, 400, 0.25),
        (None, 1100, 100, 400, 1.0),
        (None, 1101, 100, None, 1.0),
        (None, None, 0, 400, 1.0),
    ],
)
def test_the_share_of_the_rows_of_an_integer_key(after, position, examined, expected, share):
    windows = windows_of(SimpleNamespace(read=lambda _: ((101, 1100),)), INTEGERS)
    assert windows.begin(after) == (after or 100)
    assert windows.share(position, examined, expected) == pytest.approx(share)


MARIADB_PLAN = (1, "SIMPLE", "t", "range", "PRIMARY", "PRIMARY", "4", None, 30, "Using where")
MYSQL_PLAN = (1, "SIMPLE", "t", None, "range", "PRIMARY", "PRIMARY", "4", None, 30, 100.0, "Using where")


@pytest.mark.parametrize("plan", [MARIADB_PLAN, MYSQL_PLAN], ids=["MariaDB", "MySQL"])
@pytest.mark.parametrize(
    ("position", "examined", "expected", "share"),
    [
        (b"m", 10, 200, 0.2),
        (b"m", 10, 20, 40 / 41),  # more rows than expected: nobody knows how many more
        (b"m", 1000, 20, 0.99),
        (b"m", 10, None, 0.0),
        (b"z", 10, 200, 1.0),
    ],
)
def test_the_share_of_the_rows_of_another_key(plan, position, examined, expected, share):
    """30 rows are before the first one, as the server estimates."""
    db = SimpleNamespace(read=lambda query: (plan,) if query.startswith("EXPLAIN") else ((b"z",),))
    windows = windows_of(db, TEXTS)
    assert windows.begin(b"k") == b"k"
    assert windows.share(position, examined, expected) == pytest.approx(share)


def test_the_share_of_an_empty_table():
    windows = windows_of(SimpleNamespace(read=lambda _: ()), TEXTS)
    assert windows.begin(None) is None
    assert windows.share(None, 0, 200) == 1.0
