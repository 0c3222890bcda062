"""What Airflow reads about the package."""

from __future__ import annotations

import importlib
import inspect
import json
import tomllib
from pathlib import Path

import airflow
import jsonschema
import yaml
from airflow.sdk import BaseOperator, BaseSensorOperator
from airflow.triggers.base import BaseTrigger

import iam_watcher
import iam_watcher.jobs
from dev.airflow import ROOT
from dev.versions import PYTHONS
from iam_watcher.provider_info import get_provider_info

INFO = get_provider_info()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_it_has_airflows_form() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


def _modules(kind: str) -> set[str]:
    return {name for entry in INFO[kind] for name in entry["python-modules"]}


def _defines(name: str, base: type) -> bool:
    module = importlib.import_module(name)
    return any(
        isinstance(found, type) and issubclass(found, base) and found.__module__ == name
        for found in vars(module).values()
    )


def test_every_module_that_it_lists_has_such_a_class() -> None:
    for kind, base in (
        ("operators", BaseOperator),
        ("sensors", BaseSensorOperator),
        ("triggers", BaseTrigger),
    ):
        assert [name for name in sorted(_modules(kind)) if not _defines(name, base)] == []


def _operators() -> set[type]:
    """Return the operators for DAG files; a class from which others are derived is none."""
    folder = Path(iam_watcher.jobs.__file__).parent
    modules = [importlib.import_module(f"iam_watcher.jobs.{path.stem}") for path in folder.glob("[!_]*.py")]
    operators = {
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, BaseOperator) and found.__module__ == module.__name__
    }
    return operators - {base for operator in operators for base in operator.__mro__[1:]}


def test_it_lists_every_operator_for_dag_files() -> None:
    assert {operator.__module__ for operator in _operators()} == _modules("operators")


def test_it_lists_every_trigger() -> None:
    plugins = Path(iam_watcher.__file__).parents[1]
    modules = {
        ".".join(path.relative_to(plugins).with_suffix("").parts)
        for path in plugins.rglob("iam_watcher/**/*.py")
        if "Trigger):" in path.read_text()
    }
    assert {name for name in modules if _defines(name, BaseTrigger)} == _modules("triggers")


def test_the_registry_has_the_same_texts_as_the_package_and_its_operators() -> None:
    registry = yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text())
    assert registry["package-name"] == INFO["package-name"] == PROJECT["name"]
    assert (registry["display-name"], registry["description"]) == (INFO["name"], PROJECT["description"])
    listed = {entry["module"]: entry["description"] for entry in registry["operators"]}
    assert listed == {_path(one): _first_line(one) for one in _operators()}
    others = {entry["module"]: entry["description"] for entry in registry["other"]}
    assert others == {
        f"iam_watcher.{one.__name__}": _first_line(one) for one in (iam_watcher.Watcher, iam_watcher.watcher)
    }


def _path(operator: type) -> str:
    return f"{operator.__module__}.{operator.__qualname__}"


def _first_line(documented: object) -> str:
    return str(inspect.getdoc(documented)).splitlines()[0]


def test_the_classifiers_name_the_pythons_that_are_tested() -> None:
    listed = [name.rpartition(" :: ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name]
    assert [f"python{version}" for version in listed] == list(PYTHONS)
