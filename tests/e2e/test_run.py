"""`make run` from its first line to Ctrl-C."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from dev.processes import listening
from dev.sessions import session_members, wait_until

ROOT = Path(__file__).parent.parent.parent
WATCHERS = {"disable_inactive_users", "clean_policy_audit", "clean_expired_secrets"}


def _call(url, body=None, token=None):
    request = urllib.request.Request(  # noqa: S310  our own http address
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"}
        | ({"Authorization": f"Bearer {token}"} if token else {}),
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  the same
        return json.load(answer)


def _first_example():
    """Return the complete example of README."""
    return re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]


def _commands_work(said):
    """Run the commands that were printed, and README's example."""
    programs = re.search(r"(\S+)/airflow dags test disable_inactive_users", said)[1]
    printed = re.findall(rf"^  ({programs}/.+)$", said, re.MULTILINE)
    assert len(printed) == 4
    dry_run, locks, mariadb, redis = printed
    example = f"{programs}/airflow dags test clean_old_audit"
    usable = f"{mariadb} --batch --skip-column-names --execute='SELECT COUNT(*) FROM user WHERE status = 1'"
    answers = {
        dry_run: "matched=1240",
        example: "matched=10025",
        locks: "no lock is held",
        usable: "2820",
        f"{redis} ping": "PONG",
    }
    for command, expected in answers.items():
        done = subprocess.run(
            shlex.split(command),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode, expected in done.stdout) == (0, True), done.stdout


@pytest.mark.e2e
def test_run_until_ctrl_c(tmp_path):
    shutil.copytree(ROOT / "dags", tmp_path / "dags")
    command = [
        sys.executable,
        "-m",
        "dev.run",
        "--folder",
        str(tmp_path / "run"),
        "--dags",
        str(tmp_path / "dags"),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as run:
        lines = []
        for line in run.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        said = "".join(lines)
        try:
            assert "healthy after" in said, said
            url = re.search(r"http://127\.0\.0\.1:\d+", said).group()
            account = {
                "username": re.search(r"user +(\S+)", said).group(1),
                "password": re.search(r"password +(\S+)", said).group(1),
            }
            token = _call(f"{url}/auth/token", account)["access_token"]

            def dags():
                found = _call(f"{url}/api/v2/dags", token=token)["dags"]
                # The DAG of dry runs has no schedule, and changes nothing.
                return {
                    dag["dag_id"]: dag["is_paused"] for dag in found if dag["dag_id"] != "dry_run_watcher"
                }

            assert wait_until(lambda: dags().keys() >= WATCHERS, 60, pause=1)
            (tmp_path / "dags" / "clean_old_audit.py").write_text(_first_example())
            assert wait_until(lambda: "clean_old_audit" in dags(), 30, pause=1)
            assert all(dags().values())
            _commands_work(said)
            assert all(dags().values())

            sessions = [int(note.read_text().split()[0]) for note in (tmp_path / "run").rglob("*.process")]
            # MariaDB, Redis and Airflow's four components.
            assert len([session for session in sessions if session_members(session)]) == 6
            ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", said)]
            assert [port for port in ports if not listening(port)] == []
        finally:
            run.send_signal(signal.SIGINT)
            rest = run.communicate()[0]
    assert (run.returncode, rest.strip().splitlines()[-1:]) == (
        0,
        ["Everything that was started has been stopped."],
    )
    assert rest.lstrip().startswith("stopping …")
    assert [port for port in ports if listening(port)] == []
    assert [session for session in sessions if session_members(session)] == []
