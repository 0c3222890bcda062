"""A pytest plugin: notes which test reached which line, and how long each test took.

Loaded by `-p dev.mutants.reach`; the file that it writes is named by the variable MUTANTS_REACH.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coverage
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_coverage = coverage.Coverage(data_file=None, source=["plugins/iam_watcher"], config_file=False)
_coverage.set_option("run:disable_warnings", ["no-data-collected"])
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
    """Write it all down: test file → what its tests reach, how long they took, and which failed."""
    _coverage.stop()
    data = _coverage.get_data()
    found: dict[str, Any] = {
        file: {"seconds": {}, "failed": [], "lines": {}} for file in map(_file_of, _seconds)
    }
    for test, seconds in _seconds.items():
        found[_file_of(test)]["seconds"][test] = seconds
    for test in sorted(set(_failed)):
        found[_file_of(test)]["failed"].append(test)
    for measured in data.measured_files():
        path = str(Path(measured).relative_to(Path.cwd()))
        for line, tests in data.contexts_by_lineno(measured).items():
            for test in filter(None, tests):
                found[_file_of(test)]["lines"].setdefault(path, {}).setdefault(line, []).append(test)
    Path(os.environ["MUTANTS_REACH"]).write_text(json.dumps(found), encoding="utf-8")


def _file_of(test: str) -> str:
    return test.partition("::")[0]
