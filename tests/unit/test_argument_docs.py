"""The docstrings of the operators: each argument is explained once, by the class that has it."""

from __future__ import annotations

import importlib
import inspect
import re
from collections import Counter

import pytest

from iam_watcher.jobs.database_operator import DatabaseOperator
from iam_watcher.provider_info import OPERATORS

EXPLAINED = re.compile(r"^ *:param (\w+):", re.MULTILINE)
# Arguments that have another meaning, or another default, in another operator.
DIFFERENT = {"accounts", "age_column", "per", "redact"}


def _operators() -> list[type]:
    found: list[type] = []
    for name in OPERATORS:
        module = importlib.import_module(name)
        found += [one for one in vars(module).values() if _is_operator(one) and one.__module__ == name]
    return found


def _is_operator(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, DatabaseOperator)


def _classes(operator: type) -> list[type]:
    return [one for one in operator.__mro__ if one.__module__.startswith("iam_watcher.")]


@pytest.mark.parametrize("operator", _operators(), ids=lambda operator: operator.__name__)
def test_each_argument_is_explained_once(operator: type) -> None:
    taken: set[str] = set()
    explained: Counter[str] = Counter()
    for one in _classes(operator):
        own = inspect.signature(inspect.unwrap(vars(one)["__init__"])).parameters.values()
        taken |= {argument.name for argument in own if argument.kind is argument.KEYWORD_ONLY}
        explained.update(EXPLAINED.findall(one.__doc__ or ""))
    assert explained == Counter(taken)


def test_an_argument_of_several_operators_is_explained_by_one_class() -> None:
    classes = {one for operator in _operators() for one in _classes(operator)}
    explained: Counter[str] = Counter()
    for one in classes:
        explained.update(EXPLAINED.findall(one.__doc__ or ""))
    assert {name for name, number in explained.items() if number > 1} == DIFFERENT


@pytest.mark.parametrize("operator", _operators(), ids=lambda operator: operator.__name__)
def test_an_operator_names_the_arguments_of_the_classes_that_it_extends(operator: type) -> None:
    text = operator.__doc__ or ""
    for base in _classes(operator)[1:]:
        assert f"`{base.__name__}`" in text
