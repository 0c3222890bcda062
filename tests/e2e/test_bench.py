"""`make bench` with tiny tables and few rounds: whether it runs. What it finds there is no measurement."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from bench.__main__ import SUBJECTS
from dev.airflow import ROOT

pytestmark = pytest.mark.e2e

# Runs one subject, with other values of constants of its module.
CHILD = """
import json, sys
from importlib import import_module
from pathlib import Path
from bench import __main__ as bench

bench.RESULTS = Path(sys.argv[1])
for name, value in json.loads(sys.argv[3]).items():
    module = import_module(f"bench.{sys.argv[2]}")
    assert hasattr(module, name), name
    setattr(module, name, value)
sys.exit(bench.main())
"""

ONE = {"ROUNDS": 1}
# The smallest sizes with which a subject still does all of its work.
SMALL = {
    "lock": {**ONE, "TIMES": 2},
    "handover": {**ONE, "CONTENDERS": 2, "SECONDS": 0.2, "HANDOVERS": 1},
    "waiters": {"WAITERS": 20, "WAITING": 1.0},
    "purge": {**ONE, "ROUNDS_OF_HALVES": 1},
    "neighbours": {**ONE, "IDLE_SECONDS": 1.0},
    "rows": {**ONE, "SLOW_SECONDS": 1, "BESIDE": 2.0, "POLLS": 2},
    "page": {**ONE, "WATCHERS": [10, 20], "MEASURED": 20},
    "guard": {**ONE, "WINDOW": 8.0},
    "at_once": {**ONE, "MANY": 2, "ALONE_WITHIN": 5.0},
    "killed_guard": {},
    "many": {**ONE, "WINDOW": 5.0, "LEAD": 20.0},
}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_runs(subject, tmp_path):
    results = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(results), subject, json.dumps(SMALL.get(subject, ONE))],
        cwd=ROOT,
        env={
            **os.environ,
            "BENCH_ROWS": "1000 2000",
            "BENCH_WATCHERS": "3",
            "SUBJECTS": subject,
            "PYTHONPATH": "plugins:.:.run/peers",  # as `make bench` has it
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    assert results.exists(), done.stderr
    found = json.loads(results.read_text())
    assert {key for result in found for key in result} == {"name", "ratio", "target", "ok"}
    assert max(Counter(result["name"] for result in found).values()) == 1
