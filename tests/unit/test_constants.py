"""Constants: each has one place in the code."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
FOLDERS = ("plugins", "dev", "bench")
SHORT = 20  # characters; a shorter text can mean two things


def _constants(source: str) -> list[tuple[str, ast.expr]]:
    """Return name and value of the constants of a module."""
    found: list[tuple[str, ast.expr]] = []
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign):
            found += [(one.id, statement.value) for one in statement.targets if isinstance(one, ast.Name)]
        elif (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value
        ):
            found.append((statement.target.id, statement.value))
    return [(name, value) for name, value in found if name.strip("_").isupper()]


def _says_what_it_is(value: ast.expr) -> bool:
    """Return whether a value can hardly mean two things: a long text, or a collection with texts."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, str) and len(value.value) > SHORT
    texts = [one.value for one in ast.walk(value) if isinstance(one, ast.Constant)]
    return any(isinstance(text, str) for text in texts) and not isinstance(value, ast.Subscript)


def _is_private_number(name: str, value: ast.expr) -> bool:
    return name.startswith("_") and isinstance(value, ast.Constant) and not isinstance(value.value, str)


def _twice(sources: dict[str, str]) -> list[str]:
    """Return the constants of two modules with the same text or collection, or the same name and value."""
    places: dict[str, set[str]] = defaultdict(set)
    for path, source in sources.items():
        for name, value in _constants(source):
            text = ast.unparse(value)
            if _says_what_it_is(value):
                places[text].add(f"{path}:{name}")
            if path.startswith("plugins") and not _is_private_number(name, value):
                places[f"{name} = {text}"].add(f"{path}:{name}")
    return sorted(f"{text}: {', '.join(sorted(where))}" for text, where in places.items() if len(where) > 1)


def test_no_constant_is_defined_twice() -> None:
    paths = [path for folder in FOLDERS for path in sorted((REPO / folder).rglob("*.py"))]
    assert len(paths) > 100
    assert _twice({str(path.relative_to(REPO)): path.read_text() for path in paths}) == []


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ('QUERY = "SELECT @@max_allowed_packet"', 'FACTS = "SELECT @@max_allowed_packet"', 1),
        ('KINDS = ("a", "b")', 'OTHERS: tuple[str, str] = ("a", "b")', 1),
        ("TIMES = (1, 2)", "PAUSES = (1, 2)", 0),
        ("MOST = 5", "MOST = 5", 1),
        ("MOST = 5", "MOST = 6", 0),
        ("MOST = 5", "LONGEST = 5", 0),
        ("_MOST = 5", "_MOST = 5", 0),
        ('NAME = "progress"', 'RECORD = "progress"', 0),
    ],
)
def test_what_is_defined_twice(first: str, second: str, found: int) -> None:
    assert len(_twice({"plugins/a.py": first, "plugins/b.py": second})) == found
