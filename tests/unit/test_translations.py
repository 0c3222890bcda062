"""The Chinese pages: their code is that of the English pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "README.zh.md"} | {
    f"docs/{page.name}": f"docs/zh/{page.name}" for page in (ROOT / "docs" / "zh").glob("*.md")
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


def _without_code(name: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)
