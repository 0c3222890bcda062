"""`make chaos` in its short form: it holds, and its verdict is red if the code is broken on purpose."""

from __future__ import annotations

import base64
import json
import os
import subprocess

import pytest

from dev.airflow import ROOT
from dev.chaos.place import QUEUE, Place
from dev.chaos.record import left_in_queue
from dev.postgres import PostgreSQL
from dev.servers import Redis

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
        ("claimant", "SIGSTOP of a process_rows task", "row not finished once"),
    ],
)
def test_it_is_red_with_broken_code(tmp_path, broken, faults, what):
    code, last, said = _chaos(tmp_path, SECONDS="120", BREAK=broken, FAULTS=faults)
    assert code == 1, said
    assert last.startswith("verdict: FAILED: "), said
    assert what in last, said


def _message(name):
    """Return the message of a try whose id is its task's name."""
    workload = json.dumps({"ti": {"id": name, "dag_id": "dag", "task_id": name}})
    return json.dumps({"body": base64.b64encode(json.dumps([[workload], {}, {}]).encode()).decode()})


@pytest.mark.e2e
def test_messages_of_tries_that_are_over_are_not_left_over(tmp_path):
    with PostgreSQL(tmp_path / "postgres") as postgres, Redis(tmp_path / "redis") as redis:
        postgres.sql(
            "CREATE TABLE task_instance (id text, state text);"
            " CREATE TABLE task_instance_history (task_instance_id text, state text);"
            " INSERT INTO task_instance VALUES ('done', 'success'), ('waits', 'queued');"
            " INSERT INTO task_instance_history VALUES ('retried', 'failed'), ('odd', 'running')"
        )
        with redis.client(db=QUEUE) as client:
            client.rpush("default", _message("waits"), _message("unknown"))
            client.hset(
                "unacked", mapping={name: f"[{_message(name)}]" for name in ("done", "retried", "odd")}
            )
        place = Place(cluster=None, other=None, postgres=postgres, redis=redis, mariadb=None)
        assert sorted(left_in_queue(place)) == [
            f"a message of dag.{name}" for name in ("odd", "unknown", "waits")
        ]
