"""The words of the code, the pages and the tests: those of the glossary, and none that it replaces."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
OURS = Path(__file__).name
READ = ("*.py", "*.md", "*.js", "*.sh", "*.sql", "*.yaml", "*.toml", "Makefile")

# A word that a reader does not find in the manuals of MySQL, Redis or Airflow -> what to say.
INSTEAD = {
    "bookmarks?": "position, saved position",
    "brakes?": "safety limit",
    "cap(s|ped)?": "row limit, time limit",
    "beats?": "heartbeat",
    "checkpoints?": "safe point",
    "(?<!_)fenc(e[sd]?|ing)": "database lock",
    "held[ _]back": "throttled, or what the safety limit did",
    "(come|came)s?[ _]of[ _]age": "old enough",
    "poison": "a row that fails",
    "put([ _](it|them))?[ _]back": "restored, re-enabled",
    "stands?[ _]in": "is in",
    "tellers?": "progress",
    "ways?[ _]back": "undo: re-enable users, restore rows",
    "written[ _]down": "recorded",
    "(is|are|was|were|be|been)[ _]told|told(?=_)": "logged, reported, an error, sent",
}
RULES = {
    re.compile(rf"(?<![a-zA-Z])({word})(?![a-zA-Z])", re.IGNORECASE): use for word, use in INSTEAD.items()
}
# The name that an option had.
ALLOWED = ("`Lock(fence=…)`",)


def _files() -> list[str]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *READ]
    done = subprocess.run(listed, cwd=REPO, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (REPO / name).exists() and not name.endswith(OURS)]


def _found(text: str) -> list[str]:
    """Return the words of a text that the glossary replaces, each with what to say."""
    for allowed in ALLOWED:
        text = text.replace(allowed, "")
    return [f"{match[0]!r}: say {use}" for rule, use in RULES.items() for match in rule.finditer(text)]


def test_the_words_are_those_of_the_glossary() -> None:
    names = _files()
    assert len(names) > 400
    found = {name: words for name in names if (words := [*_found(name), *_found((REPO / name).read_text())])}
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "The job is held back.",
        "def test_a_missing_right_is_told() -> None:",
        "tests/dags/test_ways_back.py",
        "a BRAKE",
    ],
)
def test_a_word_that_is_replaced_is_found(text: str) -> None:
    assert _found(text)


@pytest.mark.parametrize(
    "text",
    ["a heartbeat", "the age of rows", "defences", "standstill", "forms of age columns", "`Lock(fence=…)`"],
)
def test_other_words_are_not(text: str) -> None:
    assert _found(text) == []
