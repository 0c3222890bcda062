"""Which columns can have the values of a parent's key."""

from __future__ import annotations

import pytest

from iam_watcher.database.column import Column
from iam_watcher.jobs.table_job.reference import why_not_equal


@pytest.mark.parametrize(
    ("collation", "equal"),
    [("utf8mb4_general_ci", True), ("utf8mb4_0900_ai_ci", False), ("utf8mb4_nopad_bin", False)],
)
def test_a_char_equals_a_varchar_only_if_spaces_at_the_end_do_not_count(collation: str, equal: bool) -> None:
    key, of_child = (
        Column("c", kind, nullable=True, column_type=f"{kind}(9)", collation=collation)
        for kind in ("char", "varchar")
    )
    assert (why_not_equal(of_child, key, "orders") is None) is equal
    assert why_not_equal(key, key, "orders") is None
