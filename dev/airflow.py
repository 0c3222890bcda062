"""A private Airflow: its environment, its start and its end.

`make demo`, `make run` and the tests use it; docker-compose.yaml sets the same variables for a cluster. Its
commands, its components and its REST API share one environment and one end, so they are one class: hence the
length.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dev.processes import Process, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

ROOT = Path(__file__).parent.parent

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")

DATABASE = "airflow.db"  # in AIRFLOW_HOME; what `dev.demo` copies
_COMMAND_SECONDS = 300
_STOP_SECONDS = 20
_ANSWER_SECONDS = 120  # an API server beside a busy SQLite can take long
_ARGUMENTS = {
    # The API server reads logs from the same disk: nobody needs these two servers and their ports.
    "scheduler": ["--skip-serve-logs"],
    "triggerer": ["--skip-serve-logs"],
}
_HEALTH_KEYS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


def environment(
    home: Path,
    *,
    deployment_id: str,
    connections: Mapping[str, str] | None = None,
    dags_folders: Sequence[Path] = (ROOT / "dags",),
    options: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the whole environment of a private Airflow: ours, without another Airflow's variables.

    Args:
        home: AIRFLOW_HOME; the metadata database (SQLite) and the logs go there.
        deployment_id: `[iam_watcher] deployment_id`, part of every lock's owner.
        connections: Connection id -> URI.
        dags_folders: Where the DAG files are; the first one is `[core] dags_folder`.
        options: More variables, such as AIRFLOW__CORE__PARALLELISM; they win.
    """
    foreign = ("AIRFLOW_", "_AIRFLOW_")
    bundles = [
        {
            "name": "dags-folder" if number == 0 else f"dags-folder-{number + 1}",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder)},
        }
        for number, folder in enumerate(dags_folders)
    ]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folders[0]),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        # Seconds that one waits for another's write: SQLite's five are too few on a busy machine.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/{DATABASE}?timeout=60",
        "AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID": deployment_id,
        "AIRFLOW__IAM_WATCHER__SETTINGS_FILE": str(ROOT / "include" / "iam-watcher.yaml"),
        **{f"AIRFLOW_CONN_{name.upper()}": uri for name, uri in (connections or {}).items()},
        **(options or {}),
    }


class Airflow:
    """One deployment: its home, its secrets, its commands and its components.

    A context manager; its end ends all components. Several can run beside each other.

    Args:
        home: AIRFLOW_HOME, created if missing.
        deployment_id: As in `environment`.
        connections: As in `environment`.
        dags_folders: As in `environment`.
        options: As in `environment`; they win over the settings of this class too.
        path: Of the base URL, such as "/airflow".
    """

    user = "admin"
    healthy_seconds = 180

    def __init__(
        self,
        home: Path,
        *,
        deployment_id: str,
        connections: Mapping[str, str] | None = None,
        dags_folders: Sequence[Path] = (ROOT / "dags",),
        options: Mapping[str, str] | None = None,
        path: str = "",
    ) -> None:
        self.home = home.absolute()
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{path}"
        self.password = secrets.token_urlsafe(12)
        self.processes: dict[str, Process] = {}
        # Of components that were killed and started again: what they left may still be running.
        self._replaced: list[Process] = []
        self._token = ""
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({self.user: self.password}))
        self.env = environment(
            self.home,
            deployment_id=deployment_id,
            connections=connections,
            dags_folders=dags_folders,
            options={
                "AIRFLOW__API__BASE_URL": self.url,
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": str(self.port),
                "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
                "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
                "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
                "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
                "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "AIRFLOW__CORE__PARALLELISM": "4",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{self.user}:admin",
                "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
                # Seconds until a new file is seen (default 300).
                "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
                # Seconds that a task waits for the API server (default 5, too few on a busy machine).
                "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
                **(options or {}),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def connect(self, **uris: str) -> None:
        """Set connections (id=URI) for the commands and components that start from now on."""
        self.env.update({f"AIRFLOW_CONN_{name.upper()}": uri for name, uri in uris.items()})

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of `airflow <arguments>`."""
        return [sys.executable, "-m", "airflow", *arguments]

    def run(self, *arguments: str) -> str:
        """Run `airflow <arguments>` to its end and return what it printed.

        Raises:
            subprocess.CalledProcessError: It failed; `output` has what it printed.
        """
        done = subprocess.run(
            self.command(*arguments),
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
        )
        return done.stdout.decode(errors="replace")

    def spawn(self, name: str, *arguments: str, options: Mapping[str, str] | None = None) -> Process:
        """Start `airflow <arguments>`, with its output in `<home>/<name>.log`; it ends with us.

        One of that name that was killed is replaced; its orphans live on until `stop`. `options` are
        variables of this process alone.
        """
        return self.spawn_command(name, self.command(*arguments), options=options)

    def spawn_command(
        self,
        name: str,
        command: Sequence[str],
        *,
        options: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start any command as `spawn` does, in AIRFLOW_HOME or another folder."""
        process = Process(
            f"airflow {name}",
            command,
            self.home / f"{name}.log",
            env={**self.env, **(options or {})},
            cwd=cwd or self.home,
            stop_seconds=_STOP_SECONDS,
        )
        if name in self.processes:
            self._replaced.append(self.processes[name])
        self.processes[name] = process
        return process

    def finish(self, process: Process) -> None:
        """Wait until a command that was spawned has ended well.

        Raises:
            ProcessError: It failed, or takes too long; with the end of its log.
        """
        code = process.wait(_COMMAND_SECONDS)
        if code is None:
            raise process.failure(f"is not done after {_COMMAND_SECONDS} s")
        if code:
            raise process.failure(f"ended with exit code {code}")
        process.stop()
        self.processes = {name: other for name, other in self.processes.items() if other is not process}

    def start(self, components: Iterable[str] = COMPONENTS) -> None:
        """Start components; the metadata database must be migrated (`airflow db migrate`)."""
        if (database := self.home / DATABASE).exists():
            with closing(sqlite3.connect(database)) as connection:
                # Its readers and its writer don't wait for each other; the file remembers.
                connection.execute("PRAGMA journal_mode = WAL")
        for component in components:
            self.spawn(component, component, *_ARGUMENTS.get(component, []))

    def wait_healthy(self) -> None:
        """Wait until every started component says that it is healthy.

        Raises:
            ProcessError: One ended, or is not healthy in time; with the end of its log.
        """
        deadline = time.monotonic() + self.healthy_seconds
        while sick := self._not_healthy():
            for process in self.processes.values():
                if not process.running:
                    raise process.failure(f"ended with exit code {process.returncode}")
            if time.monotonic() > deadline:
                raise self.processes[sick[0]].failure(f"is not healthy after {self.healthy_seconds} s")
            time.sleep(0.5)

    def _not_healthy(self) -> list[str]:
        try:
            health = self._call("/api/v2/monitor/health", None, "GET")
        except (OSError, ValueError):
            # Nobody has said that it is healthy. The message names the one that can't be asked.
            return sorted(self.processes, key=lambda name: not name.startswith("api-server"))
        return [
            name
            for name, key in _HEALTH_KEYS.items()
            if name in self.processes and health[key]["status"] != "healthy"
        ]

    def api(self, path: str, body: object = None, *, method: str = "") -> Any:
        """Call the REST API as the admin and return the decoded answer.

        Args:
            path: Below /api/v2, such as "/dags".
            body: Sent as JSON; None sends none.
            method: GET without a body and POST with one, unless given.

        Raises:
            urllib.error.HTTPError: The server refused the call.
        """
        if not self._token:
            login = {"username": self.user, "password": self.password}
            self._token = self._call("/auth/token", login, "POST")["access_token"]
        return self._call(f"/api/v2{path}", body, method or ("GET" if body is None else "POST"))

    def _call(self, path: str, body: object, method: str) -> Any:
        request = urllib.request.Request(  # noqa: S310  our own http address
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310  the same
            text = answer.read()
        return json.loads(text) if text else None

    def stop(self) -> None:
        """End all components and all that they started: SIGTERM to each, SIGKILL to what stays."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.terminate()
        for process in [*self.processes.values(), *self._replaced]:
            process.stop()
        self.processes.clear()
        self._replaced.clear()
