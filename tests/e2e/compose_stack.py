"""The services of docker-compose.yaml in an engine of their own, as a test starts, asks and ends them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import MySQLdb

from dev.airflow import ROOT
from dev.compose.engine import Engine
from dev.compose.env_file import make_env_file, read_env_file
from dev.compose.images import build, make_images
from tests.e2e.deployments import until

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 600.0  # seconds; several Airflow components start at once
URL = "http://localhost:8080"
_RUN_BY_COMPOSE = ("docker-compose.yaml", "Dockerfile", ".dockerignore", ".env.example", "cluster.env")
EXAMPLE = ROOT / "docs" / "examples" / "first-watcher"
_IN_THE_IMAGE = ("pyproject.toml", "constraints.txt", "constraints-cluster.txt", "README.md", "LICENSE")


class Stack:
    """The files of the compose file in a folder of their own, their engine and their services.

    Args:
        folder: For the files, the images and the volumes; it is removed by `remove`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "project"
        self.root.mkdir(parents=True, mode=0o755)
        for name in (*_RUN_BY_COMPOSE, *_IN_THE_IMAGE):
            shutil.copy(ROOT / name, self.root)
        for name in ("dags", "include", "plugins"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        assert make_env_file(self.root)
        self.example = folder / "first-watcher"
        shutil.copytree(EXAMPLE, self.example, ignore=shutil.ignore_patterns("__pycache__"))
        self.secrets = read_env_file(self.root)
        self._token = ""
        self.engine: Engine | None = None

    def start_engine(self, *, own_network: bool) -> Engine:
        engine = Engine(self.folder / "engine", own_network=own_network)
        self.engine = engine.__enter__()
        return engine

    def stop_engine(self) -> None:
        if self.engine is not None:
            self.engine.stop()
            self.engine = None

    def build(self) -> None:
        """Make the images, and that of the example project, with the machine's network."""
        work = self.folder / "build"
        work.mkdir()
        engine = self.start_engine(own_network=False)
        try:
            make_images(engine, self.root, work)
            build(engine, self.root, work, service="init")
            wheel = ["wheel", ROOT, "--no-deps", "--no-build-isolation", "--wheel-dir", self.example]
            subprocess.run([sys.executable, "-m", "pip", *wheel], check=True)
            build(engine, self.example, work, service="airflow")
        finally:
            self.stop_engine()

    def remove(self) -> None:
        self.stop_engine()
        shutil.rmtree(self.folder)

    def compose(self, *arguments: str, text: str | None = None) -> str:
        return self.engine.docker("compose", *arguments, folder=self.root, text=text).stdout

    def up(self, *arguments: str) -> None:
        """Start the services as `make compose` does, without a build, and wait until they are healthy."""
        self._token = ""
        self.compose("up", "--detach", "--wait", "--wait-timeout", f"{PATIENCE:.0f}", *arguments)

    def containers(self) -> list[dict[str, Any]]:
        """Return what `docker compose ps --all` says of each container."""
        return [json.loads(line) for line in self.compose("ps", "--all", "--format", "json").splitlines()]

    def unhealthy(self) -> list[str]:
        """Return the names of the containers that are neither healthy nor `init` after its end."""
        return [
            container["Name"]
            for container in self.containers()
            if container["Health"] != "healthy"
            and (container["Service"], container["State"], container["ExitCode"]) != ("init", "exited", 0)
        ]

    def call(self, path: str, body: object = None, method: str | None = None) -> bytes:
        request = urllib.request.Request(  # noqa: S310  our own http address
            URL + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        with self.engine.network(), urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  the same
            return answer.read()

    def log_in(self) -> None:
        self._token = ""
        account = {"username": "admin", "password": self.secrets["AIRFLOW_ADMIN_PASSWORD"]}
        self._token = json.loads(self.call("/auth/token", account))["access_token"]

    def api(self, path: str, body: object = None, method: str | None = None) -> Any:
        if not self._token:
            self.log_in()
        return json.loads(self.call(f"/api/v2{path}", body, method))

    def unpause(self, dag_id: str) -> None:
        until(lambda: dag_id in [dag["dag_id"] for dag in self.api("/dags")["dags"]], dag_id, PATIENCE)
        self.api(f"/dags/{dag_id}", {"is_paused": False}, "PATCH")

    def trigger(self, dag_id: str) -> str:
        return self.api(f"/dags/{dag_id}/dagRuns", {"logical_date": None})["dag_run_id"]

    def finish(self, dag_id: str, run_id: str) -> str:
        """Wait until a run has ended and return its state."""

        def ended() -> str | None:
            state = self.api(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
            return state if state in {"success", "failed"} else None

        return until(ended, f"{dag_id} {run_id}", PATIENCE)

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return self.api(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]

    def connect(self, database: str = "iam", **options: Any) -> Any:
        """Return a connection of MariaDB's admin, as dev.expectations wants it."""
        name = self.compose("ps", "--quiet", "mariadb").strip()
        address = self.engine.docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name
        ).stdout.strip()
        password = self.secrets["MARIADB_ROOT_PASSWORD"]
        with self.engine.network():
            return MySQLdb.connect(host=address, user="root", password=password, database=database, **options)

    def archived(self) -> list[str]:
        """Return the files of the volume of undo records and archives, with their sizes and checksums."""
        find = "find /opt/airflow/archive -type f -exec sha256sum {} +"
        return sorted(self.compose("exec", "-T", "scheduler", "bash", "-c", find).splitlines())
