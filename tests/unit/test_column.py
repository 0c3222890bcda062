"""A column as the catalogue has it."""

from __future__ import annotations

import pytest

from iam_watcher.database.column import Column


@pytest.mark.parametrize(
    ("column_type", "length"),
    [
        ("varchar(1000)", "LENGTH(`c`)"),
        ("varchar(999)", None),
        ("varbinary(1000)", "LENGTH(`c`)"),
        ("varbinary(999)", None),
        ("varchar(15000) /*M!100301 COMPRESSED*/", "LENGTH(`c`)"),
        ("text", "LENGTH(`c`)"),
        ("longblob", "LENGTH(`c`)"),
        ("json", "JSON_STORAGE_SIZE(`c`)"),
        ("tinytext", None),
        ("decimal(65,30)", None),
    ],
)
def test_the_length_of_values_that_can_be_long(column_type, length):
    data_type = column_type.partition("(")[0]
    assert Column("c", data_type, nullable=True, column_type=column_type).length == length


@pytest.mark.parametrize(
    ("column_type", "expected"),
    [
        ("tinyint", (-128, 127)),
        ("tinyint unsigned", (0, 255)),
        ("bigint", (-(2**63), 2**63 - 1)),
        ("bigint unsigned", (0, 2**64 - 1)),
    ],
)
def test_the_values_of_an_integer_column(column_type, expected):
    data_type = column_type.partition(" ")[0]
    found = Column("c", data_type, nullable=True, column_type=column_type).integers
    assert found == expected
    assert {type(value) for value in found} == {int}  # a float would not be exact in SQL
