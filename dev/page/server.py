"""An API server and a Redis with the samples: all that the page needs, and no scheduler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dev.airflow import ROOT, Airflow
from dev.migrated import copy_migrated
from dev.servers import Redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS = {"admin": "admin", "user": "user", "viewer": "viewer", "only": "user"}


@contextmanager
def page_server(
    folder: Path, *, copies: int = 0, options: dict[str, str] | None = None, path: str = ""
) -> Iterator[tuple[Airflow, Redis]]:
    """Start them; the samples' locks are held while it goes on.

    Args:
        folder: for all files.
        copies: more watchers.
        options: more variables of Airflow's environment.
        path: of Airflow's base URL, such as "/airflow".
    """
    users = ",".join(f"{name}:{role}" for name, role in USERS.items())
    airflow = Airflow(
        folder / "airflow",
        deployment_id="prod",
        options={"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": users, **(options or {})},
        path=path,
    )
    passwords = folder / "airflow" / "passwords.json"
    passwords.write_text(json.dumps(dict.fromkeys(USERS, airflow.password)))
    paths = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    with airflow, Redis(folder / "redis") as redis:
        airflow.connect(iam_redis=redis.airflow_uri)
        airflow.env["PYTHONPATH"] = paths
        copy_migrated(airflow.home)
        command = [sys.executable, "-m", "dev.page.samples", "--copies", str(copies)]
        done = subprocess.run(
            command, env=airflow.env, cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode:
            raise RuntimeError(done.stdout.decode(errors="replace")[-3000:])
        airflow.start(["api-server"])
        airflow.wait_healthy()
        work(airflow, redis)
        yield airflow, redis


def work(airflow: Airflow, redis: Redis) -> None:
    """Let clean_policy_audit run and another deployment hold a lock, as Redis tells of them."""
    at = (datetime.now(UTC) - timedelta(seconds=12)).isoformat()
    code = (
        "from airflow.utils.session import create_session\n"
        "from datetime import datetime\n"
        "from dev.page.past import add_run\n"
        f"at = datetime.fromisoformat({at!r})\n"
        "with create_session() as session:\n"
        "    print(add_run(session, 'clean_policy_audit', at=at, state='running'))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=airflow.env, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    run_id = done.stdout.strip().splitlines()[-1]
    hold(
        redis, "clean", f"prod/clean_policy_audit/{run_id}", waits=["standby/clean_policy_audit/scheduled__x"]
    )
    progress(redis, "clean", f"prod/clean_policy_audit/{run_id}", task="purge/-1", share=0.62)
    hold(
        redis,
        "sessions",
        "standby/clean_sessions/scheduled__x",
        waits=["a/clean_sessions/x", "b/clean_sessions/x"],
    )


def hold(redis: Redis, key: str, owner: str, *, waits: list[str] | None = None) -> None:
    """Take a lock for an hour, with a waiting queue."""
    from iam_watcher.lock.lease import Lease

    with redis.client() as client:
        Lease(client, key, owner, ttl=3_600).acquire()
        for other in waits or []:
            Lease(client, key, other, ttl=60).queue(time.time() + 3_600)
            # Alive for as long as the samples are looked at.
            client.zadd(f"{{{key}}}:heartbeats", {other: (time.time() + 3_600) * 1_000})


def progress(redis: Redis, key: str, owner: str, *, task: str, share: float) -> None:
    """Write how far the work under a lock is."""
    facts: dict[str, Any] = {
        "owner": owner,
        "task": task,
        "table": "policy_audit",
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        "examined": round(share * 1_000_000),
        "changed": round(share * 502_000),
        "rows_per_second": 61_200.0,
        "share": share,
        "eta_seconds": (1 - share) * 16.3,
    }
    with redis.client() as client:
        client.hset(f"{{{key}}}:progress", task, json.dumps(facts))
        client.persist(f"{{{key}}}:progress")
