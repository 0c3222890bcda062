"""A pytest plugin: notes which test reached which line, and how long each test took.

Loaded by `-p dev.mutants.reach`; the file that it writes is named by the variable MUTANTS_REACH.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import coverage
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_coverage = coverage.Coverage(data_file=None, source=["plugins/iam_watcher"], config_file=False)
_coverage.start()
_seconds: dict[str, float] = {}
_failed: list[str] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note the lines under the test's name."""
    _coverage.switch_context(item.nodeid)
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the time and the failures: a test that fails anyhow notices nothing."""
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration
    if report.failed:
        _failed.append(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write it all down."""
    _coverage.stop()
    data = _coverage.get_data()
    root = Path.cwd()
    lines = {
        str(Path(file).relative_to(root)): {
            line: [test for test in tests if test] for line, tests in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    found = {"lines": lines, "seconds": _seconds, "failed": sorted(set(_failed))}
    Path(os.environ["MUTANTS_REACH"]).write_text(json.dumps(found), encoding="utf-8")
