"""The reference in docs/reference/: it has all that a DAG file can use."""

from __future__ import annotations

import re
from pathlib import Path

import iam_watcher
from iam_watcher.provider_info import get_provider_info

PAGES = "\n".join(
    page.read_text() for page in (Path(__file__).parents[2] / "docs" / "reference").glob("*.md")
)
DOCUMENTED = re.findall(r"^\.\. auto\w+:: ([\w.]+)$", PAGES, re.MULTILINE)


def test_it_has_each_module_that_airflow_knows() -> None:
    info = get_provider_info()
    modules = {
        module
        for kind in ("operators", "sensors", "triggers")
        for entry in info[kind]
        for module in entry["python-modules"]
    }
    modules |= {entry["class-name"].rpartition(".")[0] for entry in info["task-decorators"]}
    assert modules - {name.rpartition(".")[0] for name in DOCUMENTED} == set()


def test_it_has_each_public_name() -> None:
    names = {f"iam_watcher.{name}" for name in iam_watcher.__all__} - {
        "iam_watcher.__version__",
        "iam_watcher.settings",
    }
    assert names - set(DOCUMENTED) == set()
