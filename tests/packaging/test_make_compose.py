"""`make compose` with a docker that only notes its calls."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = """#!/bin/sh
echo "$*" >>calls
case "$*" in
"compose version --short") echo "${VERSION}" ;;
"info") [ -z "${NO_ENGINE}" ] || { echo "Cannot connect to the Docker daemon" >&2; exit 1; } ;;
"compose up "*) exit "${UP:-0}" ;;
esac
"""


@pytest.fixture
def compose(tmp_path):
    """A function that runs `make compose` in a copy of what it needs."""
    shutil.copytree(ROOT / "dev" / "compose", tmp_path / "dev" / "compose")
    shutil.copy(ROOT / ".env.example", tmp_path)
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)

    def compose(**variables):
        # Without a PATH of ours, there may be a docker of this machine.
        environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "VERSION": "2.26.1", **variables}
        return subprocess.run(
            [sys.executable, "-m", "dev.compose"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return compose


def _calls(folder):
    return (folder / "calls").read_text().splitlines()


def test_it_waits_for_healthy_services_and_says_how_to_use_them(compose, tmp_path):
    done = compose()
    assert (done.returncode, done.stderr) == (0, "")
    assert _calls(tmp_path)[-1] == "compose up --build --detach --wait --wait-timeout 900"
    secrets = re.findall(r"^\w+=(\S+)$", (tmp_path / ".env").read_text(), re.MULTILINE)
    assert len(secrets) == 9
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert "http://localhost:8080\n" in done.stdout
    assert f"AIRFLOW_ADMIN_PASSWORD in {tmp_path}/.env" in done.stdout
    assert [secret for secret in secrets if len(secret) > 20 and secret in done.stdout] == []


def test_a_second_start_keeps_the_secrets_and_says_their_port(compose, tmp_path):
    compose()
    secrets = (tmp_path / ".env").read_text() + "AIRFLOW_PORT=8090\n"
    (tmp_path / ".env").write_text(secrets)
    done = compose()
    assert (tmp_path / ".env").read_text() == secrets
    assert "is new" not in done.stdout
    assert "http://localhost:8090\n" in done.stdout


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"VERSION": "2.20.0"}, "Docker Compose is 2.20.0, expected 2.23.1 or newer"),
        ({"VERSION": ""}, "`docker compose` does not work"),
        ({"NO_ENGINE": "1"}, "the Docker engine does not answer: Cannot connect to the Docker daemon"),
        ({"PATH": "/nowhere"}, "there is no docker here"),
    ],
)
def test_without_a_docker_that_can_start_it_nothing_is_made(compose, tmp_path, variables, said):
    done = compose(**variables)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / ".env").exists()


def test_services_that_do_not_become_healthy_are_listed(compose, tmp_path):
    done = compose(UP="1")
    assert done.returncode == 1
    assert _calls(tmp_path)[-1] == "compose ps --all"
    assert "not every service became healthy" in done.stderr
