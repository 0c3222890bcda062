"""Files of more than 250 lines: each says why in its docstring."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
MOST_LINES = 250
STALE_BELOW = 200  # such a file has become short, so its reason is none any more
REASON = "hence the length"
FILES = [
    path for folder in ("plugins", "dags", "dev", "bench", "tests") for path in (REPO / folder).rglob("*.py")
]


def _fault(source: str) -> str | None:
    """Return what is wrong with the length of a file, or None."""
    lines = source.count("\n")
    says_why = REASON in " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    if lines > MOST_LINES and not says_why:
        return f"{lines} lines: split it by concept, or end its docstring with a reason, '…: {REASON}.'"
    if lines < STALE_BELOW and says_why:
        return f"{lines} lines are not long: remove '{REASON}' from its docstring"
    return None


def test_each_long_file_says_why() -> None:
    assert len(FILES) > 400
    assert {str(path.relative_to(REPO)): found for path in FILES if (found := _fault(path.read_text()))} == {}


@pytest.mark.parametrize(
    ("docstring", "lines", "found"),
    [
        ("A class.", 251, "251 lines: split"),
        ("A class: hence\nthe length.", 251, None),
        ("A class.", 250, None),
        ("A class: hence the length.", 100, "100 lines are not long"),
    ],
)
def test_the_rule(docstring: str, lines: int, found: str | None) -> None:
    head = f'"""{docstring}"""\n'
    fault = _fault(head + "pass\n" * (lines - head.count("\n")))
    assert fault is None if found is None else str(fault).startswith(found)
