"""The Go iam-watcher and these watchers exclude each other, as docs/coming-from-elsewhere.md says how to see.

The Go program takes its lock with `SET key value NX PX ms`, of the library redsync.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.lock.__main__ import main
from tests.dags.runs import states, xcom

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG
    from redis import Redis as Client

    from dev.servers import DatabaseServer, Redis

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "coming-from-elsewhere.md").read_text()
(MINUTE,) = re.findall(r"`redis-cli (set clean .* 60000)`", PAGE)
HOLD = f"{MINUTE}0"  # ten of them: a run on a busy machine takes long


@pytest.fixture
def watcher() -> DAG:
    assert """airflow dags test clean_policy_audit -c '{"dry_run": true}'""" in PAGE
    return DagBag(str(REPO / "dags" / "clean_policy_audit.py")).dags["clean_policy_audit"]


def redis_cli(server: Redis, command: str) -> str:
    program = ["redis-cli", "-h", server.host, "-p", str(server.port), *shlex.split(command)]
    secret = {**os.environ, "REDISCLI_AUTH": server.password}
    return subprocess.run(program, env=secret, capture_output=True, text=True, check=True).stdout.strip()


def test_the_watcher_is_skipped_while_the_go_program_works(
    watcher: DAG,
    run_dag: Callable[..., Any],
    redis_client: Client,
    redis_server: Redis,
    iam_schema: DatabaseServer,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Then it runs."""
    conf = {"dry_run": True, "max_reserve_days": 1}
    assert redis_cli(redis_server, HOLD) == "OK"
    assert redis_client.pttl("clean") > 0
    run = run_dag(watcher, run_conf=conf)
    assert states(run) == {"acquire": "skipped", "purge": "skipped", "release": "skipped", "run": "success"}
    assert "unknown (Go)" in caplog.text
    capsys.readouterr()
    assert main(["show", "clean"]) == 0
    assert "unknown (Go)" in capsys.readouterr().out
    assert redis_client.get("clean") == b"by-hand"
    redis_client.delete("clean")  # as after that minute
    again = run_dag(watcher, run_conf=conf)
    assert states(again)["purge"] == "success"
    assert xcom(again, "purge")["dry_run"] is True


def test_the_go_program_gets_no_lock_while_the_watcher_works(
    watcher: DAG,
    run_dag: Callable[..., Any],
    redis_client: Client,
    redis_server: Redis,
    iam_schema: DatabaseServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = []
    perform = PurgeRowsOperator.perform

    def ask_meanwhile(self: PurgeRowsOperator, context: Any) -> dict[str, Any]:
        answers.append(redis_cli(redis_server, HOLD))
        return perform(self, context)

    monkeypatch.setattr(PurgeRowsOperator, "perform", ask_meanwhile)
    assert states(run_dag(watcher, run_conf={"dry_run": True, "max_reserve_days": 1}))["purge"] == "success"
    assert answers == [""]  # nil: somebody holds it
    assert redis_cli(redis_server, HOLD) == "OK"
