"""The commands of this project, and the versions they install."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from dev import constraints

ROOT = Path(__file__).parent.parent.parent


def _make(*arguments):
    return subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_help_lists_every_target_with_a_line():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE)) - {"bootstrap"}
    phony = set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE).group(1).split())
    listed = dict(re.findall(r"^  (\S+) +(\S.+)$", _make("help"), re.MULTILINE))
    assert listed.keys() == targets
    assert phony == targets | {"bootstrap"}


def test_make_alone_is_help():
    assert _make() == _make("help")


@pytest.mark.e2e
def test_every_target_that_needs_the_packages_installs_them_first():
    for target in (
        "demo",
        "run",
        "test",
        "compose-test",
        "e2e",
        "soak",
        "bench",
        "docs",
        "coverage",
        "versions",
        "audit",
        "constraints",
        "check",
    ):
        assert _make("--dry-run", target).splitlines()[0] == "dev/bootstrap.sh", target


def test_the_long_tests_get_what_they_need_beside_the_packages():
    commands = _make("--dry-run", "--what-if=constraints-bench.txt", "e2e")
    for argument in ("browser", "cluster", "bench"):
        assert f"dev/bootstrap.sh {argument}\n" in commands
    assert "--target .run/peers" in commands.partition("-m pytest")[0]


@pytest.mark.parametrize("group", ["peers", "docs", "audit"])
def test_what_stands_beside_venv_is_installed_by_the_python_of_venv(group):
    """Also if it is the only target, or if make does several at once."""
    commands = _make("--dry-run", "--what-if=pyproject.toml", f".run/{group}").splitlines()
    assert commands[0] == "dev/bootstrap.sh"
    assert any(line.strip().startswith(".venv/bin/python -m pip") for line in commands)


def test_the_long_tests_are_all_of_those_that_are_marked():
    paths = re.findall(r"\btests/[\w/.]+", _make("--dry-run", "e2e"))
    marked = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark.e2e" in path.read_text()
    ]
    assert "tests/e2e/test_lock.py" in marked
    assert [path for path in marked if not path.startswith(tuple(paths))] == []


def test_ci_runs_the_check_the_tests_and_the_demo():
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make")]
    assert commands == ["make check", "make test", "make demo"]


def test_the_hooks_are_the_first_commands_of_check():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = [hook["entry"].removeprefix("env ") for hook in hooks]
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck: ")[2].partition("\n\n")[0]
    assert recipe.splitlines()[2 : 2 + len(entries)] == [f"\t{entry}" for entry in entries]


def test_each_group_with_constraints_is_renewed():
    files = {path.name for path in ROOT.glob("constraints*.txt")}
    assert set(constraints.FILES) == files
    named = {name: constraints.NAMED.findall((ROOT / name).read_text()) for name in files}
    order = list(constraints.FILES)
    assert [name for name in order for below in named[name] if order.index(below) > order.index(name)] == []


def test_renewed_constraints_keep_the_head_and_leave_out_what_another_file_pins():
    head = "# Why.\n--constraint constraints.txt\n"
    versions = {"python-redis-lock": "5.0.0", "Attrs": "1.0.0"}
    assert (
        constraints.renewed(f"{head}python-redis-lock==4.0.1\n", versions)
        == f"{head}python-redis-lock==5.0.0\n"
    )


def test_renewed_constraints_keep_what_python_itself_installs():
    assert constraints.renewed("setuptools==65.5.0\nred==1\n", {"red": "2"}) == "red==2\nsetuptools==65.5.0\n"


def test_what_is_installed_is_what_is_pinned():
    pinned = [
        line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    ]
    frozen = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "freeze", "--all"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert sorted(frozen, key=str.lower) == sorted(pinned, key=str.lower)


@pytest.mark.parametrize("group", ["bench", "docs", "audit"])
def test_what_stands_beside_venv_is_pinned_and_not_in_it(group):
    """So that .venv holds what constraints.txt says."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"][group]
    pins = re.findall(r"^([\w.-]+)==[\w.]+$", (ROOT / f"constraints-{group}.txt").read_text(), re.MULTILINE)
    pinned = {name.lower().replace("_", "-") for name in pins}
    assert set(wanted) <= pinned
    assert not pinned & {package.name.lower() for package in metadata.distributions()}
