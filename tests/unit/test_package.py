"""What `import iam_watcher` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import iam_watcher
from dev.airflow import ROOT


def test_a_public_name_needs_no_import_of_its_own() -> None:
    """In a new process: `settings` would be there already if another import had brought it."""
    program = (
        "import iam_watcher; assert {*iam_watcher.__all__} <= {*dir(iam_watcher)}; "
        "iam_watcher.settings.clean; [getattr(iam_watcher, name) for name in iam_watcher.__all__]"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT / "plugins"
    )
    assert done.returncode == 0, done.stderr


def test_the_decorator_is_the_function_and_not_a_module() -> None:
    from iam_watcher import watcher_dag
    from iam_watcher.watcher_dag import decorator

    assert iam_watcher.watcher is decorator.watcher
    assert iam_watcher.Watcher is watcher_dag.Watcher


def test_the_changelog_has_the_version() -> None:
    assert f"\n## [{iam_watcher.__version__}] " in (ROOT / "CHANGELOG.md").read_text()


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Watchers'"):
        iam_watcher.Watchers  # noqa: B018  the access is the test
