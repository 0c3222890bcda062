"""One Airflow cluster: its components, their ports, and whether they are healthy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dev.airflow import ROOT, Airflow
from dev.cluster.settings import cluster_settings
from dev.processes import Process, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dev.postgres import PostgreSQL

API_SERVERS = ("api-server-1", "api-server-2")
SCHEDULERS = ("scheduler-1", "scheduler-2")
WORKERS = ("worker-1", "worker-2")
BALANCER = "balancer"
COMPONENTS = (*API_SERVERS, BALANCER, *SCHEDULERS, "dag-processor", "triggerer", *WORKERS)

_PING_SECONDS = 60
_HEALTH_SECONDS = 10


class Cluster(Airflow):
    """The components of docker-compose.yaml, with two schedulers, two workers and two API servers.

    The API servers are behind a load balancer, whose address is `url`.

    Args:
        home: AIRFLOW_HOME, created if missing.
        deployment_id: `[iam_watcher] deployment_id`.
        postgres: Airflow's database; it must be started.
        broker: The URL of Celery's queue.
        connections: Connection id -> URI.
        dags_folders: Where the DAG files are.
        options: More variables; they win.
        own: Variables of one component alone, by its name.
    """

    healthy_seconds = 400

    def __init__(
        self,
        home: Path,
        *,
        deployment_id: str,
        postgres: PostgreSQL,
        broker: str,
        connections: Mapping[str, str] | None = None,
        dags_folders: Sequence[Path] = (ROOT / "dags",),
        options: Mapping[str, str] | None = None,
        own: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._own = own or {}
        super().__init__(
            home,
            deployment_id=deployment_id,
            connections=connections,
            dags_folders=dags_folders,
            options={
                **cluster_settings(),
                "AIRFLOW__CELERY__BROKER_URL": broker,
                "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{postgres.sqlalchemy_uri}",
                "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CORE__PARALLELISM": "32",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.sqlalchemy_uri,
                # Celery warns about every start as root otherwise.
                "C_FORCE_ROOT": "1",
                **(options or {}),
            },
        )
        self._ports = {name: free_port() for name in (*API_SERVERS, *SCHEDULERS)}

    def start(self, components: Iterable[str] = COMPONENTS) -> None:
        """Start components; the metadata database must be migrated (`airflow db migrate`)."""
        for name in components:
            self.start_one(name)

    def start_one(self, name: str) -> Process:
        """Start a component, also again after its end."""
        kind = name.rstrip("-0123456789")
        if kind == BALANCER:
            ports = [str(self.port), *(str(self._ports[server]) for server in API_SERVERS)]
            command = [sys.executable, "-m", "dev.cluster.balancer", *ports]
            return self.spawn_command(name, command, cwd=ROOT)
        arguments, options = [kind], dict(self._own.get(name, {}))
        match kind:
            case "api-server":
                options["AIRFLOW__API__PORT"] = str(self._ports[name])
            case "scheduler":
                arguments.append("--skip-serve-logs")
                options["AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST"] = "127.0.0.1"
                options["AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT"] = str(self._ports[name])
            case "triggerer":
                arguments.append("--skip-serve-logs")
            case "worker":
                hostname = ("--celery-hostname", _celery_name(name))
                arguments = ["celery", "worker", "--skip-serve-logs", *hostname]
        return self.spawn(name, *arguments, options=options)

    def memory(self) -> int:
        """Return the bytes of memory that all components use; what they share counts once."""
        total = 0
        for process in self.processes.values():
            for pid in process.members():
                with suppress(OSError):  # it has ended meanwhile
                    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                    total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total * 1024

    def _not_healthy(self) -> list[str]:
        addresses = {
            **{name: f"http://127.0.0.1:{self._ports[name]}/api/v2/monitor/health" for name in API_SERVERS},
            **{name: f"http://127.0.0.1:{self._ports[name]}/health" for name in SCHEDULERS},
        }
        sick = [name for name, url in addresses.items() if name in self.processes and not _answers(url)]
        # Each of the others needs an API server, and the ping needs seconds of a core.
        return sick or super()._not_healthy() or self._workers_away()

    def _workers_away(self) -> list[str]:
        wanted = [name for name in WORKERS if name in self.processes]
        answers = {}
        # No JSON: no worker answered. No end: this machine is slow, and the next ping may be faster.
        with suppress(ValueError, subprocess.TimeoutExpired):
            done = subprocess.run(
                [sys.executable, "-m", "celery", "inspect", "ping", "--json", "--timeout", "5"],
                env={**os.environ, "CELERY_BROKER_URL": self.env["AIRFLOW__CELERY__BROKER_URL"]},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_PING_SECONDS,
                check=False,
            )
            answers = json.loads(done.stdout or b"{}")
        return [name for name in wanted if _celery_name(name) not in answers]


def _celery_name(worker: str) -> str:
    return f"{worker}@localhost"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_HEALTH_SECONDS) as answer:  # noqa: S310  our own http address
            return bool(answer.status == 200)  # noqa: PLR2004  HTTP's OK
    except OSError:
        return False
