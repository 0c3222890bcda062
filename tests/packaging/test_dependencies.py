"""What the package imports, and what it asks pip for."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from dev.airflow import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = {req.name: req for req in map(Requirement, PROJECT["dependencies"])}


def _imported_distributions() -> dict[str, set[str]]:
    """Return the distributions that the modules of plugins/ and dags/ import, each with its importers."""
    owners = metadata.packages_distributions()
    found: dict[str, set[str]] = {}
    for path in [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "dags").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top in sys.stdlib_module_names or top == "iam_watcher":
                    continue
                provider = re.match(r"airflow\.providers\.(\w+)", name)
                if provider:
                    distribution = f"apache-airflow-providers-{provider[1]}"
                elif top == "airflow":
                    distribution = "apache-airflow"
                else:
                    (distribution,) = set(owners[top])
                found.setdefault(distribution.lower(), set()).add(str(path.relative_to(ROOT)))
    return found


def test_every_import_is_a_declared_dependency() -> None:
    imported = _imported_distributions()
    assert not {name: imported[name] for name in imported.keys() - REQUIREMENTS.keys()}


def test_every_dependency_is_used() -> None:
    # The type of the connection iam_redis is this provider's; the clients are our own.
    used = _imported_distributions().keys() | {"apache-airflow-providers-redis"}
    assert not REQUIREMENTS.keys() - used


@pytest.mark.parametrize("name", sorted(REQUIREMENTS))
def test_what_the_tests_run_with_is_allowed(name: str) -> None:
    assert metadata.version(name) in REQUIREMENTS[name].specifier


@pytest.mark.parametrize(
    ("python", "allowed"),
    [("3.10.14", False), ("3.11.0", True), ("3.14.9", True), ("3.15.0", False), ("3.15.2", False)],
)
def test_the_pythons_of_airflow_alone_are_allowed(python: str, allowed: bool) -> None:
    assert (python in SpecifierSet(PROJECT["requires-python"])) is allowed


def test_only_the_tested_minor_of_airflow_is_allowed() -> None:
    specifier = REQUIREMENTS["apache-airflow"].specifier
    assert [v for v in ("3.2.9", "3.3.0", "3.3.9", "3.4.0", "4.0.0") if v in specifier] == ["3.3.0", "3.3.9"]
