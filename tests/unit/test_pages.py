"""The pages: each link to a file or a heading of this repository leads somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def _pages() -> list[Path]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(listed, cwd=REPO, capture_output=True, text=True, check=True)
    return [REPO / name for name in done.stdout.splitlines() if (REPO / name).exists()]


def _text(page: Path) -> str:
    """Return a page without its code, in which brackets are no links."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(REPO)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(_text(page)):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def test_a_page_shows_each_picture() -> None:
    pictures = {path.name for path in (REPO / "docs" / "images").iterdir()}
    shown = re.findall(r"!\[.+?\]\([\w./]*images/(.+?)\)", "".join(page.read_text() for page in _pages()))
    assert pictures == set(shown)
