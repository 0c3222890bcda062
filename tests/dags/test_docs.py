"""The Python examples of README and docs/ run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from dev.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG

REPO = Path(__file__).parents[2]
PAGES = sorted([REPO / "README.md", *(REPO / "docs").glob("*.md")])
CODE_BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
OWN_TEST = "from iam_watcher.testing"  # see the last test
EXAMPLES = [
    pytest.param(match[2], id=f"{page.name}:{page.read_text()[: match.start()].count(chr(10)) + 1}")
    for page in PAGES
    for match in CODE_BLOCK.finditer(page.read_text())
    if OWN_TEST not in match[2]
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(code: str, tmp_path: Path) -> None:
    """An example that begins with a docstring is a DAG file; any other is just run."""
    if not code.startswith('"""'):
        exec(compile(code, "example", "exec"), {"__name__": "example"})  # noqa: S102  our own pages
        return
    (tmp_path / "example.py").write_text(code)
    bag = DagBag(str(tmp_path))
    assert bag.import_errors == {}
    assert bag.dags


def test_the_page_on_tests_has_tests_that_run(
    store_dag: Callable[[DAG], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Redis, and without a deployment id."""
    monkeypatch.setenv("AIRFLOW_CONN_IAM_REDIS", f"redis://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID", "")
    monkeypatch.chdir(tmp_path)
    file, test = (match[2] for match in CODE_BLOCK.finditer((REPO / "docs" / "testing.md").read_text()))
    Path("dags").mkdir()
    Path("dags/count_bounces.py").write_text(file)
    page: dict[str, Any] = {}
    exec(compile(test, "example", "exec"), page)  # noqa: S102  our own pages
    store_dag(page["WATCHER"])
    tests = [name for name in page if name.startswith("test_")]
    assert tests == ["test_the_work", "test_the_run"]
    for name in tests:
        page[name]()
