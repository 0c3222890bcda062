"""No two modules of iam_watcher import each other, not even within a function or for type checks only."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import pytest

from dev.airflow import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _modules(package: Path) -> dict[str, Path]:
    names = {path: path.relative_to(package.parent).with_suffix("").parts for path in package.rglob("*.py")}
    return {".".join(parts).removesuffix(".__init__"): path for path, parts in names.items()}


def _imported(module: Path, modules: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in modules else str(node.module)


def check(package: Path) -> None:
    modules = _modules(package)
    graph = {name: {*_imported(path, modules)} & modules.keys() - {name} for name, path in modules.items()}
    TopologicalSorter(graph).prepare()


def test_no_circle() -> None:
    check(ROOT / "plugins" / "iam_watcher")


@pytest.mark.parametrize(
    "back_import",
    [
        "from package import a",
        "def f():\n    from package.a import A",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import package.a",
    ],
)
def test_a_circle_is_seen_wherever_the_import_stands(tmp_path: Path, back_import: str) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from package.b import B\n")
    (package / "a.py").write_text("import package.b\nA = 1\n")
    (package / "b.py").write_text("B = 1\n")
    check(package)
    (package / "b.py").write_text(f"{back_import}\nB = 1\n")
    with pytest.raises(CycleError, match="package"):
        check(package)
