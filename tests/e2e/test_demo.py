"""`make demo` as a person sees it, in a folder of its own so that it can't meet a developer's."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dev.processes import listening
from dev.sessions import session_members

pytestmark = pytest.mark.e2e

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def demo(tmp_path):
    """Start the demo; whatever happens in the test, it is gone afterwards."""
    command = [sys.executable, "-m", "dev.demo", "--folder", str(tmp_path / "demo")]
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process
        process.kill()


def _read_until(demo, pattern):
    """Read the demo's output up to the line that matches; return the match."""
    for line in demo.stdout:
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"the demo ended without {pattern!r}: {demo.stderr.read()}")


def _sessions(folder):
    """Return the sessions that the demo has started and not ended."""
    return [int(note.read_text().split()[0]) for note in folder.rglob("*.process")]


def test_the_demo_ends_with_the_expected_rows_and_leaves_nothing(demo, tmp_path):
    ports = _read_until(demo, r"MariaDB on port (\d+) .* Redis on port (\d+)").groups()
    _read_until(demo, "acquire")
    sessions = _sessions(tmp_path / "demo")
    # MariaDB, Redis and four times `airflow dags test`.
    assert len([session for session in sessions if session_members(session)]) == 6
    output, errors = demo.communicate()

    assert (demo.returncode, errors) == (0, "")
    rows = {line.split()[0]: re.split(r"\s{2,}", line)[:5] for line in output.splitlines() if "  " in line}
    assert rows["disable_inactive_users"] == [
        "disable_inactive_users",
        "2,920",
        "1,240",
        "5 admin, 15 exempt_name",
        "2,820 → 1,580 usable users",
    ]
    assert rows["clean_policy_audit"] == [
        "clean_policy_audit",
        "10,025",
        "6,000",
        "25 zero_date",
        "10,025 → 4,025 audit rows",
    ]
    assert rows["clean_expired_secrets"] == [
        "clean_expired_secrets",
        "1,000",
        "300",
        "200 never_expires",
        "1,000 → 700 secrets",
    ]
    assert rows["provision_users"] == ["provision_users", "420", "400", "20 failed", "420 → 0 pending users"]
    (table,) = re.findall(r"^```\n(watcher .*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    shown = [re.split(r"\s{2,}", line) for line in table.splitlines()]
    assert shown == [rows[line[0]] for line in shown]
    assert [port for port in ports if listening(int(port))] == []
    assert [session for session in sessions if session_members(session)] == []
    assert _sessions(tmp_path / "demo") == []


def test_ctrl_c_in_the_middle_leaves_nothing(demo, tmp_path):
    ports = _read_until(demo, r"MariaDB on port (\d+) .* Redis on port (\d+)").groups()
    _read_until(demo, "acquire")
    sessions = _sessions(tmp_path / "demo")
    demo.send_signal(signal.SIGINT)
    # A second one, from an impatient person, must not break off the ending.
    demo.send_signal(signal.SIGINT)
    _output, errors = demo.communicate()

    assert demo.returncode == 130
    assert "everything that was started has been stopped" in errors
    assert [port for port in ports if listening(int(port))] == []
    assert len(sessions) == 6
    assert [session for session in sessions if session_members(session)] == []
