"""Files of more than 250 lines: each says why in its docstring; a JavaScript module, in its first comment."""

from __future__ import annotations

import ast
from itertools import takewhile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
MOST_LINES = 250
STALE_BELOW = 200  # such a file has become short, so its reason is none any more
REASON = "hence the length"
FILES = [
    path
    for folder in ("plugins", "dags", "dev", "bench", "tests")
    for pattern in ("*.py", "*.js")
    for path in (REPO / folder).rglob(pattern)
]


def _head(source: str, suffix: str) -> str:
    """Return the docstring of a Python file, or the first comment of a JavaScript file, on one line."""
    if suffix == ".js":
        lines = takewhile(lambda line: line.startswith("//"), source.splitlines())
        text = " ".join(line.removeprefix("//") for line in lines)
    else:
        text = ast.get_docstring(ast.parse(source)) or ""
    return " ".join(text.split())


def _fault(source: str, suffix: str) -> str | None:
    """Return what is wrong with the length of a file, or None."""
    lines = source.count("\n")
    says_why = REASON in _head(source, suffix)
    if lines > MOST_LINES and not says_why:
        return f"{lines} lines: split it by concept, or end the text at its top with a reason, '…: {REASON}.'"
    if lines < STALE_BELOW and says_why:
        return f"{lines} lines are not long: remove '{REASON}' from its top"
    return None


def test_each_long_file_says_why() -> None:
    assert len(FILES) > 400
    assert {path.suffix for path in FILES} == {".py", ".js"}
    faults = {
        str(path.relative_to(REPO)): found
        for path in FILES
        if (found := _fault(path.read_text(), path.suffix))
    }
    assert faults == {}


@pytest.mark.parametrize(
    ("head", "suffix", "lines", "found"),
    [
        ('"""A class."""', ".py", 251, "251 lines: split"),
        ('"""A class: hence\nthe length."""', ".py", 251, None),
        ('"""A class."""', ".py", 250, None),
        ('"""A class: hence the length."""', ".py", 100, "100 lines are not long"),
        ("// Texts.", ".js", 251, "251 lines: split"),
        ("// Texts: hence\n// the length.", ".js", 251, None),
        ("// Texts.\npass\n// hence the length.", ".js", 251, "251 lines: split"),
        ("// Texts: hence the length.", ".js", 100, "100 lines are not long"),
    ],
)
def test_the_rule(head: str, suffix: str, lines: int, found: str | None) -> None:
    fault = _fault(f"{head}\n" + "pass\n" * (lines - head.count("\n") - 1), suffix)
    assert fault is None if found is None else str(fault).startswith(found)
