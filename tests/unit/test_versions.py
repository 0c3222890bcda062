"""What `make versions` prints, and what it says of a Python that lacks something."""

from __future__ import annotations

import sys
from importlib.metadata import version
from platform import python_version

import pytest

from dev import versions
from dev.versions import SHOWN, Environment, table


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "FOLDER", tmp_path)
    program = tmp_path / "here" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return Environment("here", str(program), [])


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_version_is_below_the_name_of_its_package(environment):
    head, rule, row = map(cells, table({"here": [*environment.versions(), "7 passed"]}))
    assert len(head) == len(rule) == len(row)
    found = dict(zip(head, row, strict=True))
    assert {name: found[name] for name in SHOWN.values()} == {
        name: version(package) for package, name in SHOWN.items()
    }
    assert (found["environment"], found["Python"], found["result"]) == ("here", python_version(), "7 passed")


def test_an_environment_without_packages_has_its_result_in_the_last_column():
    head, _, row = map(cells, table({"here": ["pip failed"]}))
    assert dict(zip(head, row, strict=True))["result"] == "pip failed"


def test_a_python_without_headers_and_venv_is_named(environment, tmp_path, monkeypatch):
    assert environment.lacks() == []
    (tmp_path / "sysconfig.py").write_text(f"def get_path(name): return {str(tmp_path)!r}\n")
    (tmp_path / "ensurepip.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    assert environment.lacks() == [f"{python}-venv", f"{python}-dev"]
