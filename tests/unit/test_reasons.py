"""The reasons why rows are left alone: each that the code counts has words in the log and on the page."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from iam_watcher.archive.row_archive import WHY
from iam_watcher.archive.row_inserter import REFUSED, REPLACED
from iam_watcher.jobs.run_report import REASONS

CODE = Path(__file__).parents[2] / "plugins" / "iam_watcher"
PAGE = CODE / "ui" / "page"
PACKAGES = ("accounts", "archive", "jobs", "walk")
# Where the code names a reason: an entry of a mapping, a call, or what a function returns.
MAPPINGS = {"skipped", "left_out", "counted", "secrets_left"}
CALLS = {"leave_out", "skip", "RowsRefusedError", "skipped.append"}
FUNCTIONS = {"left_out", "_ageless", "skip"}
NAME = re.compile(r"[a-z]+(_[a-z]+)*")


def _reasons_in(tree):
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=of, slice=place) if _name(of)[-1] in MAPPINGS:
                yield from _texts(place)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys)) if name in MAPPINGS:
                for key in keys:
                    yield from _texts(key)
            case ast.Call(func=function) if {".".join(_name(function)[-n:]) for n in (1, 2)} & CALLS:
                yield from _texts(node)
            case ast.FunctionDef(name=name) if name in FUNCTIONS:
                yield from _texts(node)


def _name(node):
    if isinstance(node, ast.Attribute):
        return (*_name(node.value), node.attr)
    return (node.id if isinstance(node, ast.Name) else "",)


def _texts(node):
    if node is not None:
        texts = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
        yield from (text for text in texts if isinstance(text, str) and NAME.fullmatch(text))


def test_each_reason_that_the_code_counts_is_known():
    found = {*WHY, *REFUSED.values(), REPLACED}
    for package in PACKAGES:
        for path in (CODE / package).rglob("*.py"):
            found |= {*_reasons_in(ast.parse(path.read_text()))}
    assert sorted(found) == sorted(REASONS)


@pytest.mark.parametrize("page", ["words.js", "words-zh.js"])
def test_each_reason_has_words_on_the_page(page):
    shown = re.findall(r'^  "reason\.(\w+)": "', (PAGE / page).read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(REASONS)


def test_the_page_has_the_same_texts_in_both_languages():
    english, chinese = (
        re.findall(r'^  "?([\w.]+)"?: "(.*)",$', (PAGE / page).read_text(), re.MULTILINE)
        for page in ("words.js", "words-zh.js")
    )
    assert len(english) > 200
    assert sorted(key for key, _ in chinese) == sorted(key for key, _ in english)
    texts = dict(chinese)
    for key, text in english:
        values = [{*re.findall(r"\{\*?(\w+)\}", one)} for one in (text, texts[key])]
        assert values[0] == values[1], key
