"""`make chaos` in its short form: it holds, and its verdict is red if the code is broken on purpose."""

from __future__ import annotations

import os
import subprocess

import pytest

from dev.airflow import ROOT

PYTHON = ROOT / ".venv-cluster" / "bin" / "python"


def _chaos(tmp_path, **variables):
    """Run it; return its exit status, its last line and all that it said."""
    done = subprocess.run(
        [str(PYTHON), "-m", "dev.chaos", "--folder", str(tmp_path / "chaos")],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("CHAOS_")},
            **{f"CHAOS_{name}": value for name, value in variables.items()},
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip().splitlines()[-1], done.stdout


@pytest.mark.e2e
def test_three_minutes_of_faults(tmp_path):
    code, last, said = _chaos(tmp_path, SECONDS="180")
    assert (code, last) == (0, "verdict: held"), said


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("broken", "faults", "what"),
    [
        ("database_lock", "SIGSTOP of a purge", "overlapping writes"),
        ("once_per_tick", "SIGSTOP of the other deployment", "scheduled time done by two deployments"),
        ("claimant", "SIGSTOP of a row", "row not finished once"),
    ],
)
def test_it_is_red_with_broken_code(tmp_path, broken, faults, what):
    code, last, said = _chaos(tmp_path, SECONDS="120", BREAK=broken, FAULTS=faults)
    assert code == 1, said
    assert last.startswith("verdict: FAILED: "), said
    assert what in last, said
