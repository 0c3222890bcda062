"""The Python examples of README and docs/ run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

REPO = Path(__file__).parents[2]
PAGES = sorted([REPO / "README.md", *(REPO / "docs").glob("*.md")])
FENCE = re.compile(r"^( *)```python\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(match[2], id=f"{page.name}:{page.read_text()[: match.start()].count(chr(10)) + 1}")
    for page in PAGES
    for match in FENCE.finditer(page.read_text())
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
