"""How many values of a key one statement lists."""

from __future__ import annotations

import pytest

from iam_watcher.database import key as key_module
from iam_watcher.database.column import Column
from iam_watcher.database.key import Key
from iam_watcher.database.key_column import KeyColumn

TEXT = KeyColumn(Column("k", "varchar", False, charset="utf8mb4", column_type="varchar(255)", collation="c"))
BINARY = KeyColumn(Column("b", "binary", False, column_type="binary(16)"))
NUMBER = KeyColumn(Column("n", "bigint", False, column_type="bigint(20) unsigned"))
DECIMAL = KeyColumn(Column("d", "decimal", False, column_type="decimal(65,30)"))
SHORT, LONG = b"a", b"a" * 1000

MIXED = [SHORT] * 40 + [LONG] * 5 + [SHORT] * 40


@pytest.mark.parametrize(
    ("key", "values"),
    [
        (Key((TEXT,)), MIXED),
        (Key((TEXT, NUMBER)), [(one, 2**64 - 1) for one in MIXED]),
        (Key((NUMBER, TEXT)), [(number, one) for number, one in enumerate(MIXED)]),
        (Key((BINARY,)), [b"\xff" * 16] * 100),
        (Key((DECIMAL, BINARY)), [(-(10**35), b"\xff" * 16)] * 100),
    ],
    ids=["text", "text and number", "number and text", "binary", "decimal and binary"],
)
def test_a_list_has_no_more_bytes_than_allowed(monkeypatch, key, values):
    monkeypatch.setattr(key_module, "MOST_LIST_BYTES", 3000)
    lists = key.in_lists(values)
    assert [value for few in lists for value in few] == values
    assert all(len(key.among(few)) <= 3000 for few in lists)
    assert len(lists) < len(values) / 3


@pytest.mark.parametrize("part", [TEXT, BINARY, DECIMAL], ids=lambda part: part.column.data_type)
def test_values_of_any_length_fit(part):
    key = Key((part,))
    longest = {"varchar": b"a" * 1020, "binary": b"a" * 16, "decimal": -(10**64)}[part.column.data_type]
    most = key.most_listed_of_any_length
    assert len(key.among([longest] * most)) <= key_module.MOST_LIST_BYTES
    assert most > 100


def test_integers_are_listed_without_a_limit():
    key = Key((NUMBER,))
    assert key.fit_a_list(range(10**6)) == 10**6
    assert key.most_listed_of_any_length > 10**6


def test_one_value_that_is_too_long_is_a_list_of_its_own(monkeypatch):
    monkeypatch.setattr(key_module, "MOST_LIST_BYTES", 100)
    assert Key((TEXT,)).in_lists([LONG, LONG]) == [[LONG], [LONG]]
    assert Key((TEXT,)).fit_a_list([]) == 0


@pytest.mark.parametrize(("most", "sizes"), [(1.9, [1, 1, 1]), (2.0, [2, 1]), (2.1, [2, 1]), (3.0, [3])])
def test_a_list_may_have_just_as_many_bytes_as_are_allowed(monkeypatch, most, sizes):
    monkeypatch.setattr(key_module, "MOST_LIST_BYTES", int(most * TEXT.list_bytes([SHORT])))
    assert [len(few) for few in Key((TEXT,)).in_lists([SHORT] * 3)] == sizes


def test_a_number_of_values_is_whole():
    assert isinstance(Key((TEXT,)).most_listed_of_any_length, int)
