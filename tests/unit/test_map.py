"""The map of the code in CONTRIBUTING.md, compared with the files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

REPO = Path(__file__).parents[2]
FILE = re.compile(r"[\w.-]+\.(?:py|sh)\b")


def _on_the_map() -> set[str]:
    """Return the paths on the map: a line names files of the folder that it is indented below."""
    page = (REPO / "CONTRIBUTING.md").read_text()
    (block,) = re.findall(r"^```\n(dags/.*?)^```$", page, re.MULTILINE | re.DOTALL)
    paths = set()
    folders: list[tuple[int, str]] = []
    for line in block.splitlines():
        indent = len(line) - len(line.lstrip())
        while folders and folders[-1][0] >= indent:
            folders.pop()
        path = "".join(name for _, name in folders)
        words = line.split()
        if words[0].endswith("/"):
            folders.append((indent, words[0]))
            path += words[0]
            paths.add(path)
        paths |= {path + name for name in FILE.findall(line)}
    return paths


def _files() -> set[str]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=REPO, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.splitlines() if (REPO / name).exists()}


def test_the_map_names_what_is_there() -> None:
    files = _files()
    folders = {f"{parent}/" for name in files for parent in Path(name).parents}
    assert sorted(_on_the_map() - files - folders) == []


def test_no_module_is_missing_from_the_map() -> None:
    modules = {
        name
        for name in _files()
        if re.match(r"(plugins|dev|bench)/.*\.py$", name)
        and not re.search(r"__init__\.py$|^(dev|bench)/.*__main__", name)
    }
    assert sorted(modules - _on_the_map()) == []
