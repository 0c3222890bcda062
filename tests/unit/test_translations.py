"""The Chinese pages: their code is that of the English pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "README.zh.md"} | {
    f"docs/{page.name}": f"docs/zh/{page.name}" for page in (ROOT / "docs" / "zh").glob("*.md")
}

# A term that another one replaces in the glossary of README.zh.md -> that one.
INSTEAD = {
    "禁用": "停用",
    "安全限制": "安全上限",
    "行数限制": "行数上限",
    "时间限制": "时间上限",
    "租期": "租约",
    "续期": "续约",
    "持有者": "持锁者",
    "调度时间": "计划时间",
}


def _blocks(name: str) -> list[str]:
    """Return the code blocks of a page, each with its language."""
    return re.findall(r"^ *```(.*?)^ *```$", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("english", "chinese"), PAGES.items())
def test_the_code_blocks_are_equal(english: str, chinese: str) -> None:
    assert _blocks(english)
    assert _blocks(chinese) == _blocks(english)


@pytest.mark.parametrize(("english", "chinese"), PAGES.items())
def test_the_sections_are_the_same_in_number(english: str, chinese: str) -> None:
    """The Chinese README has one more: the terms."""
    headings = [len(re.findall(r"^#+ ", _without_code(name), re.MULTILINE)) for name in (english, chinese)]
    assert headings[1] - headings[0] == ("术语" in (ROOT / chinese).read_text().split("## ")[-1])


@pytest.mark.parametrize(("english", "chinese"), PAGES.items())
def test_each_names_the_other(english: str, chinese: str) -> None:
    assert f"]({Path(chinese).relative_to(Path(english).parent)})" in (ROOT / english).read_text()
    assert Path(english).name in (ROOT / chinese).read_text()


@pytest.mark.parametrize("name", [*PAGES.values(), "plugins/iam_watcher/ui/page/words-zh.js"])
def test_the_terms_are_those_of_the_glossary(name: str) -> None:
    text = (ROOT / name).read_text()
    assert [f"{term}: say {use}" for term, use in INSTEAD.items() if term in text] == []


def test_the_glossary_has_the_terms() -> None:
    glossary = (ROOT / "README.zh.md").read_text().split("## 术语")[1]
    assert [use for use in INSTEAD.values() if use not in glossary] == []


def _without_code(name: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)
