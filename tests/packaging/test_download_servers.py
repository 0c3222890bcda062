"""dev/download_servers.sh with an apt that is not the machine's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "dev" / "download_servers.sh"


@pytest.fixture
def download(tmp_path):
    """A function that runs the script, with a program as apt-get."""

    def download(*servers, apt="exit 0"):
        program = tmp_path / "bin" / "apt-get"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho called >>"{tmp_path}/calls"\n{apt}\n')
        program.chmod(0o755)
        environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path)}
        return subprocess.run(
            [SCRIPT, *servers], env=environment, capture_output=True, text=True, check=False
        )

    return download


def test_a_download_that_fails_says_why_and_is_tried_again(download, tmp_path):
    done = download("mysql", apt="echo 'E: no such suite'; exit 100")
    assert done.returncode == 1
    assert "E: no such suite" in done.stderr
    assert "mysql could not be downloaded (the reason is above)" in done.stderr
    assert not (tmp_path / "iam-watcher" / "mysql").exists()
    assert "downloading mysql" in download("mysql", apt="exit 100").stderr


def test_a_server_that_is_there_is_left_alone(download, tmp_path):
    (tmp_path / "iam-watcher" / "mariadb-11.8").mkdir(parents=True)
    done = download("mariadb-11.8")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "calls").exists()


def test_an_unknown_server_is_refused_before_anything_is_downloaded(download, tmp_path):
    done = download("mysql", "oracle")
    assert done.returncode == 1
    assert "there is no server oracle; expected mysql, mariadb-11.8 or docker" in done.stderr
    assert not (tmp_path / "calls").exists()
