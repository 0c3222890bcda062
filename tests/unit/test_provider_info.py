"""What Airflow reads about the package."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import airflow
import jsonschema
from airflow.sdk import BaseOperator, BaseSensorOperator
from airflow.triggers.base import BaseTrigger

import iam_watcher.jobs
from iam_watcher.provider_info import get_provider_info

INFO = get_provider_info()


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


def test_it_lists_every_operator_for_dag_files() -> None:
    folder = Path(iam_watcher.jobs.__file__).parent
    modules = [importlib.import_module(f"iam_watcher.jobs.{path.stem}") for path in folder.glob("[!_]*.py")]
    operators = {
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, BaseOperator) and found.__module__ == module.__name__
    }
    # A class from which others are derived is not for DAG files.
    bases = {base for operator in operators for base in operator.__mro__[1:]}
    assert {operator.__module__ for operator in operators - bases} == _modules("operators")
