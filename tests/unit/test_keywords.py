"""Keywords in a process whose log goes to a supervisor, as in a worker: nothing of it passes `sys.stdout`."""

from __future__ import annotations

import json
import subprocess
import sys

from dev.airflow import ROOT

# The logging is set up as Airflow sets it up for the process of a task.
PROCESS = """
import io, json, logging, sys
from airflow.sdk.log import configure_logging
log = io.BytesIO()
configure_logging(json_output=True, output=log, sending_to_supervisor=True)
import structlog
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from iam_watcher.notices import keywords
bound = structlog.get_logger("bound").bind()
bound.info("in use before the task begins")
hook = SubprocessHook()
sys.stdout = printed = io.StringIO()
keywords.begin(["of structlog", "in use", "of the standard library", "of a command", "absent"])
structlog.get_logger("new").info("a line of %s", "structlog")
bound.info("in use since then")
logging.getLogger("mine").warning("%d rows", "no number")
logging.getLogger("mine").warning("a line of %s", "the standard library")
hook.run_command(["echo", "a line of a command"])
found = keywords.end()
bound.info("absent")
again = keywords.end()
sys.stdout = sys.__stdout__
lines = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
print(json.dumps({"found": found, "again": again, "printed": printed.getvalue(), "lines": lines}))
"""


def test_the_loggers_of_a_task() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], cwd=ROOT / "plugins", capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["printed"] == ""
    assert said["found"] == {
        "of structlog": "a line of structlog",
        "in use": "in use since then",
        "of the standard library": "a line of the standard library",
        "of a command": "a line of a command",
    }
    assert said["again"] == {}
    # The log has them all, each once.
    for line in ("a line of structlog", "in use since then", "a line of a command", "absent"):
        assert said["lines"].count(line) == 1
