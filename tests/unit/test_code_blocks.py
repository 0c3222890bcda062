"""The code blocks of the pages that are not Python: each can be parsed, and names commands that are there.

tests/dags/test_docs.py runs the Python blocks. `make docs` builds the blocks of Sphinx.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

REPO = Path(__file__).parents[2]
BLOCK = re.compile(r"^( *)```([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# Page -> the test that runs its statements.
RUN_SQL = {
    "docs/retention.md": "tests/integration/test_retention_page.py",
    "docs/rows-in-a-state.md": "tests/integration/test_process_rows_operator.py",
    "docs/tutorial.md": "tests/dags/test_tutorial.py",
    "docs/zh/tutorial.md": "tests/unit/test_translations.py",
}
OUR_PROGRAM = re.compile(r"-m iam_watcher\.(\w+)(.*)")
AIRFLOW = re.compile(r"^\s*(?:\S+/)?airflow (.+)$")
MAKE = re.compile(r"^\s*make (\S+)")


def _pages() -> list[str]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(listed, cwd=REPO, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (REPO / name).exists()]


def _blocks() -> list[object]:
    found = []
    for page in _pages():
        text = (REPO / page).read_text()
        for block in BLOCK.finditer(text):
            if block[2] in ("", "python") or block[2].startswith("{"):
                continue
            line = text[: block.start()].count("\n") + 1
            found.append(pytest.param(page, block[2], block[3], id=f"{page}:{line}"))
    return found


def _check_shell(_: str, code: str) -> None:
    done = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for line in code.splitlines():
        if program := OUR_PROGRAM.search(line):
            parser = argparse.ArgumentParser(exit_on_error=False)
            import_module(f"iam_watcher.{program[1]}.__main__").add_arguments(parser)
            parser.parse_args(shlex.split(program[2]))
        if command := AIRFLOW.match(line):
            from airflow.cli.cli_parser import get_parser

            get_parser().parse_args(shlex.split(command[1]))
        if target := MAKE.match(line):
            assert f"\n{target[1]}:" in (REPO / "Makefile").read_text()


def _check_console(page: str, code: str) -> None:
    commands = [line.removeprefix("$ ") for line in code.splitlines() if line.startswith("$ ")]
    assert commands
    _check_shell(page, "\n".join(commands))


def _check_sql(page: str, code: str) -> None:
    assert code.rstrip().endswith(";")
    assert Path(page).name in (REPO / RUN_SQL[page]).read_text() or "/zh/" in page


PARSERS: dict[str, Callable[[str, str], object]] = {
    "bash": _check_shell,
    "sh": _check_shell,
    "console": _check_console,
    "json": lambda _, code: json.loads(code),
    "yaml": lambda _, code: yaml.safe_load(code),
    "sql": _check_sql,
    "dockerfile": lambda _, code: re.compile(r"\s*FROM \S+\n").match(code) or pytest.fail("no FROM"),
}


@pytest.mark.parametrize(("page", "language", "code"), _blocks())
def test_a_block_can_be_parsed(page: str, language: str, code: str) -> None:
    PARSERS[language](page, code)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("bash", "for x in a; do echo\n"),
        ("bash", "python -m iam_watcher.lock releases clean\n"),
        ("bash", "airflow dags tests x\n"),
        ("bash", "make demos\n"),
        ("console", "no command\n"),
        ("json", "{'a': 1}\n"),
        ("yaml", "a: [1\n"),
        ("sql", "SELECT 1\n"),
    ],
)
def test_a_wrong_block_is_found(language: str, code: str) -> None:
    with pytest.raises((AssertionError, SystemExit, ValueError, yaml.YAMLError, argparse.ArgumentError)):
        PARSERS[language]("docs/retention.md", code)
